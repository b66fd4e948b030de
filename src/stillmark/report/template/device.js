// Which arm for a device: the same as stillmark/analysis/choose.py and compute/predictor.py, for the picker.

function answerSeconds(needs, device, slow) { // as predictor.answer_seconds
  if (!needs || [needs.weight_bytes, needs.cache_bytes, needs.matmul_flops, needs.attention_flops,
                 device.bytes_per_second, device.flops_per_second].some((value) => value === null)) return null;
  const {compute, read} = slow ?? {compute: 1, read: 1};
  const prefill = Math.max(compute * (needs.matmul_flops + needs.attention_flops) / device.flops_per_second,
                           read * needs.weight_bytes / device.bytes_per_second);
  const reading = read * (needs.weight_bytes + needs.cache_bytes) / device.bytes_per_second;
  const step = needs.step_flops === null ? reading : Math.max(reading, compute * needs.step_flops / device.flops_per_second);
  return prefill + (needs.new_tokens - 1) * step;
}

const gib = (value) => `${Number((value / 2 ** 30).toPrecision(3))} GiB`;
const threeDigits = (value) => String(Number(value.toPrecision(3)));

function judge(row, device, wanted) { // device null: this machine
  const measured = row.measured;
  let seconds, memory, method, why;
  if (device === null) {
    seconds = measured?.verdict === "VALID" ? measured.seconds?.value ?? null : null;
    memory = measured?.memory_bytes?.value ?? null;
    method = "measured";
    why = measured ? {seconds: `its run is ${measured.verdict} (${measured.reason})`,
                      memory: `its memory is not known (${measured.reason || "the system does not say it"})`}
                   : {seconds: "it was not profiled on this machine", memory: "it was not profiled on this machine"};
  } else {
    seconds = answerSeconds(row.needs, device, row.slowdown);
    memory = row.needs?.memory_bytes ?? null;
    method = row.slowdown ? "predicted" : "predicted bound";
    why = {seconds: `a ceiling of ${device.name} or the work of the model is not known`, memory: "the model's size is not known"};
  }
  const rooms = [wanted.memory_bytes, device?.memory_bytes ? data.device.memory_share * device.memory_bytes : null].filter((value) => value !== null);
  const room = rooms.length ? Math.min(...rooms) : null, faults = [], unknown = [];
  if (device !== null && device.memory_bytes === null && wanted.memory_bytes === null) unknown.push(`the memory of ${device.name} is not known`);
  if (room !== null) {
    if (memory === null) unknown.push(why.memory);
    else if (memory > room) faults.push(`needs ${gib(memory)}, has ${gib(room)}`);
  }
  if (wanted.latency_seconds !== null) {
    if (seconds === null) unknown.push(why.seconds);
    else if (seconds > wanted.latency_seconds)
      faults.push(`takes ${method === "predicted bound" ? "at least " : ""}${threeDigits(seconds)} s an answer, may take ${threeDigits(wanted.latency_seconds)} s`);
    else if (method === "predicted bound")
      unknown.push(`${threeDigits(seconds)} s an answer is the roofline's bound, which no engine beats, and no valid profile says how near this one comes`);
  }
  const accuracy = row.accuracy ? row.accuracy.value : null;
  if (wanted.accuracy !== null) {
    if (accuracy === null) unknown.push(row.accuracy_reason);
    else if (accuracy < wanted.accuracy) faults.push(`is right on ${percent(accuracy)}, wanted ${percent(wanted.accuracy)}`);
  }
  const verdict = faults.length ? "infeasible" : unknown.length ? "unknown" : "feasible";
  const reason = faults.length ? faults.join("; ") : unknown.length ? "unknown: not judged: " + unknown.join("; ") : "";
  return {arm: row.arm, engine: row.engine, format: row.format, verdict, reason, accuracy, seconds, memory_bytes: memory, method};
}

function chooseFor(device, wanted) {
  const rows = data.device.rows.map((row) => judge(row, device, wanted));
  const last = (row) => row.seconds ?? Infinity;
  const ranked = rows.map((row, index) => ({row, index})).filter(({row}) => row.verdict === "feasible" && row.accuracy !== null)
    .sort((p, q) => q.row.accuracy - p.row.accuracy || (last(p.row) === last(q.row) ? 0 : last(p.row) - last(q.row)) || p.index - q.index);
  return {rows, best: ranked.length ? ranked[0].index : null};
}

function drawDevice() {
  const body = document.querySelector("#table-device tbody");
  if (!body) return;
  const field = (id) => { const text = document.getElementById(id).value; return text === "" ? null : Number(text); };
  const name = document.getElementById("device-name").value;
  const device = name === data.device.this_machine ? null : data.device.devices.find((one) => one.name === name);
  const memory = field("device-memory"), share = field("device-accuracy");
  const {rows, best} = chooseFor(device, {latency_seconds: field("device-latency"), memory_bytes: memory === null ? null : memory * 2 ** 20,
                                          accuracy: share === null ? null : share / 100});
  rows.forEach((row, index) => {
    const texts = [row.accuracy === null ? "unknown" : percent(row.accuracy), row.seconds === null ? "unknown" : `${threeDigits(row.seconds)} s (${row.method})`,
                   row.memory_bytes === null ? "unknown" : `${Number((row.memory_bytes / 2 ** 20).toPrecision(3)).toLocaleString("en-US")} MiB`,
                   row.verdict + (index === best ? " ◀ best" : ""), row.reason];
    texts.forEach((text, k) => { body.rows[index].cells[k + 3].textContent = text; });
    body.rows[index].classList.toggle("is-least", index === best);
  });
  const count = (verdict) => rows.filter((row) => row.verdict === verdict).length;
  document.getElementById("device-answer").textContent = (best === null ? `Nothing is known to be feasible on ${name}` : `Best on ${name}: ${rows[best].arm} (${rows[best].engine}, ${rows[best].format})`)
    + `. ${count("feasible")} feasible, ${count("infeasible")} not, ${count("unknown")} could not be judged.`;
}

for (const input of document.querySelectorAll("#device input, #device select")) input.addEventListener("input", drawDevice);
