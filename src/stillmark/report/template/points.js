// Pointing at the chart's marks with mouse and keys, and the theme: for every page. A page defines `state.at` and
// `describe(place)`, which gives the lines of a mark's record.
const find = (selector) => document.querySelector(selector);
let drawn = {places: []};
let opened = () => {}; // what a click on a mark does

function listen(open) { // to the chart that was just drawn
  opened = open || (() => {});
  point(-1); // the record of a mark that is no longer there
  const svg = find("#chart svg");
  svg.addEventListener("pointermove", (event) => point(nearest(svg, event)));
  svg.addEventListener("pointerleave", () => point(-1));
  svg.addEventListener("keydown", step);
  svg.addEventListener("click", () => opened(drawn.places[state.at]));
  svg.addEventListener("blur", () => point(-1));
}

function nearest(svg, event) {
  const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
  const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let best = -1, least = 40 ** 2;
  drawn.places.forEach((place, index) => {
    const distance = (place.px - px) ** 2 + (place.py - py) ** 2;
    if (distance < least) [best, least] = [index, distance];
  });
  return best;
}

function point(index) { // shows one point's record, or none
  state.at = index;
  const tip = find("#tip"), place = drawn.places[index];
  for (const group of document.querySelectorAll("#chart g[data-arm]"))
    group.classList.toggle("dim", Boolean(place) && group.dataset.arm !== place.one.arm);
  tip.hidden = !place;
  if (!place) return;
  const [name, ...lines] = describe(place);
  tip.replaceChildren(Object.assign(document.createElement("b"), {textContent: name}),
                      ...lines.map((line) => Object.assign(document.createElement("div"), {textContent: line})));
  const svg = find("#chart svg"), scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const left = place.px * scale, room = svg.getBoundingClientRect().width;
  tip.style.left = Math.max(0, Math.min(left + 14, room - tip.offsetWidth)) + "px";
  tip.style.top = place.py * scale + 16 + "px";
}

function step(event) { // left and right along an arm, up and down between arms
  const places = drawn.places, now = places[state.at];
  const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1};
  if (event.key === "Escape") return point(-1);
  if (event.key === "Enter") return opened(now);
  if (!(event.key in moves) || !places.length) return;
  event.preventDefault();
  let index = state.at + moves[event.key];
  if (now && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    const arms = [...new Set(places.map((place) => place.one.arm))];
    const arm = arms[(arms.indexOf(now.one.arm) + moves[event.key] + arms.length) % arms.length];
    index = places.findLastIndex((place) => place.one.arm === arm);
  }
  point(Math.max(0, Math.min(index, places.length - 1)));
  find("#spoken").textContent = describe(places[state.at]).join(", ");
}

find("#theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
});
