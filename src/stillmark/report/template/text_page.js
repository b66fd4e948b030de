// A text study's page: the measure, the boundary and the arms of its chart.
const data = JSON.parse(document.getElementById("data").textContent);
const state = {boundary: data.boundary, measure: "bits_per_byte", across: "flops", hidden: new Set(), at: -1};

const isShare = () => state.measure.startsWith("accuracy:");
const written = (value) => isShare() ? percent(value) : value >= 100 ? quantity(value) : value.toPrecision(4);

function shownSeries() { // arms whose compute is known under the boundary
  return data.arms.filter((arm) => !state.hidden.has(arm.arm)).map((arm) => ({
    ...arm,
    points: arm.curve.filter((point) => xOf(point) && point[state.measure])
      .map((point) => ({...point[state.measure], x: xOf(point), accuracy: point[state.measure].value,
                        low: point[state.measure].low ?? point[state.measure].value,
                        high: point[state.measure].high ?? point[state.measure].value})),
  }));
}

const xOf = (point) => state.across === "tokens" ? point.tokens : point.flops[state.boundary];

function levels() { // models that are given as they are: no compute, so no place across
  return data.arms.filter((arm) => !state.hidden.has(arm.arm) && arm.curve.every((point) => !xOf(point)))
    .filter((arm) => arm.role === "teacher" && arm.scores[state.measure])
    .map((arm) => ({value: arm.scores[state.measure].value, color: arm.color, arm,
                    label: `${arm.arm}: ${written(arm.scores[state.measure].value)}`}))
    .concat(data.others.filter((other) => other.measure === state.measure)
      .map((other) => ({value: other.value, color: "var(--muted)", label: `${other.name}: ${written(other.value)}`})));
}

function valueScale(series, across) { // a linear axis around what is shown, with four to eight ticks
  const ends = series.flatMap((one) => one.points.flatMap((point) => [point.low, point.high])).concat(across.map((level) => level.value));
  let [low, high] = [Math.min(...ends), Math.max(...ends)];
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  [low, high] = [Math.max(0, low - room), high + room];
  const rough = (high - low) / 6, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * unit).find((size) => size >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++)
    ticks.push({value: k * step, label: isShare() ? +(100 * k * step).toFixed(1) + "%" : step >= 1 ? (k * step).toLocaleString("en-US") : (k * step).toFixed(Math.ceil(-Math.log10(step)))});
  return {low, high, ticks};
}

function draw() {
  const host = find("#chart");
  if (!host) return;
  const series = shownSeries(), across = levels();
  const where = state.across === "tokens" ? "training tokens (log scale)" : "compute, FLOPs (log scale)";
  const why = [...new Set(data.arms.map((arm) => arm.unknown[state.boundary]).filter(Boolean))].join("; ");
  drawn = drawChart(host, series, {
    title: where, levels: across, scale: valueScale(series, across),
    empty: why ? "unknown under this boundary: the making of a given model is not recorded" : "no arm is chosen",
    label: `${data.measures[state.measure]} against ${where}, ${data.counting[state.boundary]}; ${isShare() ? "more" : "less"} is better. Arrow keys step through the points; the tables below hold all numbers.`,
  });
  listen();
  const words = data.counting[state.boundary];
  find("#counting").textContent = (state.across === "tokens" ? "Tokens that were trained on, over all seeds' mean"
    : words[0].toUpperCase() + words.slice(1)) + "." + (state.across === "flops" && why ? ` Unknown: ${why}.` : "");
}

function describe({one, point}) {
  return [`${one.arm} (${data.roles[one.role]}, ${quantity(one.params)} params)`,
          `${written(point.accuracy)} ${data.measures[state.measure]} (95%: ${written(point.low)} to ${written(point.high)})`,
          `at ${quantity(point.x)} ${state.across === "tokens" ? "tokens" : `FLOPs, boundary ${state.boundary}`}`];
}

function markCells() {
  for (const cell of document.querySelectorAll("#table-grid [data-boundary]"))
    cell.classList.toggle("is-chosen", cell.dataset.boundary === state.boundary);
}

for (const [name, standing] of [["measure", "bits_per_byte"], ["across", "flops"], ["boundary", data.boundary]])
  for (const input of document.querySelectorAll(`#${name} input`)) {
    input.checked = input.value === standing; // browsers keep a choice over a reload
    input.addEventListener("change", () => {
      state[name] = input.value;
      find("#boundary").disabled = state.across === "tokens";
      draw();
      markCells();
    });
  }
for (const input of document.querySelectorAll("#filters input")) {
  input.checked = true;
  input.addEventListener("change", () => {
    input.checked ? state.hidden.delete(input.value) : state.hidden.add(input.value);
    draw();
  });
}
if (find("#chart")) {
  draw();
  markCells();
  let width = find("#chart").clientWidth;
  new ResizeObserver(() => {
    if (find("#chart").clientWidth !== width) { width = find("#chart").clientWidth; draw(); }
  }).observe(find("#chart"));
}
startSamples();
