// What the net makes of the open image: asked for until it is there.
let asking = 0;

async function showMaps() {
  clearTimeout(asking);
  byId("net").hidden = !set.net;
  if (!set.net || !view) return;
  const number = view.number;
  const [status, content] = await ask(`/api/map/${number}`);
  if (view.number !== number) return;
  if (status !== 200 || content.status === "failed") return fillNet([], [], content.error || content.why);
  if (content.status === "waiting") {
    byId("net-state").textContent = "Making the map";
    asking = setTimeout(showMaps, 400);
    return;
  }
  fillNet(content.maps, content.predictions, "");
}

function fillNet(maps, predictions, text) {
  byId("net-state").textContent = text;
  byId("maps").replaceChildren(...maps.map(({ name, epg, outside, picture }) => {
    const numbers = epg === null ? "no box, so no EPG" : `EPG ${epg.toFixed(2)}, energy outside ${outside.toPrecision(3)}`;
    return make("figure", {}, make("img", { src: picture, alt: `Map of ${name}` }), make("figcaption", {}, `${name}: ${numbers}`));
  }));
  byId("predictions").hidden = !predictions.length;
  byId("predictions").tBodies[0].replaceChildren(...predictions.map(([name, share]) => make("tr", {},
    make("td", {}, name), make("td", {}, share.toFixed(2)), make("td", {}, make("progress", { value: share, "aria-label": `probability of ${name}` })))));
}
