"""What the ledger holds of replies as they were run (evaluate/counts.py), held to the replies themselves.

The engine runs what prompts share once and pads what it attends to side by side, so the FLOPs of a run follow from no
formula over its replies. What can be held is a floor: no run of these replies through so many positions takes less.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stillmark.analysis.lineage import Lineage
from stillmark.compute.flops import generate_flops, keys_read_by_steps, spared_prefill_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.plan import Job
from stillmark.records import LedgerEntry, SampleRecord, Store
from stillmark.report.checks import label


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One row that the engine ran: a prompt, by any name that equal prompts share, and how many tokens follow it."""

    prompt: str
    prompt_tokens: int
    new_tokens: int


def tokens_of(rows: Iterable[RunRow]) -> int:
    return sum(row.prompt_tokens + row.new_tokens for row in rows)


def positions_run(entries: Iterable[LedgerEntry]) -> int | None:
    """Positions of entries that hold a run; None where all hold what answers take by themselves."""
    known = [entry.positions for entry in entries if entry.positions is not None]
    return sum(known) if known else None


def least_flops(shape: ModelShape, positions: int, rows: Sequence[RunRow]) -> int:
    """What these rows take at least in so many positions.

    Every position goes through the layers but what a prompt is spared of the last one (`spared_prefill_flops`). The
    head runs once a prompt and once a later token, each of which sees the keys before it.
    """
    steps = sum(row.new_tokens - 1 for row in rows)
    scored = len({row.prompt for row in rows}) + steps
    weights = 2 * (positions * shape.inner_matmul_params + scored * shape.head.matmul_params)
    spared = spared_prefill_flops(shape, prompt_tokens=max(0, positions - scored) + 1)
    attention = sum(
        layer.attention.flops_per_key
        * keys_read_by_steps(row.prompt_tokens, row.new_tokens - 1, layer.attention.window)
        for layer in shape.layers
        for row in rows
    )
    return weights - spared + attention


def flops_fault(store: Store, lineage: Lineage, job: Job, samples: list[SampleRecord]) -> list[str]:
    """The ledger's FLOPs and tokens of generation and evaluation: as they were run, else each answer by itself."""
    shape, entries = lineage.plan.shape(job.arm), store.ledger(job.key)
    recorded = (sum(entry.flops or 0 for entry in entries), sum(entry.tokens or 0 for entry in entries))
    positions = positions_run(entries)
    if positions is not None:
        rows = rows_run(job, samples)
        least = least_flops(shape, positions, rows)
        tokens = tokens_of(rows)
        if recorded[0] >= least and recorded[1] == tokens:
            return []
        return [
            f"{label(job)}: recorded {recorded[0]:,} FLOPs of {recorded[1]:,} tokens; at least {least:,} of {tokens:,}"
        ]
    flops = sum(generate_flops(shape, prompt_tokens=sample.prompt_tokens, new_tokens=sample.generated_tokens)
                for sample in samples)  # fmt: skip
    tokens = sum(sample.prompt_tokens + sample.generated_tokens for sample in samples)
    if recorded == (flops, tokens):
        return []
    return [
        f"{label(job)}: recorded {recorded[0]:,} FLOPs of {recorded[1]:,} tokens, counted {flops:,} of {tokens:,}"
    ]


def rows_run(job: Job, samples: list[SampleRecord]) -> list[RunRow]:
    """What the engine ran for the samples: at temperature 0 a prompt's one text, and nothing for a prompt too long."""
    is_greedy = job.stage == "evaluate" or job.inputs["traces"]["temperature"] == 0
    return [
        RunRow(prompt=sample.item_id, prompt_tokens=sample.prompt_tokens, new_tokens=sample.generated_tokens)
        for sample in samples
        if sample.stop_reason != "error" and not (is_greedy and sample.repeat)
    ]
