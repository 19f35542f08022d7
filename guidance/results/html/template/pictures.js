/* The gallery of maps, and the masks of a run. */

function stack(layers, alt) {
  return make("div", { className: "stack" }, ...layers.filter(([source]) => source).map(([src, className = ""], i) => make("img", { src, className, alt: i ? "" : alt })));
}

function picturedRuns() {
  const there = detail.runs.filter((name) => !state.hidden.has(runOf.get(name).group));
  const chosen = there.filter((name) => state.chosen.has(name));
  return chosen.length ? chosen : there.slice(0, FEW_RUNS);
}

function drawGallery() {
  const { gallery } = detail, wanted = byId("gallery-group").value, shown = picturedRuns().filter((name) => gallery.rows.some((row) => row.cells[name]));
  const fitting = gallery.rows.filter((row) => wanted === "all" || row.group === (wanted === "worst" ? gallery.worst : Number(wanted)));
  const few = state.allRows ? fitting : fitting.slice(0, FEW_ROWS);
  byId("gallery-more").hidden = fitting.length <= FEW_ROWS;
  byId("gallery-more").textContent = state.allRows ? `Show the first ${FEW_ROWS}` : `Show all ${fitting.length} images`;
  byId("gallery-note").textContent = `Attribution maps of the named class on ${detail.split}, at each run's last checkpoint, ${look.side} pixels on the longer side. `
    + `All maps of a row have one colour scale, over all ${detail.runs.length} of ${runs.length} runs whose maps are in this file; outlined: where evidence may lie. `
    + `${few.length} of ${fitting.length} images, ${shown.length} runs: those that are selected, or the first ${FEW_RUNS}. ${detail.notes.join(" ")}`;
  byId("gallery-rows").replaceChildren(...few.map((row) => {
    const title = [row.class, row.group === null ? "" : gallery.groups[row.group], row.name].filter(Boolean).join(" · ");
    const first = make("figure", {}, stack([[row.image], [row.outline]], `Image ${row.name}, class ${row.class}`), make("figcaption", {}, make("strong", {}, "image"), row.class));
    return make("article", { "data-group": String(row.group) }, make("h3", {}, title), make("div", { className: "pictures" }, first, ...shown.filter((name) => row.cells[name]).map((name) => {
      const cell = row.cells[name], score = cell.epg === null ? "" : `EPG ${cell.epg.toFixed(2)}`;
      const says = make("div", { className: cell.right ? "" : "wrong" }, `${cell.right ? "✓" : "✗ wrong:"} ${cell.says}`);
      return make("figure", { className: state.chosen.has(name) ? "chosen" : "" },
        stack([[row.grey], [cell.map], [row.outline]], `Map of ${name} for ${row.class}; predicts ${cell.says}. ${score}`), make("figcaption", {}, make("strong", {}, name), says, score));
    })));
  }));
}

function drawMasks() {
  const name = byId("mask-run").value, strip = detail.strips[name];
  byId("mask-note").textContent = `Merged masks of AIM at the epochs whose checkpoints are kept (${strip.epochs.length} here), for the first ${strip.rows.length} images above; dark cells are masked.`;
  byId("mask-rows").replaceChildren(...strip.rows.map((cells, n) => {
    const row = detail.gallery.rows[n];
    return make("div", {}, make("h3", {}, `${row.class} · ${row.name}`), make("div", { className: "strip", tabIndex: 0, role: "group", "aria-label": `Masks of ${row.name}` },
      ...cells.map((cell, i) => make("figure", {}, stack([[row.image], [cell.mask, "cells"]], `Mask at epoch ${strip.epochs[i]}`),
        make("figcaption", {}, make("strong", {}, `epoch ${strip.epochs[i]}`), `${Math.round(100 * cell.active)} % active`)))));
  }));
}
