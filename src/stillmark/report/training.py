"""How training went, arm by arm: a table, and one line a job."""

from collections.abc import Mapping
from typing import Any

from stillmark.analysis.training_rows import ALL_STEPS, part_rows, trained_job
from stillmark.records import Store
from stillmark.report import words
from stillmark.report.table import Column, Table, number, word

PART_TITLES = {
    "train": "student, forward and backward",
    "teacher_forward": "teacher, forward",
    "generate_student": "student, writing its own replies",
    ALL_STEPS: "all",
}


def training_table(conclusion: Mapping[str, Any]) -> Table:
    """Tokens, FLOPs, seconds and MFU of each part of each arm's steps."""
    columns = (
        Column(name="arm", title="Arm", is_number=False),
        Column(name="part", title="Part of its steps", is_number=False),
        Column(name="jobs", title="Jobs"),
        Column(name="tokens", title="Tokens"),
        Column(name="flops", title="FLOPs (counted)"),
        Column(name="seconds", title="Wall time (measured)"),
        Column(name="cpu_seconds", title="CPU time (measured)"),
        Column(name="matmul_flops_per_second", title="Matmul peak (measured)"),
        Column(name="mfu", title="MFU"),
    )
    rows = [
        (
            word(row["arm"]), word(PART_TITLES[row["part"]]), number(row["jobs"], str(row["jobs"])),
            number(row["tokens"], words.count(row["tokens"])), number(row["flops"], words.quantity(row["flops"])),
            number(row["seconds"], words.seconds(row["seconds"])),
            number(row["cpu_seconds"], words.seconds(row["cpu_seconds"])),
            number(row["matmul_flops_per_second"], words.quantity(row["matmul_flops_per_second"], "FLOP/s")),
            number(row["mfu"], words.percent(row["mfu"])),
        )
        for row in conclusion.get("training", ())
    ]  # fmt: skip
    return Table(
        name="training",
        title="How fast training went",
        columns=columns,
        rows=tuple(rows),
        note="Over all seeds; tokens of all parts are those trained on. MFU: FLOPs as run, padding and recomputation "
        "included, over what this machine's float32 matmul, measured when each job began, would have done in the wall "
        "time. Where other work shared the cores, wall time holds that too.",
    )


def training_line(name: str, store: Store, job_key: str) -> str | None:
    """What a training job took, in one line; None where nothing of it is recorded."""
    job = trained_job(store, job_key)
    if job is None:
        return None
    row = part_rows([job])[-1]
    peak = row["matmul_flops_per_second"]
    of = f" of {words.quantity(peak, 'FLOP/s')}" if peak else ""
    return (
        f"{name}: {words.count(row['tokens'])} tokens, {words.flops(row['flops'])} in {words.seconds(row['seconds'])}, "
        f"MFU {words.percent(row['mfu'])}{of} (float32 matmul, measured)"
    )
