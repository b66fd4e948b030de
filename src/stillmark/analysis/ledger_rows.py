"""The ledger as a conclusion holds it: one row a job and part."""

from typing import Any

from stillmark.analysis.lineage import Lineage
from stillmark.compute.ledger import total


def ledger_rows(lineage: Lineage) -> list[dict[str, Any]]:
    """One row a job: what it took in all, in the order in which it was done."""
    rows = []
    for job in lineage.plan.jobs.values():
        for part in sorted({entry.part for entry in lineage.store.ledger(job.key)}):
            entries = [entry for entry in lineage.store.ledger(job.key) if entry.part == part]
            amount = total(entries)
            rows.append(
                {
                    "key": job.key,
                    "stage": job.stage,
                    "part": part,
                    "arm": job.arm,
                    "seed": job.seed,
                    "checkpoint": job.checkpoint,
                    "flops": amount.flops,
                    "predicted_flops": job.predicted_flops,
                    "methods": sorted(amount.methods),
                    "tokens": amount.tokens,
                    "seconds": amount.seconds,
                    "cpu_seconds": amount.cpu_seconds,
                    "joules": amount.joules,
                    "joules_methods": sorted(
                        {entry.joules_method for entry in entries if entry.joules_method}
                    ),
                    "joules_source": "; ".join(
                        dict.fromkeys(filter(None, (entry.joules_source for entry in entries)))
                    )
                    or None,
                    "device": entries[0].device,
                }
            )
    return rows
