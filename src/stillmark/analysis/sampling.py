"""What n samples of an item say of k: pass@k, avg@k, maj@k, by the unbiased estimators.

All three are the mean over all ways to draw k of the n samples without replacement; unbiased for k fresh
samples. pass@k: Chen et al., arXiv:2107.03374. maj@k (cons@k, self-consistency, Wang et al.,
arXiv:2203.11171) is exact here, by counting draws and not by drawing: see `maj_at_k`."""

from collections import Counter
from collections.abc import Hashable, Sequence
from fractions import Fraction
from math import comb

import numpy as np
import numpy.typing as npt

from stillmark.analysis.intervals import Interval, share_interval


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float | None:
    """Chance that at least one of k samples is correct: 1 - C(n - c, k)/C(n, k). None where n < k."""
    _check(num_samples, num_correct, k)
    if num_samples < k:
        return None
    return 1 - comb(num_samples - num_correct, k) / comb(num_samples, k)


def avg_at_k(num_samples: int, num_correct: int, k: int) -> float | None:
    """Mean accuracy of k samples: c/n, for every k. None where n < k: k samples were not taken."""
    _check(num_samples, num_correct, k)
    return num_correct / num_samples if num_samples >= k else None


def maj_at_k(answers: Sequence[Hashable | None], is_correct: Sequence[bool], k: int) -> float | None:
    """Chance that the most frequent answer of k samples is correct; None where fewer than k were taken.

    A tie is broken at random (the first seen of the tied is the same, since the order is random). A sample
    without an answer (None) has no vote, and k samples without any answer are wrong. Several answers may be
    correct.

    Exact. For an answer that is drawn j times to win, each other answer i must be drawn m_i < j times, or j
    times and tie; the number of such draws is the coefficient of x^(k-j) in the product over i of sum_{m<j}
    C(c_i, m) x^m + y C(c_i, j) x^j, where y counts ties: a win shared by t + 1 answers counts 1/(t + 1)."""
    if len(answers) != len(is_correct):
        raise ValueError(f"{len(answers)} answers, {len(is_correct)} flags")
    correctness: dict[Hashable, bool] = {}
    for answer, flag in zip(answers, is_correct, strict=True):
        if answer is None:
            if flag:
                raise ValueError("a sample without an answer cannot be correct")
        elif correctness.setdefault(answer, bool(flag)) != bool(flag):
            raise ValueError(f"answer {answer!r} is scored both as correct and as wrong")
    _check(len(answers), sum(map(bool, is_correct)), k)
    if len(answers) < k:
        return None
    counts = Counter(answer for answer in answers if answer is not None)
    num_silent = len(answers) - counts.total()
    won = Fraction(0)
    for answer, count in counts.items():
        if correctness[answer]:
            others = [c for other, c in counts.items() if other != answer]
            won += _draws_won(count, others, num_silent, k)
    return float(won / comb(len(answers), k))


def _draws_won(count: int, others: list[int], num_silent: int, k: int) -> Fraction:
    """Number of the draws of k in which an answer held by `count` samples wins; shared wins in part."""
    won = Fraction(0)
    for drawn in range(1, min(count, k) + 1):
        # ways[t][d]: draws of d other samples of which t answers tie; exact integers.
        ways = [[0] * (k - drawn + 1) for _ in range((k - drawn) // drawn + 1)]
        for silent in range(min(num_silent, k - drawn) + 1):
            ways[0][silent] = comb(num_silent, silent)
        for other in others:
            ways = _with_answer(ways, other, drawn)
        for tied, row in enumerate(ways):
            won += Fraction(comb(count, drawn) * row[-1], tied + 1)
    return won


def _with_answer(ways: list[list[int]], count: int, drawn: int) -> list[list[int]]:
    """The ways with one more competing answer, held by `count` samples, drawn at most `drawn` times."""
    extended = [[0] * len(row) for row in ways]
    for tied, row in enumerate(ways):
        for size, number in enumerate(row):
            if number == 0:
                continue
            for m in range(min(count, drawn, len(row) - 1 - size) + 1):
                extended[tied + (m == drawn)][size + m] += number * comb(count, m)
    return extended


def pass_at_k_interval(
    num_samples: npt.ArrayLike, num_correct: npt.ArrayLike, k: int, confidence: float = 0.95
) -> Interval | None:
    """Mean of pass@k over items with its interval, clustered by item. Items with fewer than k samples are
    left out.

    An item's n samples say as much of pass@k as n/k independent draws of k, at the least.
    """
    counts = np.atleast_1d(np.asarray(num_samples, dtype=np.int64))
    correct = np.broadcast_to(np.asarray(num_correct, dtype=np.int64), counts.shape)
    values = [pass_at_k(int(n), int(c), k) for n, c in zip(counts, correct, strict=True)]
    known = [(value, n / k) for value, n in zip(values, counts, strict=True) if value is not None]
    if not known:
        return None
    return share_interval([v for v, _ in known], num_repeats=[r for _, r in known], confidence=confidence)


def _check(num_samples: int, num_correct: int, k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if not 0 <= num_correct <= num_samples:
        raise ValueError(f"num_correct must be from 0 to num_samples: {num_correct} of {num_samples}")
