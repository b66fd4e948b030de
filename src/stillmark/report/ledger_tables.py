"""The ledger as tables: by stage, and job by job."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from stillmark.report import words
from stillmark.report.table import Cell, Column, Table, number, word


def stages_table(conclusion: Mapping[str, Any]) -> Table:
    """The ledger by arm and part, over seeds and checkpoints."""
    sums: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in conclusion["ledger"]:
        sums[row["arm"], row["part"]].append(row)
    columns = (
        Column(name="arm", title="Arm", is_number=False),
        Column(name="part", title="Stage", is_number=False),
        Column(name="jobs", title="Jobs"),
        Column(name="flops", title="FLOPs"),
        Column(name="method", title="FLOPs are", is_number=False),
        Column(name="tokens", title="Tokens"),
        Column(name="cpu_seconds", title="CPU time (measured)"),
        Column(name="seconds", title="Wall time (measured)"),
        Column(name="joules", title="Joules"),
    )
    rows = []
    for (arm, part), group in sums.items():
        flops, tokens, cpu, wall, joules = (
            known_sum(group, n) for n in ("flops", "tokens", "cpu_seconds", "seconds", "joules")
        )
        methods = " and ".join(sorted({method for row in group for method in row["methods"]}))
        jobs = len({row["key"] for row in group})
        rows.append(
            (
                word(arm),
                word(part.replace("_", " ")),
                number(jobs, str(jobs)),
                number(flops, words.quantity(flops)),
                word(methods),
                number(tokens, words.count(tokens)),
                number(cpu, words.seconds(cpu)),
                number(wall, words.seconds(wall)),
                number(joules, words.quantity(joules)),
            )
        )
    return Table(
        name="stages",
        title="The ledger by stage",
        columns=columns,
        rows=tuple(rows),
        note="Sums over all seeds and checkpoints; a sum with an unknown part is unknown. "
        "Wall time is of each process; several may have run at once. Joules: of the whole machine by its counters, "
        "unknown where none could be read or several jobs ran at once. Evaluation is in no boundary. "
        "FLOPs are of what was run, what prompts share once: not the sum of what answers take by themselves.",
    )


def known_sum(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row.get(name) for row in rows]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def ledger_table(conclusion: Mapping[str, Any]) -> Table:
    names = (
        "key",
        "stage",
        "part",
        "arm",
        "seed",
        "checkpoint",
        "flops",
        "predicted_flops",
        "methods",
        "tokens",
        "seconds",
        "cpu_seconds",
        "joules",
        "joules_source",
        "device",
    )
    texts = {"key", "stage", "part", "arm", "methods", "joules_source", "device"}
    titles = {
        "flops": "FLOPs",
        "predicted_flops": "Predicted FLOPs of the whole job",
        "cpu_seconds": "CPU seconds",
    }
    columns = tuple(
        Column(
            name=name,
            title=titles.get(name, name.replace("_", " ").capitalize()),
            is_number=name not in texts,
        )
        for name in names
    )
    rows = []
    for entry in conclusion["ledger"]:
        row = {**entry, "methods": " and ".join(entry["methods"])}
        rows.append(tuple(Cell(value=row.get(name), text=ledger_text(name, row.get(name))) for name in names))
    return Table(
        name="ledger",
        title="The ledger, job by job",
        columns=columns,
        rows=tuple(rows),
        note="One line for each part of a job. Predicted FLOPs are the plan's for the whole job, before anything was "
        "run: the same on each of its lines, not to be added up over them.",
    )


def ledger_text(name: str, value: Any) -> str:
    if name == "checkpoint" and value is None:
        return "none"
    if name == "joules_source" and value is None:
        return words.UNKNOWN
    if name in ("flops", "predicted_flops", "joules"):
        return words.quantity(value)
    if name in ("seconds", "cpu_seconds"):
        return words.seconds(value)
    return words.count(value) if name == "tokens" else str(value)
