// What having an arm takes: the same sums as stillmark/analysis/worth.py, for the sliders.

function making(parts, boundary, students) {
  let sum = 0;
  for (const name of data.parts[boundary]) {
    const cost = parts[name === "teacher" && boundary === "everything" ? "teacher_beside_base" : name];
    if (cost === null) return null;
    sum += name === "teacher" ? cost / students : cost;
  }
  return sum;
}

function breakEven(first, second) { // as economics.break_even
  if ([first, second].some((way) => way.making === null || way.answer === null)) return {queries: null, before: null, after: null};
  const fixed = second.making - first.making, saved = first.answer - second.answer;
  let before = fixed > 0 ? first.arm : fixed < 0 ? second.arm : null;
  const after = saved < 0 ? first.arm : saved > 0 ? second.arm : before;
  if (before === null) before = after;
  return {queries: saved !== 0 && fixed / saved > 0 ? fixed / saved : null, before, after};
}

function worthRows({queries, students, boundary, resource}) {
  const ways = data.arms.map((arm) => ({arm: arm.arm, accuracy: arm.accuracy ? arm.accuracy.value : null,
    making: making(arm.worth[resource], boundary, students), answer: arm.worth[resource].answer}));
  const student = ways.find((way) => way.arm === data.student);
  return ways.map((way) => {
    const isKnown = way.making !== null && way.answer !== null;
    const total = isKnown ? way.making + queries * way.answer : null;
    return {...way, total, per_correct: isKnown && way.accuracy && queries ? total / (queries * way.accuracy) : null,
            against: student && way !== student ? breakEven(student, way) : null};
  });
}

function amount(value, resource) {
  if (value === null) return "unknown";
  if (resource === "flops") return quantity(value);
  return value >= 3600 ? quantity(value / 3600) + " h" : value >= 1 ? quantity(value) + " s" : (value * 1000).toPrecision(3) + " ms";
}


function meetingWords(against) {
  if (!against) return "";
  const {queries, before, after} = against, mine = (name) => name === data.student;
  if (before === null) return "unknown";
  if (queries === null) return mine(after) ? "student cheaper at any number" : "student dearer at any number";
  return mine(after) ? `student cheaper from ${plainly(queries)} answers on` : `student cheaper up to ${plainly(queries)} answers`;
}

function drawWorth() {
  const body = document.querySelector("#table-worth tbody");
  if (!body) return;
  const queries = 10 ** Number(document.querySelector("#queries").value);
  const students = data.students[Number(document.querySelector("#students").value)];
  const resource = document.querySelector("input[name=resource]:checked").value;
  document.querySelector("#queries-shown").textContent = plainly(queries);
  document.querySelector("#table-worth caption span").textContent = `Making and serving ${plainly(queries)} queries`;
  document.querySelector("#students-shown").textContent = String(students);
  const rows = worthRows({queries, students, boundary: state.boundary, resource});
  const least = Math.min(...rows.map((row) => row.per_correct ?? Infinity));
  rows.forEach((row, index) => {
    const cells = body.rows[index].cells;
    const texts = [amount(row.making, resource), amount(row.answer, resource), amount(row.total, resource),
                   amount(row.per_correct, resource) + (row.per_correct === least ? " ◀ least" : ""), meetingWords(row.against)];
    texts.forEach((text, k) => { cells[k + 2].textContent = text; });
    body.rows[index].classList.toggle("is-least", row.per_correct === least);
  });
  document.querySelector("#worth-boundary").textContent = state.boundary;
  drawSharedRatio(students);
}

function drawSharedRatio(students) { // values that Python worked out for each k
  const line = document.querySelector("#shared-ratio"), chosen = data.comparisons.find((row) => row.arm === data.student);
  if (!line || !chosen) return;
  const found = chosen.by_students.filter((row) => row.students === students);
  const words = found.map((row) => `${row.shown} (95%: ${row.limits}) under ${row.boundary}`);
  const many = students === 1 ? "With one student for the teacher" : `With ${students} students sharing the teacher`;
  line.textContent = words.length
    ? `${many}, vanilla compute over that of ${data.student} at ${percent(found[0].accuracy)} is ${words.join("; ")}.` : "";
}
