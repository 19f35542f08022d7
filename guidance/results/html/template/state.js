"use strict";
/* Draws the report from `content`: groups, runs (settings, points by split), metrics, fronts (by split and pair), panels, missing,
   notes, detail (gallery, strips, boxes; null without nets), claims, look. It computes no front: guidance.results.groups does. Files of users name things: such text enters the page as text only, and
   is escaped for Plotly, which knows some tags. Sections are drawn when they come into view, and again when they change. */

const content = JSON.parse(document.getElementById("content").textContent);
const { groups, runs, metrics, detail, look } = content;
const VALIDATION = "validation", SVG_POINTS = 3000, FEW_CURVES = 12, FEW_RUNS = 6, FEW_ROWS = 6, PLOT_HEIGHT = 400, ABSENT = "–";
const byId = (id) => document.getElementById(id);
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const groupOf = new Map(groups.map((group, i) => [group.name, { ...group, ...style(i) }]));
const runOf = new Map(runs.map((run) => [run.name, run]));
const state = { chosen: new Set(), hidden: new Set(), allCurves: false, allRows: false };

function style(i) {
  const n = look.colours.length;
  const [symbol, glyph] = look.symbols[(i + Math.floor(i / n)) % look.symbols.length];
  return { colour: look.colours[i % n], symbol, glyph, dash: ["solid", "dash", "dot", "dashdot"][i % 4] };
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "style") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const options = (id, pairs, value) => {
  byId(id).replaceChildren(...pairs.map(([key, text]) => make("option", { value: key, selected: key === value }, text)));
};
const faded = (colour, opacity) => colour + Math.round(255 * opacity).toString(16).padStart(2, "0");
const number = (v) => (Math.abs(v) >= 100 ? v.toPrecision(4) : v.toFixed(3));
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const deviation = (values) => {
  if (values.length < 2) return 0;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, v) => sum + (v - middle) ** 2, 0) / (values.length - 1));
};
const label = (name) => (metrics[name] ? metrics[name].label : name);
const axisTitle = (name) => plain(label(name)) + (metrics[name] && metrics[name].higher === false ? " (lower is better)" : "");
const show = (value) => (value === null || value === undefined ? ABSENT : typeof value === "object" ? JSON.stringify(value) : String(value));
const visible = () => runs.filter((run) => !state.hidden.has(run.group));
const last = (name) => name.split(".").pop();

/* A configuration: the runs of a group that differ in nothing but the seed. */
function configurations(spreadOut = false) {
  const found = new Map();
  for (const run of visible()) {
    const own = Object.entries(run.own).filter(([name]) => name !== "seed");
    const key = JSON.stringify([run.group, own]);
    const group = groupOf.get(run.group);
    const text = [group.label, ...own.map(([name, value]) => `${last(name)} ${show(value)}`)].join(", ");
    if (!found.has(key)) found.set(key, { group, label: text, runs: [] });
    found.get(key).runs.push(run);
  }
  const seen = {}; // one of each group first, so that the first few show all groups
  const place = new Map([...found.values()].map((each) => [each, (seen[each.group.name] = (seen[each.group.name] ?? -1) + 1)]));
  return [...found.values()].sort((a, b) => spreadOut * (place.get(a) - place.get(b)));
}

function valueAt(run, split, epoch, metric) {
  const points = run.points[split];
  const at = points ? points.epoch.indexOf(epoch) : -1;
  const column = at >= 0 ? points.values[metric] : undefined;
  return column && column[at] !== null && column[at] !== undefined ? column[at] : NaN;
}

/* The epoch of a run on a split: its last one, or the one with the best value of a metric on validation. */
function epochOf(run, split, rule) {
  const epochs = run.points[split] ? run.points[split].epoch : [];
  if (!epochs.length) return null;
  if (rule === "last") return Math.max(...epochs);
  const sign = metrics[rule] && metrics[rule].higher === false ? -1 : 1;
  let best = null, score = -Infinity;
  for (const epoch of epochs) {
    const value = sign * valueAt(run, VALIDATION, epoch, rule);
    if (value > score) [best, score] = [epoch, value];
  }
  return best;
}

/* --- selection and filters --- */

function toggle(name) {
  if (!state.chosen.delete(name)) state.chosen.add(name);
  changed();
}

function drawFilters() {
  for (const group of groupOf.values()) {
    const box = make("input", { type: "checkbox", checked: true, onchange: (event) => {
      if (event.target.checked) state.hidden.delete(group.name); else state.hidden.add(group.name);
      changed();
    } });
    const key = make("span", { className: "key", "aria-hidden": "true" }, group.glyph);
    key.style.color = group.colour;
    byId("groups").append(make("label", {}, box, key, group.label + (group.baseline ? " (baseline)" : "")));
  }
}

function drawSelection() {
  const chips = [...state.chosen].map((name) =>
    make("button", { type: "button", className: "chip", onclick: () => toggle(name), "aria-label": `Deselect ${name}` }, `${name} ×`));
  const clear = make("button", { type: "button", onclick: () => { state.chosen.clear(); changed(); } }, "Clear selection");
  byId("selection").replaceChildren(...(chips.length ? ["Selected:", ...chips, clear] : []));
}

/* --- tables --- */

function table(heads, rows) {
  const cell = (tag, { text, numeric, ...more }) => make(tag, { className: numeric ? "number" : text === ABSENT ? "absent" : "", ...more }, text);
  return make("table", { className: heads.length > 10 ? "wide" : "" }, make("thead", {}, make("tr", {}, ...heads.map((head) => cell("th", { scope: "col", ...head })))),
    make("tbody", {}, ...rows.map(({ cells, chosen }) => make("tr", { className: chosen ? "chosen" : "" },
      ...cells.map((each, i) => cell(i === 0 ? "th" : "td", i === 0 ? { scope: "row", ...each } : { "data-head": heads[i].text, ...each }))))));
}

function drawTable() {
  const [split, rule] = [byId("table-split").value, byId("table-epoch").value];
  const rows = configurations().map((each) => ({ ...each, at: each.runs.map((run) => [run, epochOf(run, split, rule)]).filter(([, e]) => e !== null) }))
    .filter((each) => each.at.length);
  const values = (each, metric) => each.at.map(([run, epoch]) => valueAt(run, split, epoch, metric)).filter(Number.isFinite);
  const names = Object.keys(metrics).filter((m) => (metrics[m].table || content.fronts.metrics.includes(m)) && rows.some((row) => values(row, m).length));
  const heads = [{ text: "configuration" }, { text: "seeds", numeric: true }, ...names.map((m) => ({ text: label(m) + (metrics[m].higher === false ? " ↓" : ""), numeric: true }))];
  byId("metric-table").replaceChildren(table(heads, rows.map((row) => ({
    chosen: row.runs.some((run) => state.chosen.has(run.name)),
    cells: [{ text: row.label }, { text: String(row.at.length), numeric: true }, ...names.map((m) => {
      const found = values(row, m);
      return { text: !found.length ? ABSENT : number(mean(found)) + (found.length > 1 ? ` ± ${number(deviation(found))}` : ""), numeric: true };
    })] }))));
  byId("table-note").textContent = `Mean ± standard deviation (n - 1) over the seeds of each configuration on ${split}, of `
    + (rule === "last" ? "the last epoch that each run has there." : `the epoch of each run with the best ${label(rule)} on validation.`);
}

function varying() {
  const keys = runs.length ? Object.keys(runs[0].settings) : [];
  return keys.filter((key) => key !== "seed" && runs.some((run) => show(run.settings[key]) !== show(runs[0].settings[key])));
}

function drawRuns() {
  const wanted = byId("run-filter").value.toLowerCase(), keys = varying();
  const lines = visible().map((run) => [run, [run.name, groupOf.get(run.group).label, String(run.seed), ...keys.map((key) => show(run.settings[key]))]])
    .filter(([, cells]) => cells.join(" ").toLowerCase().includes(wanted));
  const rows = lines.map(([run, cells]) => {
    const box = make("input", { type: "checkbox", checked: state.chosen.has(run.name), onchange: () => toggle(run.name), "data-run": run.name });
    return { chosen: state.chosen.has(run.name), cells: [{ text: make("label", {}, box, cells[0]) }, ...cells.slice(1).map((text) => ({ text }))] };
  });
  const focused = document.activeElement && document.activeElement.dataset.run;
  byId("run-table").replaceChildren(table(["run", "group", "seed", ...keys].map((text) => ({ text })), rows));
  if (focused) for (const box of byId("run-table").querySelectorAll("input")) if (box.dataset.run === focused) box.focus();
  const same = runs.length ? Object.keys(runs[0].settings).filter((key) => key !== "seed" && !keys.includes(key)) : [];
  byId("run-note").textContent = `${rows.length} of ${runs.length} runs. The same in all: ${same.map((key) => `${key} ${show(runs[0].settings[key])}`).join(", ") || "nothing"}.`;
}

const VERDICTS = { reproduced: "✓", "not reproduced": "✗", inconclusive: "?", "not run": "–" };

const wasRun = (claim) => claim.verdict !== "not run";

function drawClaims() {
  const wanted = byId("claim-verdict").value, fitting = content.claims.filter((claim) => wanted === "all" || (wanted === "run" ? wasRun(claim) : claim.verdict === wanted));
  const counts = Object.keys(VERDICTS).map((verdict) => `${content.claims.filter((claim) => claim.verdict === verdict).length} ${verdict}`);
  byId("claim-note").textContent = `${content.claims.length} claims: ${counts.join(", ")}. Shown: ${fitting.length}. A claim is never reproduced from one seed.`;
  const list = (lines) => (lines.length ? make("ul", {}, ...lines.map((text) => make("li", {}, text))) : ABSENT);
  const badge = (verdict) => make("span", { className: `verdict ${verdict.replace(" ", "-")}` }, make("span", { "aria-hidden": "true" }, `${VERDICTS[verdict]} `), verdict);
  const small = (text) => make("div", { className: "where" }, text);
  const heads = ["claim", "verdict", "published", "ours", "why"].map((text) => ({ text }));
  byId("claim-table").replaceChildren(table(heads, fitting.map((claim) => ({ cells: [
    { text: make("div", {}, make("strong", {}, claim.claim), ` ${claim.says}`, small(claim.where)) },
    { text: make("div", {}, badge(claim.verdict), ...(wasRun(claim) && claim.scale ? [small(`scale: ${claim.scale}`)] : [])) },
    { text: list(claim.published) }, { text: list(claim.ours) }, { text: claim.reason }] }))));
}
