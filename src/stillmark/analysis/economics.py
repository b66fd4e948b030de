"""What a correct answer costs, and when the dearer model to make is the cheaper to have.

A cost here is in any one resource: FLOPs, joules, device-seconds, tokens or money; the caller names it.
Unknown costs are None and what follows from them is None. The metrics of others keep their authors'
definitions, each with its source."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.bootstrap import (
    NUM_RESAMPLES,
    CensoredEstimate,
    bootstrap_accuracies,
    censored_summary,
)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to have the answers: what it costs once, and what it costs a query, in the same resource."""

    name: str
    fixed_cost: float | None
    """Making it: teacher, generation, training, licence. None = unknown."""
    cost_per_query: float | None

    def __post_init__(self) -> None:
        for cost in (self.fixed_cost, self.cost_per_query):
            if cost is not None and not (math.isfinite(cost) and cost >= 0):
                raise ValueError(f"a cost of {self.name} must be finite and not negative, got {cost}")


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """From how many queries on which way is the cheaper."""

    queries: float | None
    """Number of queries at which both cost the same; None where there is no such number, or a cost is
    unknown."""
    cheaper_before: str | None
    cheaper_after: str | None
    """Equal to `cheaper_before` where one way is cheaper whatever the number; None where unknown or equal."""
    is_known: bool


def cost_per_correct(total_cost: float | None, num_correct: float | None) -> float | None:
    """Cost of all answers, wrong ones included, over the correct ones; None where none is correct or it is
    unknown."""
    if total_cost is None or not num_correct:
        return None
    return total_cost / num_correct


def cost_per_correct_interval(
    costs: npt.ArrayLike | None,
    correct: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    random_seed: int = 0,
    clusters: Any = None,
) -> CensoredEstimate | None:
    """Sum of the costs over the number correct, items drawn with their costs; None where a cost is unknown.

    With none correct the cost is "more than" the total: one more correct answer would have cost that at the
    least. Resamples without a correct answer leave the interval open above."""
    if costs is None:
        return None
    cost = np.asarray(costs, dtype=np.float64)
    flags = np.asarray(correct, dtype=np.float64)
    if cost.shape != flags.shape or cost.ndim != 1:
        raise ValueError(f"one cost and one flag an item are needed, got {cost.shape} and {flags.shape}")
    if len(cost) == 0 or np.isnan(cost).any() or np.isnan(flags).any():
        return None
    rows = bootstrap_accuracies(
        np.stack([cost, flags]),
        num_resamples=num_resamples,
        rng=np.random.default_rng(random_seed),
        clusters=clusters,
    )
    mean_cost, accuracy = rows.T
    is_none = accuracy <= 0
    ratio = mean_cost / np.where(is_none, 1, accuracy)
    lowest = np.where(is_none, mean_cost * len(cost), ratio)
    return CensoredEstimate(**censored_summary(lowest, np.where(is_none, np.inf, ratio), confidence))


def total_cost(way: Way, num_queries: float) -> float | None:
    """Fixed cost and the cost of so many queries."""
    if way.fixed_cost is None or way.cost_per_query is None:
        return None
    return way.fixed_cost + num_queries * way.cost_per_query


def break_even(first: Way, second: Way) -> BreakEven:
    """The number of queries at which the two cost the same: (F2 - F1)/(c1 - c2)."""
    if (
        first.fixed_cost is None
        or first.cost_per_query is None
        or second.fixed_cost is None
        or second.cost_per_query is None
    ):
        return BreakEven(queries=None, cheaper_before=None, cheaper_after=None, is_known=False)
    fixed = second.fixed_cost - first.fixed_cost
    saved = first.cost_per_query - second.cost_per_query
    at_once = first.name if fixed > 0 else second.name if fixed < 0 else None
    in_the_end = first.name if saved < 0 else second.name if saved > 0 else at_once
    if at_once is None:
        at_once = in_the_end
    if at_once == in_the_end:
        return BreakEven(queries=None, cheaper_before=at_once, cheaper_after=in_the_end, is_known=True)
    return BreakEven(queries=fixed / saved, cheaper_before=at_once, cheaper_after=in_the_end, is_known=True)


def lifetime_flops(
    params: float | None, train_tokens: float | None, served_tokens: float | None
) -> float | None:
    """6·N·D to train and 2·N for each token served (Sardana et al., arXiv:2401.00448)."""
    if params is None or train_tokens is None or served_tokens is None:
        return None
    return 6 * params * train_tokens + 2 * params * served_tokens


def tes(
    reasoning_accuracy: float | None,
    plain_accuracy: float | None,
    reasoning_tokens: float | None,
    plain_tokens: float | None,
) -> float | None:
    """TES = (Acc_r - Acc_i) · 100 / (GenTok_r / GenTok_i) (The Reasoning Tax, arXiv:2608.26235).

    Points of accuracy gained per multiple of generated tokens (reasoning and output, the prompt not counted).
    Accuracies from 0 to 1. Above 1 is strong there, 0 to 1 marginal, 0 or less wasteful.
    TES-delta compares a model with itself without reasoning, TES-A with the best model that does not reason.
    """
    if reasoning_accuracy is None or plain_accuracy is None or not reasoning_tokens or not plain_tokens:
        return None
    return (reasoning_accuracy - plain_accuracy) * 100 * plain_tokens / reasoning_tokens


def rcs(reasoning_cost: float | None, whole_cost: float | None) -> float | None:
    """RCS = cost of the reasoning tokens / cost of all, in percent (The Reasoning Tax, arXiv:2608.26235)."""
    if reasoning_cost is None or not whole_cost:
        return None
    return 100 * reasoning_cost / whole_cost


def dcm(cloud_cost: float | None, on_premise_cost: float | None) -> float | None:
    """DCM = cost in the cloud / cost on one's own machine, same work (The Reasoning Tax,
    arXiv:2608.26235)."""
    if cloud_cost is None or not on_premise_cost:
        return None
    return cloud_cost / on_premise_cost


def correct_per_joule(num_correct: float | None, energy_joules: float | None) -> float | None:
    """Correct answers per joule of the run: accuracy per joule and query (arXiv:2511.07885)."""
    if num_correct is None or not energy_joules:
        return None
    return num_correct / energy_joules


def intelligence_per_watt(accuracy: float | None, mean_power_watts: float | None) -> float | None:
    """IPW = task accuracy / mean power while answering, per watt (arXiv:2511.07885)."""
    if accuracy is None or not mean_power_watts:
        return None
    return accuracy / mean_power_watts
