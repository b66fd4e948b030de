// The sample browser: two arms' replies to the same items, side by side. All text is set as text, never as markup.
const PAGE_ITEMS = 8;
const browser = {page: 0, rows: []};

function group() { // the samples of the task and seed that are chosen
  return data.samples[Number(document.querySelector("#group").value)];
}

function isRight(row, arm) {
  return data.outcomes[row.replies[group().arms.indexOf(arm)][0]] === "correct";
}

const WANTED = {
  disagree: (row, a, b) => isRight(row, a) !== isRight(row, b),
  first: (row, a, b) => isRight(row, a) && !isRight(row, b),
  second: (row, a, b) => !isRight(row, a) && isRight(row, b),
  neither: (row, a, b) => !isRight(row, a) && !isRight(row, b),
  all: () => true,
};

function make(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function replyOf(row, arm) {
  const [outcome, text] = row.replies[group().arms.indexOf(arm)];
  const name = data.outcomes[outcome], box = make("div", undefined, "reply");
  const head = make("p", undefined, "reply-head");
  head.append(make("b", arm), " ", make("span", (name === "correct" ? "✓ " : "✗ ") + name, "outcome " + name));
  const words = make("bdi", text === "" ? "(empty)" : text);
  const body = make("div", undefined, "text");
  body.append(words);
  box.append(head, body);
  return box;
}

function drawSamples() {
  const host = document.querySelector("#samples-list");
  if (!host) return;
  const value = (id) => document.querySelector(id).value;
  const [a, b, wanted, level] = [value("#arm-a"), value("#arm-b"), value("#wanted"), value("#level")];
  browser.rows = group().items.filter((row) => (level === "all" || String(row.level) === level) && WANTED[wanted](row, a, b));
  const last = Math.max(0, Math.ceil(browser.rows.length / PAGE_ITEMS) - 1);
  browser.page = Math.max(0, Math.min(browser.page, last));
  host.replaceChildren(...browser.rows.slice(browser.page * PAGE_ITEMS, (browser.page + 1) * PAGE_ITEMS).map((row) => {
    const item = make("article", undefined, "sample");
    const prompt = make("p", undefined, "prompt"), target = make("p", undefined, "note");
    prompt.append(make("bdi", row.prompt));
    const hasLevels = !document.querySelector("#level").closest("label").hidden;
    target.append(hasLevels ? `level ${row.level}; right answer: ` : "right answer: ", make("bdi", row.target));
    const pair = make("div", undefined, "pair");
    pair.append(replyOf(row, a), replyOf(row, b));
    item.append(prompt, target, pair);
    return item;
  }));
  const from = browser.rows.length ? browser.page * PAGE_ITEMS + 1 : 0;
  document.querySelector("#samples-count").textContent =
    `${from} to ${Math.min(browser.rows.length, (browser.page + 1) * PAGE_ITEMS)} of ${browser.rows.length} items`;
  document.querySelector("#samples-back").disabled = browser.page === 0;
  document.querySelector("#samples-on").disabled = browser.page >= last;
}

function fillChoices() { // of the group: its arms, those that were chosen where it has them, and its levels
  const {arms, items} = group();
  const fill = (id, usual) => {
    const select = document.querySelector(id), chosen = arms.includes(select.value) ? select.value : usual;
    select.replaceChildren(...arms.map((arm) => Object.assign(make("option", arm), {value: arm, selected: arm === chosen})));
  };
  const vanilla = data.arms.filter((arm) => arm.role === "vanilla" && arms.includes(arm.arm)).at(-1);
  fill("#arm-a", arms.includes(data.student) ? data.student : arms[0]);
  fill("#arm-b", arms.includes(data.beside) ? data.beside : vanilla ? vanilla.arm : arms.at(-1));
  const levels = [...new Set(items.map((row) => row.level))].sort((x, y) => x - y), select = document.querySelector("#level");
  const chosen = select.value;
  select.replaceChildren(Object.assign(make("option", "all levels"), {value: "all"}),
    ...levels.map((level) => Object.assign(make("option", "level " + level), {value: level, selected: String(level) === chosen})));
  select.closest("label").hidden = levels.length < 2; // public benchmarks have none
}

function startSamples() {
  if (!document.querySelector("#samples-list")) return;
  fillChoices();
  document.querySelector("#group").addEventListener("change", () => { browser.page = 0; fillChoices(); drawSamples(); });
  for (const id of ["#arm-a", "#arm-b", "#wanted", "#level"])
    document.querySelector(id).addEventListener("change", () => { browser.page = 0; drawSamples(); });
  document.querySelector("#samples-back").addEventListener("click", () => { browser.page--; drawSamples(); });
  document.querySelector("#samples-on").addEventListener("click", () => { browser.page++; drawSamples(); });
  drawSamples();
}
