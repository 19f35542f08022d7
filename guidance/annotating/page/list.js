// The list of images: only the rows in view exist, and their pictures are asked for once the list stands still.
const ROW = 56, MARGIN = 6;
const rows = new Map();  // position -> li
let settling = 0;

function filterList() {
  const label = byId("class-filter").value, group = byId("group-filter").value, boxes = byId("box-filter").value;
  shown = order.filter(number => {
    const [, ownGroup, labels, count] = set.images[number];
    return (label === "" || labels.includes(Number(label))) && (group === "" || ownGroup === group)
      && (boxes === "" || (boxes === "with") === count > 0);
  });
  const done = set.images.filter(each => each[3] > 0).length;
  byId("progress").max = set.images.length;
  byId("progress").value = done;
  byId("progress-text").textContent = `${done} of ${set.images.length} images have boxes`;
  byId("list-count").textContent = shown.length === set.images.length ? "" : `${shown.length} images shown`;
  byId("list-space").style.height = `${shown.length * ROW}px`;
  for (const row of rows.values()) row.remove();
  rows.clear();
  drawRows();
  showPosition();
}

function drawRows(follow = false) {
  const list = byId("list"), at = positionInList();
  if (follow && at >= 0 && (at * ROW < list.scrollTop || (at + 1) * ROW > list.scrollTop + list.clientHeight)) {
    list.scrollTop = at * ROW - list.clientHeight / 2 + ROW / 2;
  }
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - MARGIN);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + MARGIN);
  for (const [position, row] of rows) {
    if (position < first || position >= last) { row.remove(); rows.delete(position); }
  }
  for (let position = first; position < last; position++) {
    if (!rows.has(position)) rows.set(position, byId("rows").appendChild(makeRow(position)));
    const button = rows.get(position).firstChild, current = shown[position] === view?.number;
    button.setAttribute("aria-current", String(current));
    button.tabIndex = current || (at < 0 && position === 0) ? 0 : -1;
  }
  clearTimeout(settling);
  settling = setTimeout(fetchPictures, 80);
}

function makeRow(position) {
  const number = shown[position], [name, group, , count] = set.images[number];
  const button = make("button", { "data-number": number, title: group ? `${name} (${group})` : name },
    make("img", { alt: "", width: 46, height: 46 }), make("span", { class: "name" }, name),
    make("span", { class: "count" }, count ? String(count) : ""));
  button.addEventListener("click", () => { document.body.classList.remove("listing"); openImage(number); });
  const row = make("li", {}, button);
  row.style.top = `${position * ROW}px`;
  return row;
}

function fetchPictures() {
  for (const row of rows.values()) {
    const image = row.querySelector("img");
    if (!image.src) image.src = withToken(`/thumb/${row.firstChild.dataset.number}`);
  }
}

// After a change: the count of an image, and the progress.
function noteCount(number, boxes, labels) {
  const entry = set.images[number];
  entry[3] = boxes.length;
  entry[2] = [...new Set([...labels, ...boxes.map(each => each.label)])].sort((a, b) => a - b);
  const done = set.images.filter(each => each[3] > 0).length;
  byId("progress").value = done;
  byId("progress-text").textContent = `${done} of ${set.images.length} images have boxes`;
  const row = rows.get(shown.indexOf(number));
  if (row) row.querySelector(".count").textContent = boxes.length ? String(boxes.length) : "";
}

async function sortList() {
  const [status, content] = await ask(`/api/order?by=${encodeURIComponent(byId("order").value)}`);
  if (status !== 200) return tell(content.error);
  order = content.order;
  const [done, all] = content.progress;
  byId("sort").hidden = !(set.net && done < all && byId("order").selectedOptions[0].dataset.net === "1");
  byId("sort").textContent = `Sort again (${done} of ${all} looked at)`;
  filterList();
}
