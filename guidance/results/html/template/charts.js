/* Fronts, curves and box plots. */

const turned = (metric, value) => (metrics[metric].higher === false ? -value : value);

function toGrid(value) { // to the nearest multiple of the resolution, halves to even, as in guidance.runs.pareto
  const scaled = content.front.resolution > 0 ? value / content.front.resolution : value;
  if (content.front.resolution <= 0) return scaled;
  const rounded = Math.round(scaled);
  return Math.abs(scaled - Math.trunc(scaled)) === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/* Places of the points [[x, y], ...] (larger is better) that no other dominates on the grid; of equal ones the first. */
function nonDominated(points) {
  const grid = points.map(([x, y], i) => [toGrid(x), toGrid(y), i]);
  grid.sort((a, b) => b[0] - a[0] || b[1] - a[1] || a[2] - b[2]);
  let best = -Infinity;
  const kept = [];
  for (const [, y, i] of grid) if (y > best) { best = y; kept.push(i); }
  return kept.sort((a, b) => a - b);
}

function collect(group, split, x, y) {
  const found = [];
  for (const run of visible()) {
    const points = run.points[split];
    if (run.group !== group || !points || !points.values[x] || !points.values[y]) continue;
    points.epoch.forEach((epoch, i) => {
      const [a, b] = [points.values[x][i], points.values[y][i]];
      if (a !== null && b !== null) found.push({ run: run.name, epoch, x: a, y: b });
    });
  }
  return found;
}

const marks = (points) => ({ x: points.map((p) => p.x), y: points.map((p) => p.y), customdata: points.map((p) => [p.run, p.epoch]) });

function hasWebGL() {
  try { return Boolean(document.createElement("canvas").getContext("webgl")); } catch { return false; }
}

function baselinePoint(group, split, x, y) {
  const rule = content.front.metrics[0];
  const found = visible().filter((run) => run.group === group.name).map((run) => {
    const epoch = epochOf(run, split, rule);
    return epoch === null ? [NaN, NaN] : [valueAt(run, split, epoch, x), valueAt(run, split, epoch, y)];
  }).filter(([a, b]) => Number.isFinite(a) && Number.isFinite(b));
  const [xs, ys] = [found.map((p) => p[0]), found.map((p) => p[1])];
  return found.length ? { x: mean(xs), y: mean(ys), dx: deviation(xs), dy: deviation(ys), count: found.length } : null;
}

function axisRange(values, metric) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const pad = 0.08 * (high - low) || 0.05;
  return metrics[metric].higher === false ? [high + pad, low - pad] : [low - pad, high + pad]; // better is right and up
}

function frontTraces(split, x, y) {
  const clouds = [...groupOf.values()].map((group) => [group, collect(group.name, split, x, y)]);
  const total = clouds.reduce((sum, [, points]) => sum + points.length, 0);
  const fast = total > SVG_POINTS && hasWebGL();
  const step = total > SVG_POINTS && !fast ? Math.ceil(total / SVG_POINTS) : 1;
  const traces = [], all = [];
  for (const [group, points] of clouds) {
    if (!points.length) continue;
    all.push(...points);
    const kept = nonDominated(points.map((p) => [turned(x, p.x), turned(y, p.y)])).map((i) => points[i]);
    kept.sort((a, b) => turned(x, a.x) - turned(x, b.x));
    const faint = points.filter((_, i) => i % step === 0);
    const common = { mode: "markers", hoverinfo: "none", name: plain(group.label), legendgroup: group.name };
    traces.push({ ...common, ...marks(faint), type: fast ? "scattergl" : "scatter", showlegend: false,
      marker: { color: group.colour, symbol: group.symbol, size: 7, opacity: total > SVG_POINTS ? 0.15 : 0.3 } });
    traces.push({ ...common, ...marks(kept), type: "scatter", mode: "lines+markers",
      line: { color: group.colour, width: 1.2, dash: "dot", shape: "vh" },
      marker: { color: group.colour, symbol: group.symbol, size: 11, line: { color: "#1b1b1b", width: 1 } } });
  }
  const chosen = all.filter((p) => state.chosen.has(p.run));
  if (chosen.length) {
    traces.push({ ...marks(chosen), type: "scatter", mode: "markers", hoverinfo: "none", name: "selected",
      marker: { symbol: "circle-open", size: 17, color: "#1b1b1b", line: { width: 2 } } });
  }
  return { traces, all, step };
}

function drawFronts() {
  const [x, y, split] = ["front-x", "front-y", "front-split"].map((id) => byId(id).value);
  const { traces, all, step } = frontTraces(split, x, y);
  const shapes = [], annotations = [], notes = [];
  const crosses = groups.filter((g) => g.baseline && !state.hidden.has(g.name))
    .map((g) => [g, baselinePoint(g, split, x, y)]).filter(([, p]) => p);
  const xs = axisRange([...all.map((p) => p.x), ...crosses.map(([, p]) => p.x)], x);
  const ys = axisRange([...all.map((p) => p.y), ...crosses.map(([, p]) => p.y)], y);
  for (const [group, p] of crosses) {
    traces.push({ x: [p.x], y: [p.y], type: "scatter", mode: "markers", name: `mean of ${plain(group.label)}`,
      hovertemplate: `${plain(group.label)}<br>mean of ${p.count} run(s)<br>%{x:.3f}, %{y:.3f}<extra></extra>`,
      error_x: { type: "data", array: [p.dx], visible: p.count > 1, color: "#1b1b1b" },
      error_y: { type: "data", array: [p.dy], visible: p.count > 1, color: "#1b1b1b" },
      marker: { symbol: "cross", size: 15, color: "#1b1b1b", line: { color: "#fff", width: 1 } } });
    if (crosses.length > 1) continue;
    const area = (x1, y1, fillcolor) => shapes.push({ type: "rect", x0: p.x, x1, y0: p.y, y1, fillcolor, line: { width: 0 }, layer: "below" });
    area(xs[1], ys[1], "#0072b214");
    area(xs[0], ys[0], "#00000012");
    const note = (text, at, xanchor, yanchor) => annotations.push({ text, x: at[0], y: at[1], xanchor, yanchor, showarrow: false, font: { size: 11, color: "#444" } });
    note("better than the baseline in both", [xs[1], ys[1]], "right", "top");
    note("worse in both", [xs[0], ys[0]], "left", "bottom");
  }
  if (crosses.length) notes.push(`The cross is the baseline: the mean (and s.d.) over its runs of the epoch with the best ${label(content.front.metrics[0])} on validation.`);
  if (!all.length) notes.push("No run that is shown has both metrics on this split.");
  if (step > 1) notes.push(`This browser has no WebGL: of the faint points every ${step}th is drawn; fronts are those of all points.`);
  if (split !== VALIDATION) notes.push(`On ${split} there are only the epochs that were evaluated there.`);
  byId("front-note").textContent = `${all.length} points of ${new Set(all.map((p) => p.run)).size} runs; resolution ${content.front.resolution}. ${notes.join(" ")}`;
  plot("front-plot", traces, { shapes, annotations, hovermode: "closest", xaxis: { title: { text: axisTitle(x) }, range: xs }, yaxis: { title: { text: axisTitle(y) }, range: ys } },
    `Scatter plot of ${label(y)} over ${label(x)} on ${split}; the table of metrics has the numbers`);
  listen(byId("front-plot"));
}

function listen(element) {
  if (element.dataset.listens) return;
  element.dataset.listens = "yes";
  element.on("plotly_click", (event) => { const data = event.points[0].customdata; if (data) toggle(data[0]); });
  element.on("plotly_hover", (event) => { const data = event.points[0].customdata; if (data) showTip(...data, event.event); });
  element.on("plotly_unhover", () => { byId("tip").hidden = true; });
}

function showTip(name, epoch, event) {
  const run = runOf.get(name), split = byId("front-split").value, tip = byId("tip");
  const shown = Object.keys(metrics).filter((m) => metrics[m].table || content.front.metrics.includes(m));
  const found = shown.map((m) => [label(m), valueAt(run, split, epoch, m)]).filter(([, v]) => Number.isFinite(v));
  const own = Object.entries(run.own).length ? Object.entries(run.own) : varying().map((key) => [key, run.settings[key]]);
  const lines = [`${groupOf.get(run.group).label}, seed ${run.seed}, epoch ${epoch} on ${split}${run.saved.includes(epoch) ? ", saved" : ""}`,
    own.slice(0, 8).map(([key, value]) => `${last(key)} ${show(value)}`).join(", "), found.map(([key, v]) => `${key} ${number(v)}`).join(", ")];
  tip.replaceChildren(make("strong", {}, name), ...lines.filter(Boolean).map((line) => make("div", {}, line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 8))}px`;
  tip.style.top = `${event.clientY + box.height + 20 > innerHeight ? Math.max(4, event.clientY - box.height - 14) : event.clientY + 14}px`;
}

/* --- curves --- */

function drawCurves() {
  const metric = byId("curve-metric").value;
  const every = configurations(true).filter((c) => c.runs.some((run) => run.points[VALIDATION].values[metric]));
  const few = state.allCurves ? every : every.slice(0, FEW_CURVES);
  const dashes = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"], traces = [], used = {};
  const longest = Math.max(0, ...few.flatMap((each) => each.runs.map((run) => Math.max(...run.points[VALIDATION].epoch))));
  for (const each of few) {
    const epochs = [...new Set(each.runs.flatMap((run) => run.points[VALIDATION].epoch))].sort((a, b) => a - b);
    const rows = epochs.map((e) => each.runs.map((run) => valueAt(run, VALIDATION, e, metric)).filter(Number.isFinite));
    const x = epochs.filter((_, i) => rows[i].length), full = rows.filter((row) => row.length);
    const middle = full.map(mean), spread = full.map(deviation), colour = each.group.colour;
    const dash = dashes[(used[each.group.name] = (used[each.group.name] ?? -1) + 1) % dashes.length];
    if (each.runs.length > 1) {
      const band = { x, type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: each.label };
      traces.push({ ...band, y: middle.map((m, i) => m + spread[i]) });
      traces.push({ ...band, y: middle.map((m, i) => m - spread[i]), fill: "tonexty", fillcolor: faded(colour, 0.15) });
    }
    const name = `${plain(each.label)} (${each.runs.length})`;
    traces.push({ x, y: middle, type: "scatter", mode: x.length > 1 ? "lines" : "markers", name, legendgroup: each.label, line: { color: colour, width: 2, dash },
      text: full.map((row, i) => `± ${number(spread[i])} over ${row.length}`), hovertemplate: `${plain(each.label)}<br>epoch %{x}: %{y:.4f} %{text}<extra></extra>` });
  }
  for (const run of visible().filter((r) => state.chosen.has(r.name) && r.points[VALIDATION].values[metric])) {
    traces.push({ x: run.points[VALIDATION].epoch, y: run.points[VALIDATION].values[metric], type: "scatter", mode: "lines+markers", name: plain(run.name),
      line: { color: "#1b1b1b", width: 3 }, marker: { color: groupOf.get(run.group).colour, size: 8, line: { color: "#1b1b1b", width: 1.5 } } });
  }
  byId("curve-all").hidden = every.length <= FEW_CURVES;
  byId("curve-all").textContent = state.allCurves ? `Show the first ${FEW_CURVES}` : `Show all ${every.length}`;
  byId("curve-note").textContent = `${few.length} of ${every.length} configurations on validation; in brackets, their seeds. Black: selected runs.`;
  plot("curve-plot", traces, { hovermode: "closest", xaxis: { title: { text: "epoch" }, ...(longest <= 12 ? { dtick: 1 } : {}) }, yaxis: { title: { text: axisTitle(metric) } } },
    `Curves of ${label(metric)} over the epochs on validation`);
}

/* --- scores by size --- */

function drawSizes() {
  const score = byId("size-score").value, { boxes } = detail, byRun = byId("size-of").value === "run";
  const series = byRun ? picturedRuns().filter((name) => boxes.runs[name]).map((name, i) => ({ label: name, ...style(i), boxes: boxes.runs[name][score] }))
    : [...groupOf.values()].filter((g) => boxes.groups[g.name] && !state.hidden.has(g.name)).map((g) => ({ ...g, boxes: boxes.groups[g.name][score] }));
  const bins = boxes.labels.map((_, i) => i).filter((i) => series.some((each) => each.boxes[i]));
  const width = 0.8 / Math.max(1, series.length), traces = [];
  series.forEach((each, k) => {
    const at = bins.map((bin, place) => [each.boxes[bin], place + (k + 0.5) * width - 0.4]).filter(([box]) => box);
    const x = at.map(([, place]) => place), column = (name) => at.map(([box]) => box[name]);
    traces.push({ type: "box", x, q1: column("q1"), median: column("median"), q3: column("q3"), lowerfence: column("low"), upperfence: column("high"), width: 0.85 * width,
      name: plain(each.label), legendgroup: String(k), line: { color: "#1b1b1b", width: 1.2 }, fillcolor: each.colour, hoverinfo: "y", whiskerwidth: 0.5 });
    traces.push({ type: "scatter", mode: "markers", x, y: column("mean"), showlegend: false, legendgroup: String(k), text: column("count"),
      hovertemplate: `${plain(each.label)}: mean %{y:.3f} of %{text} pairs<extra></extra>`, marker: { color: "#fff", size: 7, line: { color: "#1b1b1b", width: 1.2 } } });
  });
  const pairs = bins.map((bin) => Math.max(...series.map((each) => (each.boxes[bin] ? each.boxes[bin].count : 0))));
  byId("size-note").textContent = `Rows of ${detail.split} of ${detail.runs.length} of ${runs.length} runs, at the last checkpoint; under each size, the most pairs of a box. `
    + (byRun ? `Runs: those that are selected, or the first ${FEW_RUNS}.` : "Groups: the rows of their runs together.");
  const ticks = { tickvals: bins.map((_, i) => i), ticktext: bins.map((bin, i) => `${boxes.labels[bin]}<br>${pairs[i]}`), range: [-0.6, bins.length - 0.4] };
  plot("size-plot", traces, { xaxis: { title: { text: "share of the image in the mask" }, ...ticks }, yaxis: { title: { text: axisTitle(score) }, rangemode: "tozero" } },
    `Box plots of ${label(score)} by the size of the mask`);
}

function plot(id, traces, layout, text) {
  const axis = { gridcolor: "#e6e6e6", zeroline: false, linecolor: "#777", automargin: true };
  const full = { font: { color: "#1b1b1b", size: 13, family: "system-ui, sans-serif" }, paper_bgcolor: "#fff", plot_bgcolor: "#fff", margin: { l: 55, r: 12, t: 12, b: 50 },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, showlegend: traces.some((t) => t.showlegend !== false), ...layout, xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis } };
  const element = byId(id);
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", text);
  const width = paper.width || element.clientWidth, names = traces.filter((t) => t.showlegend !== false).map((t) => t.name ?? "");
  const lines = Math.ceil(names.reduce((sum, name) => sum + 50 + 7.5 * name.length, 0) / width); // of the legend, above
  element.style.height = `${PLOT_HEIGHT + 21 * lines}px`;
  Object.assign(full, { height: PLOT_HEIGHT + 21 * lines }, paper.width ? { width } : {});
  Plotly.react(element, traces, full, { displayModeBar: false, responsive: true });
}
