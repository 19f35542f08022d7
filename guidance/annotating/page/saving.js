// Every change is sent at once, one request at a time for all images. `known`: what the server has of each image that was
// opened; `unsaved`: the boxes that it does not have yet.
const known = new Map();  // number -> {revision, boxes}
const unsaved = new Map();  // number -> boxes
const mergedImages = new Set();  // numbers of those that another tab has changed as well, until they are saved
let sending = false;

// Make `boxes` those of the open image, so that it can be undone.
function change(boxes) {
  past().undo.push(copyBoxes(view.boxes));
  past().redo.length = 0;
  setBoxes(boxes);
}

function setBoxes(boxes) {
  view.boxes = boxes;
  if (!chosenBox()) chosen = null;
  unsaved.set(view.number, copyBoxes(boxes));
  drawAll();
  send();
}

function back(from, to) {
  if (!view || !past()[from].length) return;
  finishDrag(true);
  past()[to].push(copyBoxes(view.boxes));
  setBoxes(past()[from].pop());
}
const undo = () => back("undo", "redo");
const redo = () => back("redo", "undo");

function showSaved(text, failed = false) {
  byId("saved").textContent = text;
  byId("saved").classList.toggle("failed", failed);
}

async function send() {
  if (sending) return;
  sending = true;
  while (unsaved.size) {
    const [number, boxes] = unsaved.entries().next().value;
    const { revision } = known.get(number);
    showSaved("Saving");
    const body = boxes.map(({ uid, label, box, never }) => ({ key: keys.get(uid) ?? null, label, box, never }));
    const [status, content] = await ask(`/api/image/${number}`, { method: "PUT", body: JSON.stringify({ revision, boxes: body }) });
    if (status === 200) {
      if (unsaved.get(number) === boxes) unsaved.delete(number);
      accept(number, boxes, content);
    } else if (status === 409) {
      reconcile(number, content);
    } else {
      showSaved("Not saved", true);
      tell(`Not saved: ${content.error}`);
      if (status === 400) { unsaved.delete(number); known.delete(number); if (view?.number === number) openImage(number); }
      else setTimeout(send, 2000);
      break;
    }
  }
  sending = false;
  if (!unsaved.size && !byId("saved").classList.contains("failed")) showSaved("Saved");
}

// What the server has now: new boxes get the keys of their annotations.
function accept(number, sent, content) {
  const free = content.boxes.filter(each => !sent.some(box => keys.get(box.uid) === each.key));
  for (const box of sent) {
    if (keys.has(box.uid) && content.boxes.some(each => each.key === keys.get(box.uid))) continue;
    const found = free.findIndex(each => each.label === box.label && each.never === box.never && sameBox(each.box, box.box));
    if (found >= 0) keys.set(box.uid, free.splice(found, 1)[0].key);
  }
  const lost = sent.filter(box => box.outlined && !content.boxes.find(each => each.key === keys.get(box.uid))?.outlined);
  for (const box of sent) box.outlined = Boolean(content.boxes.find(each => each.key === keys.get(box.uid))?.outlined);
  if (view?.number === number) {
    for (const box of view.boxes) box.outlined = content.boxes.find(each => each.key === keys.get(box.uid))?.outlined ?? box.outlined;
    showMaps();
  }
  const both = mergedImages.delete(number) ? "This image was changed in another tab as well. Both changes are kept, and of a box that both changed, that of the other tab." : "";
  tell(lost.length ? "The box had an outline, which belonged to its old place and is not kept; undo brings it back." : both);
  known.set(number, { revision: content.revision, boxes: copyBoxes(sent) });
  showSaved("Saved");
  noteCount(number, sent, content.labels);
}

const sameBox = (one, other) => one.every((value, i) => Math.abs(value - other[i]) < 1e-6);
const sameEntry = (one, other) => one && other && one.label === other.label && one.never === other.never && sameBox(one.box, other.box);

// Another tab, or program, has changed the image: what either changed is kept; of what both changed, the other's.
function reconcile(number, content) {
  const mine = unsaved.get(number), before = known.get(number).boxes;
  for (const each of content.boxes) {  // what was saved, but whose answer was lost
    const own = [...keys.values()].includes(each.key) ? undefined : mine.find(box => !keys.has(box.uid) && sameEntry(box, each));
    if (own) keys.set(own.uid, each.key);
  }
  const theirs = fromServer(content.boxes);
  const find = (boxes, uid) => boxes.find(each => each.uid === uid);
  const merged = [];
  for (const each of theirs) {
    const own = find(mine, each.uid), old = find(before, each.uid);
    if (old && sameEntry(each, old)) { if (own) merged.push(own); }  // they left it: my change or deletion counts
    else merged.push(each);
  }
  for (const each of mine) {
    const old = find(before, each.uid);
    if (!find(merged, each.uid) && !find(theirs, each.uid) && !sameEntry(each, old)) merged.push(each);
  }
  known.set(number, { revision: content.revision, boxes: copyBoxes(theirs) });
  unsaved.set(number, copyBoxes(merged));
  if (view?.number === number) {
    view.boxes = merged;
    if (!chosenBox()) chosen = null;
    drawAll();
  }
  histories.delete(number);  // to undo now would take back what the other did
  mergedImages.add(number);
}

// What other tabs have done since; nothing that is unsaved here is touched.
async function refresh() {
  if (unsaved.size || sending || dragging()) return;
  const [status, content] = await ask("/api/set");
  if (status !== 200) return;
  set.images = content.images;
  filterList();
  if (!view) return;
  const [found, state] = await ask(`/api/image/${view.number}`);
  if (found !== 200 || unsaved.size || dragging() || state.revision === known.get(view.number)?.revision) return;
  view.boxes = fromServer(state.boxes);
  known.set(view.number, { revision: state.revision, boxes: copyBoxes(view.boxes) });
  histories.delete(view.number);
  if (!chosenBox()) chosen = null;
  drawAll();
  showMaps();
}
