"""How training went as a conclusion holds it: tokens, FLOPs, seconds and the MFU of each part of an arm's steps.

MFU: the FLOPs of the ledger over what the machine's measured float32 matmul would have done in the same wall seconds.
The FLOPs are those that were run, padding and recomputation included. Measured when each job began, on its threads;
where a job went on upon another machine, or was not measured, the MFU is unknown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stillmark.analysis.lineage import Lineage
from stillmark.compute.ledger import total
from stillmark.records import LedgerEntry, Store
from stillmark.study.schema import QuantisedArm

STEP_PARTS = ("train", "teacher_forward", "generate_student")  # what an optimiser step is made of
ALL_STEPS = "all"


@dataclass(frozen=True, kw_only=True)
class TrainedJob:
    """One training job: its steps' ledger entries, and where it began."""

    entries: list[LedgerEntry]
    machine: Mapping[str, Any]

    @property
    def peak_flops_per_second(self) -> float | None:
        """Of the machine that did all of it; None where that is not known."""
        same = all(entry.device == self.machine.get("device") for entry in self.entries)
        return self.machine.get("matmul_flops_per_second") if same else None


def trained_job(store: Store, key: str) -> TrainedJob | None:
    """A training job's steps; None where none is recorded."""
    entries = [entry for entry in store.ledger(key) if entry.part in STEP_PARTS]
    machine = next((record.provenance for record in store.jobs() if record.key == key), None)
    return TrainedJob(entries=entries, machine=machine) if entries and machine is not None else None


def training_rows(lineage: Lineage) -> list[dict[str, Any]]:
    """One row an arm and part of its steps, over seeds; then one of all parts."""
    rows = []
    for arm, spec in lineage.study.arms.items():
        if spec.recipe is None or isinstance(spec, QuantisedArm):
            continue  # nothing was trained for it
        keys = dict.fromkeys(lineage.plan.train_keys[arm, seed] for seed in lineage.study.seeds)
        jobs = [job for key in keys if (job := trained_job(lineage.store, key)) is not None]
        rows += [{"arm": arm, **row} for row in part_rows(jobs)]
    return rows


def part_rows(jobs: list[TrainedJob]) -> list[dict[str, Any]]:
    """Each part that these jobs have, and all of them; the tokens of all are those that were trained on."""
    parts = [part for part in STEP_PARTS if any(entry.part == part for job in jobs for entry in job.entries)]
    rows = [part_row(part, jobs, {part}) for part in parts]
    return [*rows, {**part_row(ALL_STEPS, jobs, set(parts)), "tokens": rows[0]["tokens"]}] if rows else []


def part_row(name: str, jobs: list[TrainedJob], parts: set[str]) -> dict[str, Any]:
    chosen = [[entry for entry in job.entries if entry.part in parts] for job in jobs]
    amount = total(entry for entries in chosen for entry in entries)
    possible = [possible_flops(entries, job.peak_flops_per_second)
                for entries, job in zip(chosen, jobs, strict=True)]  # fmt: skip
    known = [flops for flops in possible if flops is not None]
    is_known = amount.flops is not None and len(known) == len(possible) and sum(known) > 0
    return {
        "part": name,
        "jobs": len(jobs),
        "devices": sorted({entry.device for entries in chosen for entry in entries}),
        "tokens": amount.tokens,
        "flops": amount.flops,
        "seconds": amount.seconds,
        "cpu_seconds": amount.cpu_seconds,
        "matmul_flops_per_second": sum(known) / amount.seconds if is_known and amount.seconds else None,
        "mfu": amount.flops / sum(known) if is_known else None,  # type: ignore[operator]
    }


def possible_flops(entries: Iterable[LedgerEntry], peak_flops_per_second: float | None) -> float | None:
    """What the peak would have done in the entries' seconds."""
    seconds = total(entries).seconds
    return None if seconds is None or peak_flops_per_second is None else seconds * peak_flops_per_second
