"""What a text study's models make of the held-out sequences, as arrays, and the measures that are worked out of them.

    bits per byte    sum of -log2 P(text) / sum of its UTF-8 bytes: comparable between tokenizers
    perplexity       exp(sum of -ln P(text) / sum of its tokens)
    KL per token     sum of KL(teacher || model) over the tokens' positions / sum of tokens, in nats

Each is a ratio of sums over sequences, never a mean of the sequences' own ratios.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.crossed import Estimate, ratio_of_sums
from stillmark.analysis.lineage import Lineage

FloatArray = npt.NDArray[np.float64]
MEASURES = ("bits_per_byte", "perplexity", "kl_per_token")
COMPARED = ("bits_per_byte", "kl_per_token")  # that differences and ratios are worked out of


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """The held-out sequences of a task, as an arm's tokenizer reads them: the same for every seed and checkpoint."""

    tokens: FloatArray
    num_bytes: FloatArray
    sources: tuple[str | None, ...]

    def of_source(self, source: str | None) -> npt.NDArray[np.bool_]:
        return np.array([name == source for name in self.sources])


@dataclass(frozen=True, kw_only=True, eq=False)
class TextResult:
    """One arm: seeds x checkpoints x sequences. `nats` is -ln P, so less is better."""

    arm: str
    held_out: HeldOut
    nats: FloatArray
    kl_nats: FloatArray | None  # None: no teacher of this vocabulary, or no distribution
    is_seeded: bool  # False: a given model, which is the same for every seed

    def amounts(self, measure: str) -> FloatArray | None:
        """What is summed over sequences: bits or nats, seeds x checkpoints x sequences."""
        if measure == "bits_per_byte":
            return self.nats / math.log(2)
        return self.nats if measure == "perplexity" else self.kl_nats

    def sizes(self, measure: str) -> FloatArray:
        """What it is divided by."""
        return self.held_out.num_bytes if measure == "bits_per_byte" else self.held_out.tokens

    def estimate(
        self, measure: str, checkpoint: int = -1, chosen: npt.NDArray[np.bool_] | None = None
    ) -> Estimate | None:
        """A measure at a checkpoint, over all sequences or some of them; None where it was not recorded."""
        amounts = self.amounts(measure)
        if amounts is None:
            return None
        part = slice(None) if chosen is None else chosen
        found = ratio_of_sums(
            amounts[:, checkpoint][:, part], self.sizes(measure)[part], is_seeded=self.is_seeded
        )
        return exponential(found) if measure == "perplexity" else found


def exponential(estimate: Estimate) -> Estimate:
    """exp of an estimate and of its limits."""
    low, high = (None if end is None else math.exp(end) for end in (estimate.low, estimate.high))
    return replace(
        estimate, value=math.exp(estimate.value), low=low, high=high, method=f"exp of {estimate.method}"
    )


def estimate_row(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)


def text_result(lineage: Lineage, arm: str) -> TextResult | None:
    """The arm's scores; None where a seed or checkpoint is not recorded whole."""
    is_seeded = lineage.study.arms[arm].recipe is not None
    seeds: Sequence[int] = lineage.study.seeds if is_seeded else lineage.study.seeds[:1]
    evaluated = lineage.study.arms[arm].evaluated
    jobs = [[lineage.evaluation(arm, seed, index) for index in evaluated] for seed in seeds]
    if any(job.key not in lineage.finished for row in jobs for job in row):
        return None
    scores = [[lineage.store.text_scores(job.key) for job in row] for row in jobs]
    first = scores[0][0]
    facts = [(score.tokens, score.num_bytes, score.source) for score in first]
    for row in scores:
        for cell in row:
            if [(score.tokens, score.num_bytes, score.source) for score in cell] != facts:
                raise ValueError(f"{arm}: its checkpoints were not scored on the same sequences")
    kl = [[[score.teacher_kl_nats for score in cell] for cell in row] for row in scores]
    has_kl = all(value is not None for row in kl for cell in row for value in cell)
    return TextResult(
        arm=arm,
        held_out=HeldOut(
            tokens=np.array([tokens for tokens, _, _ in facts], dtype=np.float64),
            num_bytes=np.array([num_bytes for _, num_bytes, _ in facts], dtype=np.float64),
            sources=tuple(source for _, _, source in facts),
        ),
        nats=-np.array(
            [[[score.nats for score in cell] for cell in row] for row in scores], dtype=np.float64
        ),
        kl_nats=np.array(kl, dtype=np.float64) if has_kl else None,
        is_seeded=is_seeded,
    )
