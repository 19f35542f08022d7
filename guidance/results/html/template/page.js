/* What is drawn when, and the controls. */

const DRAW = { fronts: drawFronts, claims: drawClaims, curves: drawCurves, metrics: drawTable, gallery: drawGallery, masks: drawMasks, sizes: drawSizes, settings: drawRuns };
const shown = { // in the order of the page
  fronts: true, claims: content.claims.length > 0, curves: true, metrics: true, gallery: Boolean(detail && detail.gallery.rows.length),
  masks: Boolean(detail && Object.keys(detail.strips).length), sizes: Boolean(detail && detail.boxes.labels.length),
  settings: true,
};
const inView = new Set(), stale = new Set(Object.keys(DRAW)), paper = { width: 0 };

function draw(ids) {
  for (const id of ids) if (shown[id] && stale.delete(id)) DRAW[id]();
}

function changed() {
  for (const id of Object.keys(DRAW)) stale.add(id);
  drawSelection();
  draw(inView);
}

function fill() {
  const selectable = Object.keys(metrics).filter((m) => metrics[m].higher !== null).map((m) => [m, label(m)]);
  const every = Object.keys(metrics).map((m) => [m, label(m)]);
  const splits = [...new Set(runs.flatMap((run) => Object.keys(run.points)))].map((split) => [split, split]);
  const names = content.fronts.metrics.filter((m) => metrics[m]);
  const x = names[0] ?? selectable[0]?.[0], y = names[1] ?? selectable.map(([m]) => m).find((m) => m !== x) ?? x;
  options("front-x", selectable, x);
  options("front-y", selectable, y);
  for (const id of ["front-split", "table-split"]) options(id, splits, splits.length > 1 && id === "table-split" ? splits[1][0] : VALIDATION);
  const panels = [...new Set(groups.filter((g) => !g.baseline && content.panels[g.name]).map((g) => content.panels[g.name].panel))];
  options("front-panel", [["all", "all"], ...panels.map((panel) => [panel, panel])], panels.length > 1 ? panels[0] : "all");
  byId("front-panel").parentElement.hidden = panels.length < 2;
  const verdicts = [["all", "all"], ["run", "all that were run"], ...Object.keys(VERDICTS).map((verdict) => [verdict, verdict])];
  options("claim-verdict", verdicts, content.claims.some(wasRun) ? "run" : "all");
  options("curve-metric", every, x);
  options("table-epoch", [["last", "last"], ...names.map((m) => [m, `best ${label(m)} on validation`])], "last");
  if (!detail) return;
  const { gallery } = detail, worst = gallery.worst === null ? [] : [["worst", `worst group only (${gallery.groups[gallery.worst]}, accuracy ${number(gallery.worst_accuracy)})`]];
  const present = gallery.groups.map((name, i) => [String(i), name]).filter(([i]) => gallery.rows.some((row) => row.group === Number(i)));
  options("gallery-group", [["all", "all"], ...worst, ...present], "all");
  options("mask-run", Object.keys(detail.strips).map((name) => [name, name]));
  options("size-score", Object.keys(Object.values(detail.boxes.runs)[0] ?? {}).map((score) => [score, label(score)]), "epg");
}

function start() {
  fill();
  drawFilters();
  document.querySelector(".ramp").style.background = look.ramp;
  const missing = content.missing.length ? ` ${content.missing.length} planned run(s) have nothing to show yet: ${content.missing.slice(0, 5).join(", ")}${content.missing.length > 5 ? " …" : ""}.` : "";
  byId("summary").textContent = `${runs.length} runs in ${groups.length} groups.${missing}`;
  byId("notes").hidden = !content.notes.length;
  byId("note-list").replaceChildren(...content.notes.map((note) => make("li", {}, note)));
  for (const [id, is] of Object.entries(shown)) {
    byId(id).hidden = !is;
    if (is) byId("contents").append(make("li", {}, make("a", { href: `#${id}` }, byId(`${id}-title`).textContent)));
  }
  const redraw = (id) => () => { stale.add(id); draw([id]); };
  for (const section of document.querySelectorAll("section")) for (const control of section.querySelectorAll("select, input[type=search]")) control.addEventListener("input", redraw(section.id));
  byId("curve-all").addEventListener("click", () => { state.allCurves = !state.allCurves; redraw("curves")(); });
  byId("gallery-more").addEventListener("click", () => { state.allRows = !state.allRows; redraw("gallery")(); });
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) inView.add(target.id); else inView.delete(target.id);
    draw(inView);
  }, { rootMargin: "300px" });
  for (const id of Object.keys(DRAW)) observer.observe(byId(id));
  addEventListener("beforeprint", () => { byId("notes").open = true; paper.width = 680; Object.keys(DRAW).forEach((id) => stale.add(id)); draw(Object.keys(DRAW)); });
  addEventListener("afterprint", () => { paper.width = 0; changed(); });
}

start();
