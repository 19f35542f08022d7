// What the controls do, and the first image.
const ORDER_NAMES = {
  listed: "as listed", least_epg: "least EPG", most_outside: "most energy outside the boxes", least_certain: "least certain", random: "random",
};
const NEED_NET = ["least_epg", "most_outside", "least_certain"];

function fillControls() {
  byId("order").replaceChildren(...set.orders.map(name => make("option", { value: name, "data-net": NEED_NET.includes(name) ? "1" : "0" }, ORDER_NAMES[name])));
  const options = () => set.classes.map((name, label) => make("option", { value: label }, name));
  byId("label").replaceChildren(...options());
  byId("class-filter").append(...options());
  const groups = [...new Set(set.images.map(each => each[1]))].filter(Boolean).sort();
  byId("group-label").hidden = !groups.length;
  byId("group-filter").append(...groups.map(name => make("option", { value: name }, name)));
}

function connect() {
  const does = { previous: () => step(-1), next: () => step(1), new: addInMiddle, delete: removeChosen, undo, redo,
    smaller: () => zoom(0.8), larger: () => zoom(1.25), fit: () => zoom(0), sort: sortList };
  for (const [id, action] of Object.entries(does)) byId(id).addEventListener("click", action);
  byId("label").addEventListener("change", event => setLabel(Number(event.target.value)));
  byId("never").addEventListener("change", toggleNever);
  byId("order").addEventListener("change", sortList);
  for (const id of ["class-filter", "group-filter", "box-filter"]) byId(id).addEventListener("change", filterList);
  byId("list").addEventListener("scroll", () => drawRows(), { passive: true });
  byId("show-images").addEventListener("click", event => {
    event.target.setAttribute("aria-expanded", String(document.body.classList.toggle("listing")));
    drawRows(true);
  });
  const boxes = byId("boxes");
  boxes.addEventListener("pointerdown", startDrag);
  boxes.addEventListener("pointermove", continueDrag);
  boxes.addEventListener("pointerup", endDrag);
  boxes.addEventListener("pointercancel", () => finishDrag(true));
  document.addEventListener("keydown", press);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  window.addEventListener("focus", refresh);
  window.addEventListener("resize", () => { layOut(); drawRows(); });
  new ResizeObserver(layOut).observe(byId("stage"));
  window.addEventListener("beforeunload", event => { if (unsaved.size) event.preventDefault(); });
}

async function begin() {
  const [status, content] = await ask("/api/set");
  if (status !== 200) { showSaved("Not loaded", true); return tell(content.error); }
  Object.assign(set, content);
  fillControls();
  connect();
  await sortList();
  showSaved("Saved");
  if (shown.length) await openImage(shown[0]);
  document.body.dataset.ready = "1";
}
begin();
