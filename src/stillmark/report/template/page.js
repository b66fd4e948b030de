// The page's controls: boundary, arms shown, stepping through points, theme.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector) => document.querySelector(selector);
const state = {boundary: "student", axis: "train", hidden: new Set(), at: -1};
const AXES = { // title, and the points of an arm
  train: {title: "training compute, FLOPs (log scale)", unit: " FLOPs", isCurve: true},
  cpu: {title: "CPU seconds of training, measured (log scale)", unit: " CPU s", x: (arm) => arm.cpu_seconds[state.boundary]},
  answer: {title: "compute of one answer, FLOPs (log scale)", unit: " FLOPs an answer", x: (arm) => arm.answer_flops},
  tokens: {title: "tokens written for one answer (log scale)", unit: " tokens", x: (arm) => arm.generated_tokens},
  params: {title: "parameters (log scale)", unit: " parameters", x: (arm) => arm.params},
};
let drawn = {places: []};

function shownSeries() {
  return data.arms.filter((arm) => !state.hidden.has(arm.arm)).map((arm) => ({
    ...arm, points: pointsOf(arm),
  }));
}

function pointsOf(arm) { // its curve, or where it ends on an axis that has no curve
  const axis = AXES[state.axis];
  if (axis.isCurve) return arm.curve[state.boundary].map((point) => ({...point, x: point.flops}));
  const x = axis.x(arm);
  if (!arm.accuracy || x === null) return [];
  return [{x, accuracy: arm.accuracy.value, low: arm.accuracy.low, high: arm.accuracy.high}];
}

function pareto(points) { // names of the arms that none beats: as frontier.pareto_frontier, x less and accuracy more
  const isBeaten = (p) => points.some((q) => q.x <= p.x && q.accuracy >= p.accuracy && (q.x < p.x || q.accuracy > p.accuracy));
  return points.filter((point) => !isBeaten(point)).sort((p, q) => p.x - q.x || q.accuracy - p.accuracy);
}

function draw() {
  const host = find("#chart");
  if (!host) return;
  const series = shownSeries(), axis = AXES[state.axis];
  const ends = axis.isCurve ? [] : pareto(series.flatMap((one) => one.points.map((point) => ({...point, arm: one.arm}))));
  drawn = drawChart(host, series, {
    title: axis.title, chance: data.chance, empty: "no arm is chosen", frontier: ends,
    label: `Accuracy against ${axis.title}, ${data.counting[state.boundary]}. Arrow keys step through the points; the tables below hold all numbers.`,
  });
  const svg = find("#chart svg");
  svg.addEventListener("pointermove", (event) => point(nearest(svg, event)));
  svg.addEventListener("pointerleave", () => point(-1));
  svg.addEventListener("keydown", step);
  svg.addEventListener("click", () => openSamples(drawn.places[state.at]));
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

function describe({one, point}) {
  return [`${one.arm} (${data.roles[one.role]}, ${quantity(one.params)} params)`,
          `${percent(point.accuracy)} right (95%: ${(100 * point.low).toFixed(1)} to ${(100 * point.high).toFixed(1)})`,
          `at ${quantity(point.x)}${AXES[state.axis].unit}` + (["train", "cpu"].includes(state.axis) ? `, boundary ${state.boundary}` : "")];
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

function openSamples(place) { // the replies of the arm that was clicked
  const select = find("#arm-a");
  if (!place || !select || !data.samples.arms.includes(place.one.arm)) return;
  select.value = place.one.arm;
  browser.page = 0;
  drawSamples();
  find("#samples").scrollIntoView();
}

function step(event) { // left and right along an arm, up and down between arms
  const places = drawn.places, now = places[state.at];
  const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 1, ArrowUp: -1};
  if (event.key === "Escape") return point(-1);
  if (event.key === "Enter") return openSamples(now);
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

function chooseBoundary(boundary) {
  state.boundary = boundary;
  const words = data.counting[boundary];
  find("#counting").textContent = words[0].toUpperCase() + words.slice(1) + ".";
  for (const cell of document.querySelectorAll("#table-grid [data-boundary]"))
    cell.classList.toggle("is-chosen", cell.dataset.boundary === boundary);
  const chosen = data.comparisons.find((row) => row.arm === data.student);
  const ratio = chosen?.ratios.find((row) => row.at === "final" && row.boundary === boundary);
  const tile = find("[data-tile=ratio]");
  if (tile && ratio) {
    tile.querySelector(".value").textContent = ratio.shown;
    tile.querySelector(".note").textContent = `95%: ${ratio.limits}; boundary: ${boundary}`;
  }
  draw();
  drawWorth();
}

for (const input of document.querySelectorAll("#axis input")) {
  input.checked = input.value === "train";
  input.addEventListener("change", () => {
    state.axis = input.value;
    find("#boundary").disabled = !["train", "cpu"].includes(state.axis);
    draw();
  });
}
for (const input of document.querySelectorAll("#worth input")) input.addEventListener("input", drawWorth);
for (const input of document.querySelectorAll("#boundary input")) {
  if (input.value === "student") input.checked = true; // browsers keep a choice over a reload
  input.addEventListener("change", () => chooseBoundary(input.value));
}
for (const input of document.querySelectorAll("#filters input")) {
  input.checked = true;
  input.addEventListener("change", () => {
    input.checked ? state.hidden.delete(input.value) : state.hidden.add(input.value);
    draw();
  });
}

find("#theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
});

startSamples();
if (find("#chart")) {
  chooseBoundary("student");
  let width = find("#chart").clientWidth;
  new ResizeObserver(() => {
    if (find("#chart").clientWidth !== width) { width = find("#chart").clientWidth; draw(); }
  }).observe(find("#chart"));
}
