"""McNemar's exact test, its power, and Holm's correction: closed forms, without data."""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

BLOCK_COUNTS = 1024  # critical values worked out and held together


def mcnemar_exact(num_first_only: int, num_second_only: int) -> float:
    """Two-sided exact p-value of McNemar's test: twice the smaller tail of Binomial(b + c, 1/2)."""
    num_discordant = num_first_only + num_second_only
    if num_discordant == 0:
        return 1.0
    smaller = min(num_first_only, num_second_only)
    return min(1.0, 2 * float(special.bdtr(smaller, num_discordant, 0.5)))


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Holm's (1979) step-down adjusted p-values; an unknown one is not counted and stays unknown."""
    known = sorted((p, name) for name, p in p_values.items() if p is not None)
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    running = 0.0
    for rank, (p, name) in enumerate(known):
        running = max(running, min(1.0, (len(known) - rank) * p))
        adjusted[name] = running
    return adjusted


def mcnemar_power(num_items: int, discordant_share: float, difference: float, alpha: float = 0.05) -> float:
    """Chance that McNemar's exact test finds a true difference, summed over all outcomes.

    `discordant_share`: how often the two disagree; at least |difference|.
    """
    if not abs(difference) <= discordant_share <= 1:
        raise ValueError(
            f"models that differ by {difference} disagree at least so often, not {discordant_share}"
        )
    if discordant_share == 0:
        return 0.0
    # Counts further than eight standard deviations from the mean have no weight that could be seen.
    mean = num_items * discordant_share
    reach = 8 * math.sqrt(mean * (1 - discordant_share)) + 8
    discordant = np.arange(max(1, math.floor(mean - reach)), min(num_items, math.ceil(mean + reach)) + 1)
    log_chance = (
        special.gammaln(num_items + 1)
        - special.gammaln(discordant + 1)
        - special.gammaln(num_items - discordant + 1)
        + special.xlogy(discordant, discordant_share)
        + special.xlog1py(num_items - discordant, -discordant_share)
    )
    critical = critical_counts(int(discordant[0]), int(discordant[-1]), alpha)
    in_favour = (discordant_share + difference) / (2 * discordant_share)
    rejects = special.bdtr(np.maximum(critical, 0), discordant, in_favour)
    rejects = rejects + special.bdtr(np.maximum(critical, 0), discordant, 1 - in_favour)
    return float((np.exp(log_chance) * np.where(critical >= 0, rejects, 0)).sum())


def critical_counts(first: int, last: int, alpha: float) -> npt.NDArray[np.float64]:
    """For first..last disagreements, the largest smaller count at which the test rejects; -1 where it never does."""
    blocks = range(first // BLOCK_COUNTS, last // BLOCK_COUNTS + 1)
    start = first - blocks[0] * BLOCK_COUNTS
    return np.concatenate([critical_block(block, alpha) for block in blocks])[
        start : start + last - first + 1
    ]


@lru_cache(maxsize=1000)
def critical_block(block: int, alpha: float) -> npt.NDArray[np.float64]:
    """Of counts from BLOCK_COUNTS times `block` on; the same for all sets of items, and slow to invert."""
    discordant = np.arange(block * BLOCK_COUNTS, (block + 1) * BLOCK_COUNTS)
    discordant = np.maximum(discordant, 1)  # of no disagreement nobody asks
    critical = np.ceil(special.bdtrik(alpha / 2, discordant, 0.5)).clip(0)
    found: npt.NDArray[np.float64] = np.where(
        2 * special.bdtr(critical, discordant, 0.5) <= alpha, critical, critical - 1
    )
    return found


def smallest_detectable_difference(
    num_items: int, discordant_share: float, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The least true difference that McNemar's exact test finds with this power; None where it finds none.

    Models that differ by more than `discordant_share` are taken to disagree in that direction alone.
    """

    def shortfall(difference: float) -> float:
        return mcnemar_power(num_items, max(discordant_share, difference), difference, alpha) - power

    if num_items == 0 or shortfall(1.0) < 0:
        return None
    return float(optimize.brentq(shortfall, 0.0, 1.0, xtol=1e-6))
