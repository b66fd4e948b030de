"""The tables of public benchmarks: how right each arm is, what an answer takes, and who is better than whom."""

from collections.abc import Mapping
from typing import Any

from stillmark.report import words
from stillmark.report.table import Column, Table, limited_cells, limited_columns, number, text_columns, word

OUTCOMES = ("truncated", "unparsed", "error")
WHO = (("arm", "Arm"), ("benchmark", "Benchmark"))


def benchmark_tables(conclusion: Mapping[str, Any]) -> list[Table]:
    """Accuracy, costs, differences, and where all checkpoints are asked ratios and curve; none without a benchmark."""
    found = conclusion.get("benchmarks")
    if not found:
        return []
    along = [ratios_table(found), curve_table(found)] if found["curve"] else []
    return [accuracy_table(found), costs_table(found), benchmark_differences_table(found), *along]


def accuracy_table(found: Mapping[str, Any]) -> Table:
    columns = [*text_columns(*WHO), *limited_columns("accuracy", "Accuracy")]
    columns += [Column(name="chance", title="By guessing"), Column(name="num_items", title="Items"),
                Column(name="num_runs", title="Seeds")]  # fmt: skip
    columns += [Column(name=name, title=name.capitalize()) for name in OUTCOMES]
    rows = [
        (
            word(row["arm"]), word(row["benchmark"]),
            *limited_cells(row["accuracy"], words.accuracy(row["accuracy"])),
            number(row["chance"], "open answers" if row["chance"] is None else words.percent(row["chance"])),
            number(row["num_items"], words.count(row["num_items"])), number(row["num_runs"], str(row["num_runs"])),
            *(number(row["outcomes"].get(name, 0), words.count(row["outcomes"].get(name, 0))) for name in OUTCOMES),
        )
        for row in found["results"]
    ]  # fmt: skip
    return Table(name="benchmarks", title="Accuracy on public benchmarks", columns=tuple(columns), rows=tuple(rows),
                 note="The last checkpoint, asked greedily, each with its own tokenizer and chat template; 95% "
                 "intervals over items and seeds. Truncated and "
                 "unparsed replies are not correct; errors are the harness's and in no accuracy.")  # fmt: skip


def costs_table(found: Mapping[str, Any]) -> Table:
    columns = [*text_columns(*WHO), Column(name="answer_tokens", title="Tokens written"),
               Column(name="answer_flops", title="FLOPs an answer"),
               Column(name="flops_per_correct", title="FLOPs a correct answer"),
               Column(name="answer_usd", title="USD an answer"),
               Column(name="usd_per_correct", title="USD a correct answer"),
               Column(name="answer_seconds", title="Seconds an answer")]  # fmt: skip
    rows = [
        (
            word(row["arm"]), word(row["benchmark"]),
            number(row["generated_tokens"], plainly(row["generated_tokens"], ".1f")),
            *(number(row[name], words.quantity(row[name])) for name in ("answer_flops", "flops_per_correct")),
            *(number(row[name], plainly(row[name], ".3g")) for name in ("answer_usd", "usd_per_correct")),
            number(row["answer_seconds"], words.seconds(row["answer_seconds"])),
        )
        for row in found["results"]
    ]  # fmt: skip
    return Table(name="benchmark_costs", title="What an answer takes", columns=tuple(columns), rows=tuple(rows),
                 note="Means over replies. FLOPs: counted, the prompt read anew for each answer; of a correct answer, "
                 "those of all over the correct ones. USD: an endpoint's, from the price list; unknown for models run "
                 "here. Seconds: measured in batches here, or at the endpoint with the way there.")  # fmt: skip


def plainly(value: float | None, spec: str) -> str:
    return words.UNKNOWN if value is None else format(value, spec)


def benchmark_differences_table(found: Mapping[str, Any]) -> Table:
    titles = (("arm", "Arm"), ("benchmark", "Benchmark"), ("other", "Against"), ("role", "Which is its"))
    columns = text_columns(*titles)
    columns += [*limited_columns("difference", "Points of accuracy"),
                Column(name="told_apart", title="Shown", is_number=False)]  # fmt: skip
    rows = [
        (*(word(row[name]) for name, _ in titles),
         *limited_cells(row["difference"], words.points(row["difference"])), word(told_apart(row["difference"])))
        for row in found["differences"]
    ]  # fmt: skip
    return Table(name="benchmark_differences", title="Differences on public benchmarks", columns=tuple(columns),
                 rows=tuple(rows),
                 note="Accuracy of the arm less the other's, paired by item and seed, with 95% intervals. Better or "
                 "worse is said where the whole interval lies on one side of 0; not corrected for the number of "
                 "lines.")  # fmt: skip


def ratios_table(found: Mapping[str, Any]) -> Table:
    titles = (("student", "Student"), ("benchmark", "Benchmark"), ("other", "Against"), ("at", "At equal accuracy of"),
              ("boundary", "Boundary"))  # fmt: skip
    columns = text_columns(*titles)
    columns += [Column(name="accuracy", title="Accuracy"), Column(name="ratio", title="Compute ratio"),
                Column(name="ratio_low", title="95% interval"), Column(name="ratio_high", title="")]  # fmt: skip
    rows = [
        (*(word(row[name]) for name, _ in titles), number(row["accuracy"], words.percent(row["accuracy"])),
         number(row["value"], words.ratio(row)), number(row["low"], words.ratio_limits(row)),
         number(row["high"], ""))
        for row in found["ratios"] if row["text"] != words.UNKNOWN
    ]  # fmt: skip
    return Table(name="benchmark_ratios", title="Compute ratio at equal accuracy", columns=tuple(columns),
                 rows=tuple(rows),
                 note="The other's compute over the student's, where either side ends, as far as all its seeds went. "
                 "Above 1, the student needs less. Boundaries that hold what a given model took to make are unknown "
                 "and left out.")  # fmt: skip


def curve_table(found: Mapping[str, Any]) -> Table:
    columns = [
        *text_columns(*WHO),
        Column(name="checkpoint", title="Checkpoint"),
        Column(name="training_tokens", title="Tokens trained on"),
    ]
    columns += [Column(name=f"flops_{b}", title=f"FLOPs: {b}") for b in words.BOUNDARIES]
    columns += limited_columns("accuracy", "Accuracy")
    rows = [
        (word(row["arm"]), word(row["benchmark"]), number(row["checkpoint"], str(row["checkpoint"])),
         number(row["tokens"], words.count(row["tokens"])),
         *(number(row["flops"][b], words.quantity(row["flops"][b])) for b in words.BOUNDARIES),
         *limited_cells(row["accuracy"], words.accuracy(row["accuracy"])))
        for row in found["curve"]
    ]  # fmt: skip
    return Table(name="benchmark_curve", title="Accuracy along training", columns=tuple(columns), rows=tuple(rows),
                 note="At each checkpoint, with 95% intervals over items and seeds; FLOPs are means.")  # fmt: skip


def benchmark_measures(conclusion: Mapping[str, Any]) -> dict[str, str]:
    """What the page's chart can show of benchmarks beside the text's measures: by key, in words."""
    found = conclusion.get("benchmarks") or {"curve": []}
    names = dict.fromkeys(row["benchmark"] for row in found["curve"])
    return {measure_key(name): f"accuracy on {name}" for name in names}


def measure_key(benchmark: str) -> str:
    return f"accuracy:{benchmark}"


def charted(conclusion: Mapping[str, Any], arm: Mapping[str, Any]) -> dict[str, Any]:
    """An arm's `curve` and `scores` as the chart reads them, with its accuracies among the measures."""
    found = conclusion.get("benchmarks") or {"curve": [], "results": []}
    curve = [dict(point) for point in arm["curve"]]
    for row in found["curve"]:
        if row["arm"] == arm["arm"]:
            curve[row["checkpoint"]][measure_key(row["benchmark"])] = row["accuracy"]
    scores = {
        measure_key(row["benchmark"]): row["accuracy"] for row in found["results"] if row["arm"] == arm["arm"]
    }
    return {"curve": curve, "scores": {**arm["scores"], **scores}}


def others_of(conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Models that are no arms: what they reach, drawn as a level."""
    arms = {arm["arm"] for arm in conclusion["arms"]}
    found = conclusion.get("benchmarks") or {"results": []}
    return [{"name": row["arm"], "measure": measure_key(row["benchmark"]), "value": row["accuracy"]["value"]}
            for row in found["results"] if row["arm"] not in arms and row["accuracy"]]  # fmt: skip


def told_apart(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return words.UNKNOWN
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "not told apart"


def benchmark_lines(conclusion: Mapping[str, Any], student: str, other: str) -> list[str]:
    """What the answer says of a student and of the arm that it is held against: one line a benchmark."""
    found = conclusion.get("benchmarks") or {"results": [], "differences": []}
    lines = []
    for row in found["differences"]:
        if (row["arm"], row["other"]) != (student, other):
            continue
        sides = {side["arm"]: side for side in found["results"] if side["benchmark"] == row["benchmark"]}
        one, second = (words.accuracy(sides[arm]["accuracy"]) for arm in (student, other))
        chance = sides[student]["chance"]
        guessed = f", where guessing gives {words.percent(chance)}" if chance is not None else ""
        lines.append(
            f"On {row['benchmark']} ({words.count(sides[student]['num_items'])} items{guessed}) {student} is right on "
            f"{one} and {other} on {second}: {words.points(row['difference'])} points, {told_apart(row['difference'])}."
        )
    return lines
