"""What the ledger holds of a run: FLOPs, tokens and positions as the engine ran them.

An answer's own cost (`SampleDetail.flops`, an answer's and a correct answer's FLOPs in reports) is what it takes by
itself, the prompt read anew. A run takes less: prefixes that prompts share, a prompt's many samples, samples at
temperature 0 and equal prompts are run once. So the two are not sums of one another.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from stillmark.backends.work import Work
from stillmark.compute.model_shape import ModelShape
from stillmark.records import SampleDetail, SampleRecord


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Columns of a `LedgerEntry`. None: unknown."""

    flops: int | None
    tokens: int | None
    positions: int | None = None


def counts_of_run(before: Work | None, after: Work | None, shape: ModelShape | None) -> Counts | None:
    """What was run between two readings of `Backend.work`, by a model of this shape (None: its FLOPs are unknown).

    None of an engine that does not tell: what its answers take each alone stands for it, and positions stay unknown.
    """
    if before is None or after is None:
        return None
    work = after - before
    flops = None if shape is None else work.flops(shape)
    return Counts(flops=flops, tokens=work.tokens, positions=work.positions)


def by_themselves(pairs: Iterable[tuple[SampleRecord, SampleDetail]]) -> Counts:
    """The sums of answers' own costs, without replies from the response cache, which were not run."""
    run = [(sample, detail) for sample, detail in pairs if not detail.is_cached]
    known = [detail.flops for _, detail in run if detail.flops is not None]
    return Counts(
        flops=sum(known) if len(known) == len(run) else None,
        tokens=sum(sample.prompt_tokens + sample.generated_tokens for sample, _ in run),
    )
