"use strict";
// Draws accuracy against a log axis as SVG: lines with bands where an arm has checkpoints, points with bars elsewhere.
const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const SHARES = {low: 0, high: 1.04, // the accuracy axis: room for points at 100%
                ticks: [0, 0.2, 0.4, 0.6, 0.8, 1].map((value) => ({value, label: Math.round(value * 100) + "%"}))};

function element(name, attributes, parent) {
  const made = document.createElementNS(document.querySelector("svg").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

function power(exponent) {
  const raised = String(Math.abs(exponent)).replace(/\d/g, (digit) => DIGITS[digit]);
  return "10" + (exponent < 0 ? "⁻" : "") + raised;
}

function quantity(value) { // three significant digits with an SI prefix, as words.quantity
  if (value === null || value === undefined) return "unknown";
  for (const [prefix, exponent] of [["Y", 24], ["Z", 21], ["E", 18], ["P", 15], ["T", 12], ["G", 9], ["M", 6], ["k", 3], ["", 0]]) {
    const scaled = Number((value / 10 ** exponent).toPrecision(3));
    if (Math.abs(scaled) >= 1 || exponent === 0) return scaled.toLocaleString("en-US", {maximumSignificantDigits: 3}) + prefix;
  }
}

const percent = (share) => (100 * share).toFixed(1) + "%";

// Labels at least `gap` apart, each near the height it wants: overlapping ones become a block around their mean.
function spread(wanted, gap, start, end) {
  const blocks = [];
  for (const item of [...wanted].sort((a, b) => a.y - b.y)) {
    blocks.push({items: [item], centre: item.y});
    while (blocks.length > 1) {
      const [above, below] = blocks.slice(-2);
      const space = (below.centre - gap * (below.items.length - 1) / 2) - (above.centre + gap * (above.items.length - 1) / 2);
      if (space >= gap) break;
      const items = above.items.concat(below.items), half = gap * (items.length - 1) / 2;
      const mean = (above.centre * above.items.length + below.centre * below.items.length) / items.length;
      blocks.splice(-2, 2, {items, centre: Math.max(start + half, Math.min(mean, end - half))});
    }
  }
  for (const block of blocks) block.items.forEach((item, k) => { item.at = block.centre + gap * (k - (block.items.length - 1) / 2); });
  return wanted;
}

const plainly = (value) => value.toLocaleString("en-US", {maximumSignificantDigits: 3}); // 0.02, 2,000

function logTicks(low, high) {
  const ticks = [];
  const steps = Math.log10(high / low) < 2 ? [1, 2, 5] : [1];
  for (let exponent = Math.floor(Math.log10(low)); exponent <= Math.ceil(Math.log10(high)); exponent++)
    for (const step of steps) {
      const value = step * 10 ** exponent;
      if (value >= low && value <= high) ticks.push({value, label: Math.abs(exponent) <= 3 ? plainly(value) : (step > 1 ? step + "·" : "") + power(exponent)});
    }
  return ticks;
}

// series: [{arm, color, shape, is_dashed, points: [{x, accuracy, low, high}]}]; returns the drawn points with their places.
function drawChart(host, series, options) {
  host.querySelector("svg")?.remove();
  const width = Math.max(300, host.clientWidth), isNarrow = width < 620;
  const height = isNarrow ? 340 : 460;
  const longest = Math.max(0, ...series.map((one) => one.arm.length));
  const margin = {left: 46, right: isNarrow ? 12 : Math.min(250, 52 + longest * 7.2), top: 12, bottom: 48};
  const svg = element("svg", {viewBox: `0 0 ${width} ${height}`, role: "group", tabindex: 0, "aria-label": options.label}, host);
  const all = series.flatMap((one) => one.points).filter((point) => point.x > 0);
  if (!all.length) {
    element("text", {x: width / 2, y: height / 2, "text-anchor": "middle"}, svg).textContent = options.empty || "nothing to show";
    return {svg, places: []};
  }
  const low = Math.min(...all.map((point) => point.x)) / 1.4, high = Math.max(...all.map((point) => point.x)) * 1.4;
  const right = width - margin.right, bottom = height - margin.bottom;
  const x = (value) => margin.left + (Math.log(value / low) / Math.log(high / low)) * (right - margin.left);
  const scale = options.scale || SHARES;
  const y = (value) => bottom - ((value - scale.low) / (scale.high - scale.low)) * (bottom - margin.top);
  drawAxes(svg, {x, y, low, high, right, bottom, margin, options});
  const places = [];
  if (options.frontier?.length > 1)
    element("path", {class: "frontier", d: options.frontier.map((p, k) => (k ? "L" : "M") + x(p.x) + " " + y(p.accuracy)).join("")}, svg);
  for (const one of series) drawSeries(svg, one, x, y, places);
  if (!isNarrow) drawNames(svg, series, x, y, right, margin.top + 6, bottom);
  return {svg, places};
}

function drawAxes(svg, {x, y, low, high, right, bottom, margin, options}) {
  for (const tick of (options.scale || SHARES).ticks) {
    element("line", {class: "grid", x1: margin.left, x2: right, y1: y(tick.value), y2: y(tick.value)}, svg);
    element("text", {x: margin.left - 7, y: y(tick.value) + 4, "text-anchor": "end"}, svg).textContent = tick.label;
  }
  for (const tick of logTicks(low, high)) {
    element("line", {class: "grid", x1: x(tick.value), x2: x(tick.value), y1: margin.top, y2: bottom}, svg);
    element("text", {x: x(tick.value), y: bottom + 18, "text-anchor": "middle"}, svg).textContent = tick.label;
  }
  element("line", {class: "axis", x1: margin.left, x2: right, y1: bottom, y2: bottom}, svg);
  element("text", {x: (margin.left + right) / 2, y: bottom + 39, "text-anchor": "middle"}, svg).textContent = options.title;
  for (const level of options.levels || []) { // a value that has no place on the x axis: {value, label, color}
    element("line", {class: "level", x1: margin.left, x2: right, y1: y(level.value), y2: y(level.value), style: `stroke:${level.color}`}, svg);
    element("text", {class: "name", x: margin.left + 6, y: y(level.value) - 6}, svg).textContent = level.label;
  }
  for (const chance of options.chance || []) {
    element("line", {class: "chance", x1: margin.left, x2: right, y1: y(chance), y2: y(chance)}, svg);
    element("text", {x: right - 4, y: y(chance) + 14, "text-anchor": "end"}, svg).textContent = "chance";
  }
}

function drawSeries(svg, one, x, y, places) {
  const group = element("g", {"data-arm": one.arm, "aria-hidden": "true"}, svg);
  const points = one.points.filter((point) => point.x > 0);
  const path = (ends) => ends.map(([a, b], k) => (k ? "L" : "M") + a.toFixed(1) + " " + b.toFixed(1)).join("");
  if (points.length > 1) {
    const edge = [...points.map((p) => [x(p.x), y(p.high)]), ...[...points].reverse().map((p) => [x(p.x), y(p.low)])];
    element("path", {d: path(edge) + "Z", style: `fill:${one.color}`, opacity: 0.13}, group);
    element("path", {d: path(points.map((p) => [x(p.x), y(p.accuracy)])), style: `stroke:${one.color}`, fill: "none",
                     "stroke-width": 2.2, "stroke-dasharray": one.is_dashed ? "6 4" : "none"}, group);
  }
  for (const point of points) {
    if (points.length === 1)
      element("line", {x1: x(point.x), x2: x(point.x), y1: y(point.low), y2: y(point.high), style: `stroke:${one.color}`, "stroke-width": 2}, group);
    const mark = element("use", {href: "#shape-" + one.shape, x: x(point.x), y: y(point.accuracy), style: `fill:${one.color}`,
                                 stroke: "var(--page)", "stroke-width": 1}, group);
    places.push({one, point, mark, px: x(point.x), py: y(point.accuracy)});
  }
}

function drawNames(svg, series, x, y, right, start, end) {
  const ends = series.filter((one) => one.points.length).map((one) => ({one, y: y(one.points.at(-1).accuracy), x: x(one.points.at(-1).x)}));
  for (const item of spread(ends, 17, start, end)) {
    const group = element("g", {"data-arm": item.one.arm, "aria-hidden": "true"}, svg);
    element("path", {d: `M${right} ${item.y}L${right + 20} ${item.at}`, style: `stroke:${item.one.color}`, fill: "none", opacity: 0.7}, group);
    element("use", {href: "#shape-" + item.one.shape, x: right + 26, y: item.at, style: `fill:${item.one.color}`}, group);
    element("text", {class: "name", x: right + 37, y: item.at + 4}, group).textContent = item.one.arm;
  }
}
