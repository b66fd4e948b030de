"""The conclusion's tables. Nothing is worked out here but sums of the ledger."""

from collections.abc import Mapping
from typing import Any

from stillmark.report import words
from stillmark.report.answer_costs import answer_costs_table
from stillmark.report.device import profiles_tables
from stillmark.report.ledger_tables import ledger_table, stages_table
from stillmark.report.overlap import overlap_table
from stillmark.report.quantised import quantised_tables
from stillmark.report.table import (
    Cell,
    Column,
    Table,
    limited_cells,
    limited_columns,
    number,
    text_columns,
    word,
)
from stillmark.report.training import training_table

OUTCOMES = ("correct", "wrong", "truncated", "unparsed", "error")


def tables_of(conclusion: Mapping[str, Any]) -> list[Table]:
    """All tables, in the order in which they are shown."""
    return [
        arms_table(conclusion),
        ratios_table(conclusion),
        differences_table(conclusion),
        size_claims_table(conclusion),
        levels_table(conclusion),
        outcomes_table(conclusion),
        overlap_table(conclusion),
        training_table(conclusion),
        stages_table(conclusion),
        curve_table(conclusion),
        *([answer_costs_table(conclusion)] if conclusion.get("answer_axes") else []),
        ledger_table(conclusion),
        *quantised_tables(conclusion),
        *profiles_tables(conclusion),
    ]


def arms_table(conclusion: Mapping[str, Any]) -> Table:
    columns = [
        Column(name="arm", title="Arm", is_number=False),
        Column(name="kind", title="Kind", is_number=False),
        Column(name="trained_on", title="Trained on", is_number=False),
        Column(name="params", title="Parameters"),
        *limited_columns("accuracy", "Accuracy (95% interval)"),
        *(Column(name=f"flops_{boundary}", title=f"FLOPs: {boundary}") for boundary in words.BOUNDARIES),
        Column(name="generated_tokens_per_answer", title="Tokens an answer"),
        Column(name="flops_per_answer", title="FLOPs an answer"),
    ]
    rows = []
    for arm in conclusion["arms"]:
        trained = f"{arm['text']}, {arm['loss'].replace('_', ' ')}"
        trained += f", from {arm['base']}" if arm["base"] else ""
        rows.append(
            (
                word(arm["arm"]),
                word(arm["kind"]),
                word(trained),
                number(arm["params"], words.count(arm["params"])),
                *limited_cells(arm["accuracy"], words.accuracy(arm["accuracy"])),
                *(number(arm["flops"][b], words.quantity(arm["flops"][b])) for b in words.BOUNDARIES),
                number(arm["generated_tokens"], f"{arm['generated_tokens']:.1f}"),
                number(arm["answer_flops"], words.quantity(arm["answer_flops"])),
            )
        )
    return Table(
        name="arms",
        title="Arms",
        columns=tuple(columns),
        rows=tuple(rows),
        note="Accuracy at the end of training, over all seeds. FLOPs: mean over seeds, counted, by boundary; "
        "each boundary holds the one before it.",
    )


def ratios_table(conclusion: Mapping[str, Any]) -> Table:
    """One row a student or control, accuracy and boundary."""
    names = ("arm", "role", "at", "boundary", "method")
    columns = [Column(name=name, title=name.capitalize(), is_number=False) for name in names]
    columns[2:2] = [Column(name="at_accuracy", title="Accuracy")]
    columns += [
        Column(name="ratio", title="Ratio"),
        Column(name="censored", title="", is_number=False),
        Column(name="bound", title=""),
        Column(name="ratio_low", title="95% interval"),
        Column(name="ratio_high", title=""),
        Column(name="vanilla_flops", title="Vanilla FLOPs"),
        Column(name="student_flops", title="Student FLOPs"),
        Column(name="reached_by", title="Reached by", is_number=False),
    ]
    rows = []
    for comparison in conclusion["comparisons"]:
        role = "control" if comparison["is_control"] else "student"
        for row in comparison["ratios"]:
            rows.append(
                (
                    word(comparison["arm"]),
                    word(role),
                    number(row["accuracy"], words.percent(row["accuracy"])),
                    word(row["at"]),
                    word(row["boundary"]),
                    word(row["method"]),
                    number(row["value"], words.ratio(row)),
                    Cell(value=row["censored"], text=""),
                    number(row["bound"], ""),
                    number(row["low"], words.ratio_limits(row)),
                    number(row["high"], ""),
                    number(row["vanilla_flops"], words.quantity(row["vanilla_flops"])),
                    number(row["student_flops"], words.quantity(row["student_flops"])),
                    Cell(value=row["reached_by"], text=row["reached_by"] or "none of them"),
                )
            )
    return Table(
        name="ratios",
        title="Compute ratio at equal accuracy",
        columns=tuple(columns),
        rows=tuple(rows),
        note="Compute that the vanilla family needs over that of the arm, at the arm's final accuracy and at "
        "the highest accuracy that both surely reach. Above 1, the arm needs less.",
    )


def differences_table(conclusion: Mapping[str, Any]) -> Table:
    """Students down, the others across: control, teacher, vanilla sizes."""
    found = {(row["first"], row["second"]): row["difference"] for row in conclusion.get("differences", [])}
    roles = {row["second"]: row["role"] for row in conclusion.get("differences", [])}
    columns = [Column(name="student", title="Student", is_number=False)]
    for other, role in roles.items():
        columns += limited_columns(
            f"less_{other}", f"less {other} ({role})" if role != other else f"less {other}"
        )
    rows = []
    for student in dict.fromkeys(first for first, _ in found):
        cells = [word(student)]
        for other in roles:
            difference = found.get((student, other))
            cells += limited_cells(difference, "" if difference is None else words.points(difference))
        rows.append(tuple(cells))
    return Table(
        name="differences",
        title="Students against the others, in points of accuracy",
        columns=tuple(columns),
        rows=tuple(rows),
        note="Accuracy of the student less that of the other on the same items, at "
        "the end of "
        "training, with 95% intervals over items and seeds.",
    )


def size_claims_table(conclusion: Mapping[str, Any]) -> Table:
    """Is a student on par with a vanilla model ten times its size?"""
    names = (("student", "Student"), ("vanilla", "Vanilla model"), ("task", "Task"))
    columns = text_columns(*names)
    columns += [
        Column(name="size_factor", title="Times its size"),
        *limited_columns("difference", "Difference in points (95% interval)"),
        Column(name="adjusted_p_value", title="p (Holm)"),
        Column(name="verdict", title="The claim is", is_number=False),
    ]  # fmt: skip
    rows = []
    for claim in conclusion.get("size_claims", []):
        compared = claim["comparison"]
        difference = compared["difference"] if compared else None
        p_value = compared["adjusted_p_value"] if compared else None
        rows.append(
            (
                word(claim["student"]), word(claim["vanilla"]), word(claim["task"]),
                number(claim["size_factor"], words.times(claim["size_factor"])),
                *limited_cells(difference, words.points(difference) if compared else "not tested"),
                number(p_value, "" if p_value is None else f"{p_value:.2g}"),
                Cell(value=claim["verdict"], text=claim["verdict"] or claim["note"] or words.UNKNOWN),
            )
        )  # fmt: skip
    return Table(name="size_claims", title='"On par with vanilla models ten times its size"', columns=tuple(columns),
                 rows=tuple(rows), note="Supported: better, or surely not worse by more than 2 points. Tie: surely "
                 "within 2 points. Contradicted: significantly worse. Intervals are over items and seeds.")  # fmt: skip


def levels_table(conclusion: Mapping[str, Any]) -> Table:
    levels = sorted({row["level"] for arm in conclusion["arms"] for row in arm["accuracy_by_level"]})
    columns = [Column(name="arm", title="Arm", is_number=False)]
    for level in levels:
        columns += limited_columns(f"accuracy_level_{level}", f"Level {level}")
    rows = []
    for arm in conclusion["arms"]:
        found = {row["level"]: row["accuracy"] for row in arm["accuracy_by_level"]}
        cells = [word(arm["arm"])]
        for level in levels:
            cells += limited_cells(found.get(level), words.accuracy(found.get(level)))
        rows.append(tuple(cells))
    return Table(
        name="levels",
        title="Accuracy by difficulty",
        columns=tuple(columns),
        rows=tuple(rows),
        note="Level: number of dependent steps in the question. 95% interval, clustered by item over seeds.",
    )


def outcomes_table(conclusion: Mapping[str, Any]) -> Table:
    columns = (
        Column(name="arm", title="Arm", is_number=False),
        *(Column(name=outcome, title=outcome.capitalize()) for outcome in OUTCOMES),
        Column(name="samples", title="Samples"),
    )
    rows = []
    for arm in conclusion["arms"]:
        counts = [arm["outcomes"].get(outcome, 0) for outcome in OUTCOMES]
        rows.append((word(arm["arm"]), *(number(n, words.count(n)) for n in [*counts, sum(counts)])))
    return Table(
        name="outcomes",
        title="How the answers ended",
        columns=columns,
        rows=tuple(rows),
        note="Each sample is in exactly one group. Truncated: the token limit came before an "
        "answer; unparsed: "
        "no answer could be read. Both count as wrong. Error: the harness failed; left out of the accuracy.",
    )


def curve_table(conclusion: Mapping[str, Any]) -> Table:
    columns = (
        Column(name="arm", title="Arm", is_number=False),
        Column(name="boundary", title="Boundary", is_number=False),
        Column(name="flops", title="FLOPs"),
        *limited_columns("accuracy", "Accuracy (95% band)"),
    )
    rows = [
        (
            word(arm["arm"]),
            word(boundary),
            number(point["flops"], words.quantity(point["flops"])),
            *limited_cells(point, words.accuracy({**point, "value": point["accuracy"]}), value="accuracy"),
        )
        for arm in conclusion["arms"]
        for boundary in words.BOUNDARIES
        for point in arm["curve"][boundary]
    ]
    return Table(
        name="curve",
        title="The curve's points",
        columns=columns,
        rows=tuple(rows),
        note="Mean accuracy over seeds as measured at each checkpoint, with its pointwise "
        "95% band (bootstrap over items "
        "and seeds).",
    )
