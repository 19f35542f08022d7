/* Fronts, curves and box plots. */

/* What guidance.results.html.fronts found of two metrics on a split, in the order that is asked for; null where there is nothing. */
function frontsOf(split, x, y) {
  const pairs = content.fronts.splits[split] ? content.fronts.splits[split].pairs : [];
  const found = pairs.find((pair) => pair.x === x && pair.y === y);
  if (found) return found;
  const back = pairs.find((pair) => pair.x === y && pair.y === x);
  if (!back) return null;
  const mirrored = Object.entries(back.groups).map(([name, each]) => [name, { ...each, surfaces: each.surfaces.map((corners) => corners.map(([a, b]) => [b, a]).reverse()) }]);
  return { x, y, groups: Object.fromEntries(mirrored), baselines: back.baselines.map((each) => ({ ...each, x: each.y, y: each.x })) };
}

/* The groups of a panel, without baselines unless there is nothing else: these are crosses. */
function drawnGroups() {
  const panel = byId("front-panel").value, there = [...groupOf.values()].filter((group) => !state.hidden.has(group.name));
  const inside = there.filter((group) => panel === "all" || (content.panels[group.name] && content.panels[group.name].panel === panel));
  const guided = inside.filter((group) => !group.baseline);
  return guided.length ? guided : inside;
}

function crossesOf(fronts, drawn) {
  const there = (fronts ? fronts.baselines : []).filter((each) => !state.hidden.has(each.group) && each.x[0] !== null && each.y[0] !== null);
  if (byId("front-panel").value === "all" || !drawn.length) return there;
  return there.filter((each) => content.panels[each.group].explained === content.panels[drawn[0].name].explained);
}

function collect(group, split, x, y) {
  const found = [];
  for (const run of runs) {
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

function axisRange(values, metric) {
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const pad = 0.08 * (high - low) || 0.05;
  return metrics[metric].higher === false ? [high + pad, low - pad] : [low - pad, high + pad]; // better is right and up
}

/* The stairs around what lies below the corners in both metrics, from the worst of one to the worst of the other. */
function stairs(corners, [left, low]) {
  if (!corners.length) return [[left, low]];
  const path = [[left, corners[0][1]]];
  corners.forEach(([a, b], i) => { path.push([a, b]); path.push([a, i + 1 < corners.length ? corners[i + 1][1] : low]); });
  return path;
}

const line = (path) => ({ x: path.map((p) => p[0]), y: path.map((p) => p[1]) });

function surfaceTraces(group, front, corner) {
  const bounds = front.surfaces.map((corners) => stairs(corners, corner)), traces = [];
  const common = { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: group.name };
  if (bounds.length === 3) traces.push({ ...common, ...line([...bounds[0], ...bounds[2].reverse()]), fill: "toself", fillcolor: faded(group.colour, 0.13), line: { width: 0 } });
  return [...traces, { ...common, ...line(bounds[Math.min(1, bounds.length - 1)]), line: { color: group.colour, width: 1.8, dash: group.dash } }];
}

function pointTraces(clouds, fronts, split, x, y) {
  const total = clouds.reduce((sum, [, points]) => sum + points.length, 0);
  const fast = total > SVG_POINTS && hasWebGL();
  const step = total > SVG_POINTS && !fast ? Math.ceil(total / SVG_POINTS) : 1;
  const traces = [];
  for (const [group, points] of clouds) {
    const common = { mode: "markers", hoverinfo: "none", name: plain(group.label), legendgroup: group.name };
    traces.push({ ...common, ...marks(points.filter((_, i) => i % step === 0)), type: fast ? "scattergl" : "scatter", showlegend: false,
      marker: { color: group.colour, symbol: group.symbol, size: 7, opacity: total > SVG_POINTS ? 0.15 : 0.3 } });
    const members = fronts && fronts.groups[group.name] ? fronts.groups[group.name].members : [];
    const front = members.map(([name, epoch]) => ({ run: name, epoch, x: valueAt(runOf.get(name), split, epoch, x), y: valueAt(runOf.get(name), split, epoch, y) }));
    traces.push({ ...common, ...marks(front), type: "scatter", marker: { color: group.colour, symbol: group.symbol, size: 11, line: { color: "#1b1b1b", width: 1 } } });
  }
  return { traces, total, step };
}

function crossTrace(cross) {
  const name = plain(groupOf.get(cross.group).label), bar = (deviation) => ({ type: "data", array: [deviation ?? 0], visible: deviation !== null, color: "#1b1b1b" });
  return { x: [cross.x[0]], y: [cross.y[0]], type: "scatter", mode: "markers", name: /baseline/i.test(name) ? name : `${name} (baseline)`, error_x: bar(cross.x[1]), error_y: bar(cross.y[1]),
    hovertemplate: `${name}<br>mean of ${cross.seeds} seed(s)<br>%{x:.3f}, %{y:.3f}<extra></extra>`, marker: { symbol: "x", size: 13, color: "#fff", line: { color: "#1b1b1b", width: 2 } } };
}

function regions(cross, xs, ys) {
  const area = (x1, y1, fillcolor) => ({ type: "rect", x0: cross.x[0], x1, y0: cross.y[0], y1, fillcolor, line: { width: 0 }, layer: "below" });
  const note = (text, x, y, xanchor, yanchor) => ({ text, x, y, xanchor, yanchor, showarrow: false, font: { size: 11, color: "#444" } });
  return { shapes: [area(xs[1], ys[1], look.better), area(xs[0], ys[0], look.worse)],
    annotations: [note("better than the baseline in both", xs[1], ys[1], "right", "top"), note("worse in both", xs[0], ys[0], "left", "bottom")] };
}

function drawFronts() {
  const [x, y, split] = ["front-x", "front-y", "front-split"].map((id) => byId(id).value);
  const fronts = frontsOf(split, x, y), drawn = drawnGroups(), crosses = crossesOf(fronts, drawn);
  const clouds = drawn.map((group) => [group, collect(group.name, split, x, y)]).filter(([, points]) => points.length);
  const { traces, total, step } = pointTraces(clouds, fronts, split, x, y);
  const all = clouds.flatMap(([, points]) => points), chosen = all.filter((p) => state.chosen.has(p.run));
  const xs = axisRange([...all.map((p) => p.x), ...crosses.map((p) => p.x[0])], x), ys = axisRange([...all.map((p) => p.y), ...crosses.map((p) => p.y[0])], y);
  const bounds = clouds.flatMap(([group]) => (fronts && fronts.groups[group.name] ? surfaceTraces(group, fronts.groups[group.name], [xs[0], ys[0]]) : []));
  if (chosen.length) {
    traces.push({ ...marks(chosen), type: "scatter", mode: "markers", hoverinfo: "none", name: "selected",
      marker: { symbol: "circle-open", size: 17, color: "#1b1b1b", line: { width: 2 } } });
  }
  const areas = crosses.length === 1 ? regions(crosses[0], xs, ys) : { shapes: [], annotations: [] };
  byId("front-note").textContent = `${total} points of ${new Set(all.map((p) => p.run)).size} runs. ${frontNotes(fronts, crosses, split, step).join(" ")}`;
  plot("front-plot", [...bounds, ...traces, ...crosses.map(crossTrace)], { ...areas, hovermode: "closest", xaxis: { title: { text: axisTitle(x) }, range: xs }, yaxis: { title: { text: axisTitle(y) }, range: ys } },
    `Scatter plot of ${label(y)} over ${label(x)} on ${split}; the table of metrics has the numbers`);
  listen(byId("front-plot"));
}

function frontNotes(fronts, crosses, split, step) {
  const { together, metrics: selected, resolution, splits, notes } = content.fronts, told = [...notes, ...(splits[split] ? splits[split].notes : [])], out = [];
  const names = together ? selected.map(label).join(", ") : "these two metrics, since not all runs select by the same ones";
  if (fronts) out.push(`A front is selected on validation over ${names}, in steps of ${resolution}${split === VALIDATION ? "" : `, and shown with its values on ${split}`}.`);
  else out.push(`There is no front of these two metrics here; fronts are over ${selected.map(label).join(", ")}.`);
  if (crosses.length) out.push(`The cross is the baseline: the mean (and s.d.) over its seeds, of each the epoch with the best ${label(crosses[0].by)} on validation.`);
  if (step > 1) out.push(`This browser has no WebGL: of the faint points every ${step}th is drawn.`);
  if (split !== VALIDATION) out.push(`On ${split} there are only the epochs that were evaluated there.`);
  return [...out, ...told.slice(0, 4).map((note) => `${note}.`), ...(told.length > 4 ? [`And ${told.length - 4} more notes of this kind.`] : [])];
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
  const shown = Object.keys(metrics).filter((m) => metrics[m].table || content.fronts.metrics.includes(m));
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
