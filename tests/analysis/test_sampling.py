"""pass@k, avg@k and maj@k against every draw there is."""

import itertools
from collections import Counter

import numpy as np
import pytest

from stillmark.analysis.sampling import avg_at_k, maj_at_k, pass_at_k, pass_at_k_interval


@pytest.mark.parametrize(("n", "c"), [(1, 0), (5, 0), (5, 2), (8, 8), (9, 3)])
def test_pass_and_avg_against_all_draws(n, c):
    for k in range(1, n + 1):
        draws = list(itertools.combinations([1] * c + [0] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(np.mean([max(draw) for draw in draws]))
        assert avg_at_k(n, c, k) == pytest.approx(np.mean([np.mean(draw) for draw in draws]))


def test_pass_at_k_is_chens_product():
    # Chen et al. (arXiv:2107.03374), figure 3: 1 - prod(1 - k / arange(n - c + 1, n + 1)).
    n, c, k = 200, 13, 100
    assert pass_at_k(n, c, k) == pytest.approx(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def brute_force_majority(answers, is_correct, k):
    correct = dict(zip(answers, is_correct, strict=True))
    won = []
    for draw in itertools.combinations(range(len(answers)), k):
        votes = Counter(answers[i] for i in draw if answers[i] is not None)
        best = [answer for answer, count in votes.items() if count == max(votes.values())]
        won.append(np.mean([correct[answer] for answer in best]) if best else 0.0)
    return np.mean(won)


@pytest.mark.parametrize("seed", range(12))
def test_majority_against_all_draws(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 10))
    answers = [None if a == 4 else "abcd"[a] for a in rng.integers(0, 5, n)]
    right = set(rng.choice(list("abcd"), size=rng.integers(1, 3), replace=False))
    is_correct = [answer in right for answer in answers]
    for k in range(1, n + 1):
        assert maj_at_k(answers, is_correct, k) == pytest.approx(brute_force_majority(answers, is_correct, k))


def test_majority_of_one_is_the_accuracy_and_of_all_is_the_vote():
    answers, is_correct = list("aabbbcd"), [a == "b" for a in "aabbbcd"]
    assert maj_at_k(answers, is_correct, 1) == pytest.approx(3 / 7)
    assert maj_at_k(answers, is_correct, 7) == 1


def test_majority_of_many_samples_is_exact_and_quick():
    rng = np.random.default_rng(0)
    answers = rng.integers(0, 30, 64).tolist() + [99] * 20
    estimate = maj_at_k(answers, [a == 99 for a in answers], 32)
    draws = [Counter(rng.permutation(answers)[:32].tolist()) for _ in range(4000)]
    won = np.mean([d[99] == max(d.values()) for d in draws])  # ties are rare here
    assert estimate == pytest.approx(won, abs=0.02)
    assert maj_at_k([1] * 600 + [2] * 600, [True] * 600 + [False] * 600, 501) == pytest.approx(0.5)


def test_too_few_samples_are_none():
    assert pass_at_k(3, 1, 4) is None
    assert avg_at_k(3, 1, 4) is None
    assert maj_at_k(["a"], [True], 2) is None
    assert pass_at_k_interval([3, 2], [1, 1], 4) is None


def test_interval_of_pass_at_k_covers():
    rng = np.random.default_rng(1)
    grid = (np.arange(20_000) + 0.5) / 20_000
    truth = np.mean(1 - (1 - grid) ** 4)  # items whose accuracy is uniform
    hits = []
    for _ in range(600):
        correct = rng.binomial(10, rng.random(100))
        hits.append(pass_at_k_interval([10] * 100, correct, 4).contains(truth))
    assert 0.925 <= np.mean(hits) <= 0.975


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pass_at_k(3, 4, 1), "num_correct"),
        (lambda: pass_at_k(3, 1, 0), "k must"),
        (lambda: maj_at_k(["a", "a"], [True, False], 1), "both as correct and as wrong"),
        (lambda: maj_at_k([None], [True], 1), "without an answer"),
        (lambda: maj_at_k(["a"], [], 1), "1 answers, 0 flags"),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
