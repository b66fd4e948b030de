"""The tables of a text study's conclusion. Nothing is worked out here but sums of the ledger."""

from collections.abc import Mapping
from typing import Any

from stillmark.report import text_words, words
from stillmark.report.benchmarks import benchmark_tables
from stillmark.report.device import profiles_tables
from stillmark.report.ledger_tables import ledger_table, stages_table
from stillmark.report.quantised import quantised_tables
from stillmark.report.table import Cell, Column, Table, number, text_columns, word
from stillmark.report.text_words import COMPARED, HEADINGS, MEASURES, TITLES
from stillmark.report.training import training_table

NOTHING = {"value": None, "low": None, "high": None}


def text_tables_of(conclusion: Mapping[str, Any]) -> list[Table]:
    """All tables, in the order in which they are shown."""
    return [
        arms_table(conclusion),
        sources_table(conclusion),
        seeds_table(conclusion),
        differences_table(conclusion),
        along_table(conclusion),
        ratios_table(conclusion),
        matched_table(conclusion),
        gap_table(conclusion),
        training_table(conclusion),
        stages_table(conclusion),
        curve_table(conclusion),
        ledger_table(conclusion),
        *benchmark_tables(conclusion),
        *quantised_tables(conclusion),
        *profiles_tables(conclusion),
    ]


def measure_columns(names: tuple[str, ...] = MEASURES) -> list[Column]:
    """A measure's value with its interval, and its limits for the CSV."""
    columns = []
    for name in names:
        columns.append(Column(name=name, title=HEADINGS[name]))
        columns += [Column(name=f"{name}_{end}", title="") for end in ("low", "high")]
    return columns


def measure_cells(row: Mapping[str, Any], names: tuple[str, ...] = MEASURES) -> list[Cell]:
    cells = []
    for name in names:
        known = row[name] or NOTHING
        cells.append(number(known["value"], text_words.estimate(name, row[name])))
        cells += [number(known[end], "") for end in ("low", "high")]
    return cells


def difference_cells(row: Mapping[str, Any]) -> list[Cell]:
    cells = []
    for name in COMPARED:
        known = row[name] or NOTHING
        cells.append(number(known["value"], text_words.difference(row[name])))
        cells += [number(known[end], "") for end in ("low", "high")]
    return cells


def arms_table(conclusion: Mapping[str, Any]) -> Table:
    columns = text_columns(("arm", "Arm"), ("role", "Role"), ("learns", "Learns from"))
    columns += [Column(name="params", title="Parameters"), *measure_columns()]
    columns += [Column(name=f"flops_{b}", title=f"FLOPs: {b}") for b in words.BOUNDARIES]
    columns += [Column(name="training_tokens", title="Tokens trained on")]
    rows = []
    for arm in conclusion["arms"]:
        learns = f"{arm['text']}, {arm['loss'].replace('_', ' ')}" if arm["loss"] else "given as it is"
        learns += f", from {arm['teacher']}" if arm["teacher"] else ""
        rows.append(
            (
                word(arm["arm"]), word(arm["role"]), word(learns), number(arm["params"], words.count(arm["params"])),
                *measure_cells(arm["scores"]),
                *(number(arm["flops"][b], words.quantity(arm["flops"][b])) for b in words.BOUNDARIES),
                number(arm["tokens"], "none" if arm["loss"] is None else words.count(arm["tokens"])),
            )
        )  # fmt: skip
    tokenizers = text_words.tokenizer_note(conclusion["arms"])
    return Table(name="arms", title="Arms", columns=tuple(columns), rows=tuple(rows),
                 note="At the end of training, over all held-out sequences and seeds, with 95% intervals; less is "
                 f"better. {tokenizers}FLOPs: mean over seeds, counted, by boundary; unknown where a given model's "
                 "making would count.")  # fmt: skip


def sources_table(conclusion: Mapping[str, Any]) -> Table:
    columns = [*text_columns(("arm", "Arm"), ("source", "Source")), Column(name="sequences", title="Sequences"),
               *measure_columns()]  # fmt: skip
    rows = [
        (word(arm["arm"]), word(row["source"]), number(row["sequences"], words.count(row["sequences"])),
         *measure_cells(row))
        for arm in conclusion["arms"]
        for row in arm["by_source"]
    ]  # fmt: skip
    return Table(name="sources", title="By source of the held-out text", columns=tuple(columns), rows=tuple(rows),
                 note="At the end of training, with 95% intervals; one sequence alone has none.")  # fmt: skip


def seeds_table(conclusion: Mapping[str, Any]) -> Table:
    columns = text_columns(("arm", "Arm"), ("seed", "Seed"))
    columns += [Column(name=name, title=HEADINGS[name]) for name in MEASURES]
    rows = []
    for arm in conclusion["arms"]:
        for row in arm["by_seed"]:
            seed = Cell(
                value=row["seed"], text="any (given model)" if row["seed"] is None else str(row["seed"])
            )
            rows.append((word(arm["arm"]), seed,
                         *(number(row[name], text_words.value(name, row[name])) for name in MEASURES)))  # fmt: skip
    return Table(name="seeds", title="By seed", columns=tuple(columns), rows=tuple(rows),
                 note="At the end of training, over all held-out sequences.")  # fmt: skip


def differences_table(conclusion: Mapping[str, Any]) -> Table:
    """Students against the others: at the end, over all text and by source, and at equal compute."""
    columns = text_columns(
        ("student", "Student"), ("other", "Against"), ("role", ""), ("when", "When"), ("source", "Source")
    )
    columns += measure_columns(COMPARED)
    rows = []
    for pair in conclusion["pairs"]:
        head = (word(pair["student"]), word(pair["other"]), word(pair["role"]))
        for boundary in words.BOUNDARIES:
            if pair["along"][boundary]:
                at = pair["along"][boundary][-1]
                when = f"at equal compute, {words.flops(at['flops'])} (boundary {boundary})"
                rows.append((*head, word(when), word("all"), *difference_cells(at)))
        rows.append((*head, word("at the end of training"), word("all"), *difference_cells(pair["final"])))
        for row in pair["final_by_source"]:
            rows.append((*head, word("at the end of training"), word(row["source"]), *difference_cells(row)))
    return Table(name="differences", title="Students less the others", columns=tuple(columns), rows=tuple(rows),
                 note="Differences with 95% intervals: below 0 the student is better. Paired by sequence and "
                 "seed. Equal compute: the most that both sides reach within the boundary.")  # fmt: skip


def along_table(conclusion: Mapping[str, Any]) -> Table:
    columns = text_columns(("student", "Student"), ("other", "Against"), ("boundary", "Boundary"))
    columns += [
        Column(name="flops", title="FLOPs each"),
        *measure_columns(COMPARED),
    ]
    rows = [
        (word(pair["student"]), word(pair["other"]), word(boundary),
         number(row["flops"], words.quantity(row["flops"])), *difference_cells(row))
        for pair in conclusion["pairs"]
        for boundary in words.BOUNDARIES
        for row in pair["along"][boundary]
    ]  # fmt: skip
    return Table(name="along", title="Differences at equal compute, along the curve", columns=tuple(columns),
                 rows=tuple(rows), note="Student less other, 95% intervals: below 0 the student is better. "
                 "Between checkpoints each side is interpolated "
                 "in log compute; boundaries and compute that one side lacks are left out.")  # fmt: skip


def ratios_table(conclusion: Mapping[str, Any]) -> Table:
    columns = text_columns(
        ("student", "Student"), ("other", "Against"), ("measure", "At equal"), ("at", "Where")
    )
    columns += [Column(name="quality", title="Value there")]
    columns += text_columns(("boundary", "Boundary"))
    columns += [Column(name="ratio", title="Ratio"), Column(name="censored", title="", is_number=False),
                Column(name="bound", title=""), Column(name="ratio_low", title="95% interval"),
                Column(name="ratio_high", title=""), Column(name="other_flops", title="Other's FLOPs"),
                Column(name="student_flops", title="Student's FLOPs")]  # fmt: skip
    columns += text_columns(("method", "Method"))
    rows = []
    for pair in conclusion["pairs"]:
        for row in pair["ratios"]:
            limits = "unknown" if row["text"] == words.UNKNOWN else words.ratio_limits(row)
            rows.append(
                (
                    word(pair["student"]), word(pair["other"]), word(TITLES[row["measure"]]), word(row["at"]),
                    number(row["quality"], text_words.value(row["measure"], row["quality"])), word(row["boundary"]),
                    number(row["value"], text_words.ratio(row)), Cell(value=row["censored"], text=""),
                    number(row["bound"], ""), number(row["low"], limits), number(row["high"], ""),
                    number(row["other_flops"], words.quantity(row["other_flops"])),
                    number(row["student_flops"], words.quantity(row["student_flops"])), word(row["method"]),
                )
            )  # fmt: skip
    return Table(name="ratios", title="Compute ratio at equal quality", columns=tuple(columns), rows=tuple(rows),
                 note="Compute that the other needs over the student's, where either side ends, as far as all its "
                 "seeds went. Above 1, the student needs less. > or <: one side never gets there within its budget, or "
                 "is there at its first checkpoint; nothing is extrapolated.")  # fmt: skip


def matched_table(conclusion: Mapping[str, Any]) -> Table:
    columns = text_columns(
        ("student", "Student"), ("other", "Against"), ("match", "Matched"), ("boundary", "Boundary")
    )
    columns += [Column(name="student_flops", title="Student's FLOPs"),
                Column(name="other_flops", title="Other's FLOPs"),
                Column(name="student_tokens", title="Student's tokens"),
                Column(name="other_tokens", title="Other's tokens"),
                Column(name="student_steps", title="Student's steps"),
                Column(name="other_steps", title="Other's steps"),
                Column(name="other_over_student", title="Other over student")]  # fmt: skip
    rows = []
    for pair in conclusion["pairs"]:
        spent = pair["spent"]
        for boundary in words.BOUNDARIES:
            first, second = spent["student"]["flops"][boundary], spent["other"]["flops"][boundary]
            is_matched = boundary == spent["boundary"]
            apart = spent["other_over_student"] if is_matched else None
            rows.append(
                (
                    word(pair["student"]), word(pair["other"]),
                    word(pair["match"] and pair["match"].replace("_", " ")), word(boundary),
                    number(first, words.flops(first)), number(second, words.flops(second)),
                    *(number(spent[side].get(unit), words.count(spent[side].get(unit)))
                      for unit in ("tokens", "steps") for side in ("student", "other")),  # older ones say no steps
                    number(apart, f"{apart:.4f} ({spent['unit']})" if apart is not None else ""),
                )
            )  # fmt: skip
    return Table(name="matched", title="What both sides spent", columns=tuple(columns), rows=tuple(rows),
                 note="To the end of training, counted, mean over seeds. Other over student: of what was to be "
                 "matched, under the boundary in which it is.")  # fmt: skip


def gap_table(conclusion: Mapping[str, Any]) -> Table:
    columns = [*text_columns(("arm", "Arm"), ("measure", "Measure")),
               Column(name="share", title="Share of the gap closed (95% interval)"),
               Column(name="share_low", title=""), Column(name="share_high", title="")]  # fmt: skip
    rows = []
    for arm in conclusion["arms"]:
        for measure, gap in (arm["gap"] or {}).items():
            known = gap["estimate"] or NOTHING
            text = text_words.share(gap["estimate"]) if gap["estimate"] else f"unknown: {gap['reason']}"
            rows.append((word(arm["arm"]), word(TITLES[measure]), number(known["value"], text),
                         number(known["low"], ""), number(known["high"], "")))  # fmt: skip
    return Table(name="gap", title=f"The way to {conclusion['judge'] or 'a teacher'}", columns=tuple(columns),
                 rows=tuple(rows), note="(First checkpoint less end) over (first checkpoint less teacher): each "
                 "arm's own first checkpoint, so arms whose first checkpoints differ start from "
                 "different points.")  # fmt: skip


def curve_table(conclusion: Mapping[str, Any]) -> Table:
    columns = text_columns(("arm", "Arm"))
    columns += [
        Column(name="checkpoint", title="Checkpoint"),
        Column(name="tokens", title="Tokens trained on"),
    ]
    columns += [Column(name=f"flops_{b}", title=f"FLOPs: {b}") for b in words.BOUNDARIES]
    columns += measure_columns()
    rows = [
        (word(arm["arm"]), number(point["checkpoint"], str(point["checkpoint"])),
         number(point["tokens"], "none" if arm["loss"] is None else words.count(point["tokens"])),
         *(number(point["flops"][b], words.quantity(point["flops"][b])) for b in words.BOUNDARIES),
         *measure_cells(point))
        for arm in conclusion["arms"]
        for point in arm["curve"]
    ]  # fmt: skip
    return Table(name="curve", title="The curve's points", columns=tuple(columns), rows=tuple(rows),
                 note="As measured at each checkpoint, over seeds, with 95% intervals; FLOPs: mean over "
                 "seeds.")  # fmt: skip
