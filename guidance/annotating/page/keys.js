// The page by keyboard alone.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = {
  b: addInMiddle, n: toggleNever, j: () => step(1), k: () => step(-1), PageDown: () => step(1), PageUp: () => step(-1),
  Delete: removeChosen, Backspace: removeChosen, Enter: () => choose(null), Escape: giveUp,
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => zoom(0),
};

function giveUp() {
  if (drag) finishDrag(true);
  else choose(null);
}

function toggleNever() {
  const box = chosenBox();
  if (box) replaceChosen({ never: !box.never });
  else { neverNext = !neverNext; drawAll(); }
}

function setLabel(label) {
  if (label >= set.classes.length) return;
  byId("label").value = String(label);
  const box = chosenBox();
  if (box && box.label !== label) replaceChosen({ label });
}

// An arrow moves the box by a hundredth of the image, with Ctrl by a pixel, and with Shift its right and lower side.
function arrow([x, y], event) {
  const box = chosenBox(), by = event.ctrlKey ? 1 : Math.max(1, Math.round(Math.max(...view.size) / 100));
  const now = event.shiftKey ? sized(box.box, 4, x * by, y * by) : moved(box.box, x * by, y * by);
  if (!sameBox(now, box.box)) replaceChosen({ box: rounded(now) });
}

function press(event) {
  const at = event.target, typing = at.closest("select, input:not([type=checkbox])");
  const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && (letter === "z" || letter === "y")) {
    event.preventDefault();
    return letter === "y" || event.shiftKey ? redo() : undo();
  }
  if (typing || !view) return;
  if (ARROWS[event.key] && chosenBox() && !event.altKey && !event.metaKey) {
    event.preventDefault();
    return arrow(ARROWS[event.key], event);
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const onControl = at.closest("button, summary, input");
  if (event.key === "Enter" && onControl) return;  // it presses the button
  if (KEYS[letter]) { event.preventDefault(); KEYS[letter](); }
  else if (/^[1-9]$/.test(event.key)) setLabel(Number(event.key) - 1);
}
