// The page's controls: boundary, arms shown, stepping through points, theme.
const data = JSON.parse(document.getElementById("data").textContent);
const state = {boundary: "student", axis: "train", hidden: new Set(), at: -1};
const AXES = { // title, and the points of an arm
  train: {title: "training compute, FLOPs (log scale)", unit: " FLOPs", isCurve: true, isBounded: true},
  cpu: {title: "CPU seconds of training, measured (log scale)", unit: " CPU s", isBounded: true, x: (arm) => arm.cpu_seconds[state.boundary]},
  energy: {title: "joules of training (log scale)", unit: " J", isBounded: true, x: (arm) => arm.joules[state.boundary],
           why: () => "no meter could be read, or several jobs ran at once: the ledger says which"},
  answer: {title: "compute of one answer, FLOPs (log scale)", unit: " FLOPs an answer", x: (arm) => arm.answer_flops},
  tokens: {title: "tokens written for one answer (log scale)", unit: " tokens", x: (arm) => arm.generated_tokens},
  params: {title: "parameters (log scale)", unit: " parameters", x: (arm) => arm.params},
};
for (const axis of data.axes)
  AXES[axis.name] = {title: axis.title + " (log scale)", unit: axis.shown_unit, source: `${axis.method}: ${axis.source}`,
                     x: (arm) => axis.arms[arm.arm].value, why: (arm) => axis.arms[arm.arm].reason};

function axisNote(series) { // how the axis was obtained, and which arms stand off it, by reason
  const axis = AXES[state.axis], reasons = new Map();
  for (const arm of axis.isCurve ? [] : series.filter((one) => one.points.length === 0)) {
    const why = arm.accuracy ? axis.why?.(arm) || "not recorded" : "no accuracy was measured";
    reasons.set(why, [...(reasons.get(why) || []), arm.arm]);
  }
  const unknown = [...reasons].map(([why, arms]) => `${arms.join(", ")} (${why})`).join("; ");
  const said = [axis.source, unknown && `Not on this axis, unknown: ${unknown}`].filter(Boolean).map((text) => text[0].toUpperCase() + text.slice(1) + ".");
  return said.join(" ");
}

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
    title: axis.title, chance: data.chance, empty: series.length ? "unknown for these arms" : "no arm is chosen", frontier: ends,
    label: `Accuracy against ${axis.title}, ${data.counting[state.boundary]}. Arrow keys step through the points; the tables below hold all numbers.`,
  });
  find("#axis-note").textContent = axisNote(series);
  listen(openSamples);
}

function describe({one, point}) {
  return [`${one.arm} (${data.roles[one.role]}, ${quantity(one.params)} params)`,
          `${percent(point.accuracy)} right (95%: ${(100 * point.low).toFixed(1)} to ${(100 * point.high).toFixed(1)})`,
          `at ${quantity(point.x)}${AXES[state.axis].unit}` + (AXES[state.axis].isBounded ? `, boundary ${state.boundary}` : "")];
}

function openSamples(place) { // the replies of the arm that was clicked
  const select = find("#arm-a");
  if (!place || !select) return;
  if (!group().arms.includes(place.one.arm)) {
    const other = data.samples.findIndex((one) => one.arms.includes(place.one.arm));
    if (other < 0) return;
    find("#group").value = other;
    fillChoices();
  }
  select.value = place.one.arm;
  browser.page = 0;
  drawSamples();
  find("#samples").scrollIntoView();
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
    find("#boundary").disabled = !AXES[state.axis].isBounded;
    find("#counting").hidden = !AXES[state.axis].isBounded;
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

startSamples();
drawDevice();
if (find("#chart")) {
  chooseBoundary("student");
  let width = find("#chart").clientWidth;
  new ResizeObserver(() => {
    if (find("#chart").clientWidth !== width) { width = find("#chart").clientWidth; draw(); }
  }).observe(find("#chart"));
}
