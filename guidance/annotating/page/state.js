// What the page knows. `images`: [name, group, classes, number of boxes] by number; `shown`: numbers in the order and under the
// filters of the list; `view`: the image that is open, with `boxes` [{uid, label, box: [x0, y0, x1, y1], never, outlined}].
const token = new URLSearchParams(location.search).get("token") || "";
const set = { classes: [], images: [], orders: [], net: false, displayed: false, title: "" };
let order = [];
let shown = [];
let view = null;
let chosen = null;  // uid of the chosen box
let neverNext = false;  // whether the next box is a "never" box
const keys = new Map();  // uid of a box -> key of its annotation in the file; none before it is saved
const histories = new Map();  // number of an image -> {undo: [boxes], redo: [boxes]}
let counter = 0;

const byId = id => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const withToken = path => `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
const copyBoxes = boxes => boxes.map(each => ({ ...each, box: [...each.box] }));
const chosenBox = () => view && view.boxes.find(each => each.uid === chosen) || null;
const past = () => {
  if (!histories.has(view.number)) histories.set(view.number, { undo: [], redo: [] });
  return histories.get(view.number);
};

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Answers [status, content]; a status of 0 where the server cannot be reached.
async function ask(path, options = {}) {
  try {
    const response = await fetch(path, { ...options, headers: { "X-Token": token, "Content-Type": "application/json" } });
    return [response.status, await response.json()];
  } catch (error) {
    return [0, { error: "the server does not answer; is tools/annotate.py still running?" }];
  }
}

function tell(text) {
  byId("message").textContent = text;
  byId("message").hidden = !text;
}

// Boxes as the server sends them, with uids; those that are known by their key keep theirs.
function fromServer(boxes) {
  const uids = new Map([...keys].map(([uid, key]) => [key, uid]));
  return boxes.map(({ key, label, box, never, outlined }) => {
    let uid = key === null ? undefined : uids.get(key);
    if (uid === undefined) {
      uid = ++counter;
      if (key !== null) keys.set(uid, key);
    }
    return { uid, label, box, never, outlined };
  });
}

let wanted = -1;
async function openImage(number) {
  finishDrag(true);
  wanted = number;
  const [status, content] = await ask(`/api/image/${number}`);
  if (wanted !== number) return;  // another one was asked for in the meantime
  if (status !== 200) return tell(content.error);
  const waiting = unsaved.get(number);
  view = { number, size: content.size, labels: content.labels, boxes: waiting ? copyBoxes(waiting) : fromServer(content.boxes) };
  if (!waiting) known.set(number, { revision: content.revision, boxes: copyBoxes(view.boxes) });
  chosen = null;
  const image = byId("image");
  image.src = withToken(`/image/${number}`);
  image.alt = set.images[number][0];
  image.classList.toggle("displayed", set.displayed);
  byId("label").value = String(view.labels[0] ?? (Number(byId("label").value) || 0));
  neverNext = false;
  fitted = true;
  layOut();
  drawAll();
  drawRows(true);
  showMaps();
}

const positionInList = () => shown.indexOf(view?.number);
function step(by) {
  if (!shown.length) return;
  const next = view && positionInList() >= 0 ? positionInList() + by : 0;
  if (next >= 0 && next < shown.length) openImage(shown[next]);
}
