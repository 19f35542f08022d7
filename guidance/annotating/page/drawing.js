// The image with its boxes: drawing, moving and resizing with a pointer of any kind.
const SVG = "http://www.w3.org/2000/svg";
const HANDLES = [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2], [1, 2], [0, 2], [0, 1]];  // columns and rows of a box's corners and sides
const CURSORS = ["nwse", "ns", "nesw", "ew", "nwse", "ns", "nesw", "ew"];
const drawn = new Map();  // uid -> g
let scale = 1;  // screen pixels per image pixel
let fitted = true;
let drag = null;  // {kind: draw | move | size, start: [x, y], box, handle, pointer, moved}
const dragging = () => drag !== null;

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Size of the image on the screen.
function layOut() {
  if (!view) return;
  const stage = byId("stage"), [height, width] = view.size, room = 20;
  if (fitted) scale = Math.max(0.01, Math.min((stage.clientWidth - room) / width, (stage.clientHeight - room) / height));
  byId("canvas").style.width = `${width * scale}px`;
  byId("canvas").style.height = `${height * scale}px`;
  byId("image").classList.toggle("pixels", scale >= 4);
  byId("boxes").setAttribute("viewBox", `0 0 ${width} ${height}`);
  drawBoxes();
}

function zoom(by) {
  fitted = by === 0;
  if (by) scale = clamp(scale * by, 0.05, 40);
  layOut();
}

function drawAll() {
  drawBoxes();
  listBoxes();
  const box = chosenBox();
  if (box) byId("label").value = String(box.label);
  byId("never").checked = box ? box.never : neverNext;
  byId("delete").disabled = !box;
  byId("undo").disabled = !view || !past().undo.length;
  byId("redo").disabled = !view || !past().redo.length;
  showPosition();
}

function showPosition() {
  byId("previous").disabled = positionInList() <= 0;
  byId("next").disabled = positionInList() >= shown.length - 1;
  if (!view) return;
  const [name, group] = set.images[view.number], labels = view.labels.map(label => set.classes[label]);
  const parts = [name, labels.join(", "), group, positionInList() >= 0 ? `${positionInList() + 1} of ${shown.length}` : ""];
  byId("caption").textContent = parts.filter(Boolean).join(" · ");
}

function drawBoxes() {
  if (!view) return;
  const boxes = drag?.kind === "draw" && drag.moved ? [...view.boxes, { uid: "new", ...drag.entry }] : view.boxes;
  for (const [uid, group] of drawn) if (!boxes.some(each => each.uid === uid)) { group.remove(); drawn.delete(uid); }
  for (const each of boxes) {
    if (!drawn.has(each.uid)) drawn.set(each.uid, byId("boxes").appendChild(makeGroup(each.uid)));
    drawBox(drawn.get(each.uid), each);
  }
}

function makeGroup(uid) {
  const group = shape("g", { tabindex: 0, role: "button", "data-uid": uid });
  for (const [tag, name] of [["rect", "fill"], ["rect", "halo"], ["rect", "edge"], ["path", "cross"], ["text", "name"]]) {
    group.append(shape(tag, { class: name }));
  }
  group.addEventListener("focus", () => { if (chosen !== uid) { chosen = uid; drawAll(); } });
  return group;
}

function drawBox(group, { uid, label, box: [x0, y0, x1, y1], never }) {
  const active = uid === chosen || uid === "new", [fill, halo, edge, cross, text] = group.children;
  group.setAttribute("class", `${never ? "never" : "allowed"}${active ? " chosen" : ""}`);
  group.setAttribute("aria-label", describeBox({ label, box: [x0, y0, x1, y1], never }));
  group.setAttribute("aria-pressed", String(active));
  for (const rect of [fill, halo, edge]) {
    rect.setAttribute("x", x0); rect.setAttribute("y", y0);
    rect.setAttribute("width", Math.max(0, x1 - x0)); rect.setAttribute("height", Math.max(0, y1 - y0));
  }
  cross.setAttribute("d", never ? `M${x0},${y0}L${x1},${y1}M${x1},${y0}L${x0},${y1}` : "");
  text.textContent = never ? `never ${set.classes[label]}` : set.classes[label];
  text.setAttribute("x", x0 + 4 / scale);
  text.setAttribute("y", y0 * scale > 20 ? y0 - 6 / scale : y0 + 18 / scale);
  text.setAttribute("font-size", 13 / scale);
  text.setAttribute("stroke-width", 3);
  while (group.children.length > 5) group.lastChild.remove();
  if (active) for (const [column, row] of HANDLES) {
    group.append(shape("circle", { cx: [x0, (x0 + x1) / 2, x1][column], cy: [y0, (y0 + y1) / 2, y1][row], r: 5 / scale }));
  }
}

function describeBox({ label, box, never }) {
  const [x0, y0, x1, y1] = box.map(Math.round);
  return `${never ? "never " : ""}${set.classes[label]}, ${x1 - x0} × ${y1 - y0} at ${x0}, ${y0}`;
}

function listBoxes() {
  byId("box-list").replaceChildren(...(view?.boxes || []).map(each => {
    const button = make("button", {}, describeBox(each) + (each.outlined ? ", with an outline" : ""));
    button.addEventListener("click", () => choose(each.uid));
    return make("li", { class: `${each.never ? "never" : ""}${each.uid === chosen ? " chosen" : ""}` }, button);
  }));
}

function choose(uid) {
  chosen = uid;
  drawAll();
  if (uid === null) byId("stage").focus({ preventScroll: true });
  else drawn.get(uid)?.focus({ preventScroll: true });
}

function place(event) {
  const frame = byId("canvas").getBoundingClientRect(), [height, width] = view.size;
  return [clamp((event.clientX - frame.left) / frame.width * width, 0, width), clamp((event.clientY - frame.top) / frame.height * height, 0, height)];
}

const contains = ({ box: [x0, y0, x1, y1] }, [x, y], by = 0) => x >= x0 - by && x <= x1 + by && y >= y0 - by && y <= y1 + by;

// Which handle of the chosen box is under the pointer; a finger needs more room than a mouse.
function handleAt([x, y], reach) {
  const box = chosenBox();
  if (!box) return -1;
  const [x0, y0, x1, y1] = box.box;
  const far = HANDLES.map(([c, r]) => Math.max(Math.abs(x - [x0, (x0 + x1) / 2, x1][c]), Math.abs(y - [y0, (y0 + y1) / 2, y1][r])));
  const nearest = far.indexOf(Math.min(...far));
  return far[nearest] <= reach ? nearest : -1;
}

function startDrag(event) {
  if (!view || event.button > 0 || !event.isPrimary) return;
  event.preventDefault();
  byId("stage").focus({ preventScroll: true });
  const start = place(event), handle = event.shiftKey ? -1 : handleAt(start, (event.pointerType === "mouse" ? 8 : 18) / scale);
  const box = chosenBox();
  if (handle >= 0) drag = { kind: "size", handle, box: [...box.box] };
  else if (box && !event.shiftKey && contains(box, start)) drag = { kind: "move", box: [...box.box] };
  else drag = { kind: "draw", entry: { label: Number(byId("label").value), never: neverNext, box: [...start, ...start] } };
  Object.assign(drag, { start, pointer: event.pointerId, moved: false, from: [event.clientX, event.clientY] });
  byId("boxes").setPointerCapture(event.pointerId);
}

function continueDrag(event) {
  if (!drag) return showCursor(event);
  if (event.pointerId !== drag.pointer) return;
  if (Math.hypot(event.clientX - drag.from[0], event.clientY - drag.from[1]) >= 4) drag.moved = true;
  if (!drag.moved) return;
  const [x, y] = place(event), [dx, dy] = [x - drag.start[0], y - drag.start[1]];
  if (drag.kind === "draw") {
    drag.entry.box = [Math.min(x, drag.start[0]), Math.min(y, drag.start[1]), Math.max(x, drag.start[0]), Math.max(y, drag.start[1])];
    drawBoxes();
  } else drawBox(drawn.get(chosen), { ...chosenBox(), box: drag.now = drag.kind === "move" ? moved(drag.box, dx, dy) : sized(drag.box, drag.handle, dx, dy) });
}

function finishDrag(give_up = false) {
  if (!drag) return;
  const done = drag;
  drag = null;
  if (give_up || !done.moved) { drawBoxes(); return; }
  if (done.kind === "draw") {
    const box = rounded(done.entry.box);
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) add({ ...done.entry, box }); else drawBoxes();
  } else if (done.now) replaceChosen({ box: rounded(done.now) });
}

// A click without a drag chooses the smallest box there.
function click(event) {
  const at = place(event), area = ({ box: [x0, y0, x1, y1] }) => (x1 - x0) * (y1 - y0);
  const found = view.boxes.filter(each => contains(each, at, 4 / scale)).sort((a, b) => area(a) - area(b));
  choose(found.length ? found[(found.findIndex(each => each.uid === chosen) + 1) % found.length].uid : null);
}

function endDrag(event) {
  if (!drag || event.pointerId !== drag.pointer) return;
  const still = !drag.moved;
  finishDrag();
  if (still) click(event);
}

function showCursor(event) {
  const at = view ? place(event) : [0, 0], handle = handleAt(at, 8 / scale), box = chosenBox();
  byId("boxes").style.cursor = handle >= 0 ? `${CURSORS[handle]}-resize` : box && contains(box, at) ? "move" : "crosshair";
}

// Boxes lie on tenths of a pixel, and within the image.
function rounded(box) {
  const [height, width] = view.size;
  return box.map((value, i) => clamp(Math.round(value * 10) / 10, 0, i % 2 ? height : width));
}

function moved([x0, y0, x1, y1], dx, dy) {
  const [height, width] = view.size;
  dx = clamp(dx, -x0, width - x1);
  dy = clamp(dy, -y0, height - y1);
  return [x0 + dx, y0 + dy, x1 + dx, y1 + dy];
}

function sized([x0, y0, x1, y1], handle, dx, dy) {
  const [column, row] = HANDLES[handle], [height, width] = view.size;
  if (column === 0) x0 = clamp(x0 + dx, 0, x1 - 1);
  if (column === 2) x1 = clamp(x1 + dx, x0 + 1, width);
  if (row === 0) y0 = clamp(y0 + dy, 0, y1 - 1);
  if (row === 2) y1 = clamp(y1 + dy, y0 + 1, height);
  return [x0, y0, x1, y1];
}

function add(entry) {
  const uid = ++counter;
  change([...view.boxes, { outlined: false, ...entry, uid }]);
  choose(uid);
}

function replaceChosen(changes) {
  if (chosenBox()) change(view.boxes.map(each => each.uid === chosen ? { ...each, ...changes } : each));
}

function addInMiddle() {
  if (!view) return;
  const [height, width] = view.size;
  add({ label: Number(byId("label").value), never: neverNext, box: rounded([width / 3, height / 3, 2 * width / 3, 2 * height / 3]) });
}

function removeChosen() {
  if (!chosenBox()) return;
  change(view.boxes.filter(each => each.uid !== chosen));
  choose(null);
}
