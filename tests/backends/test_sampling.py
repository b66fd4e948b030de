"""Sampling against the distribution that it is to draw from."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from transformers import TopPLogitsWarper

from stillmark.backends import sampling as module
from stillmark.backends.protocol import Sampling
from stillmark.backends.sampling import UniformStream, keep_nucleus, next_tokens


def test_draws_have_the_softmax_frequencies():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0, 0.5])
    sampling = Sampling(max_new_tokens=1, temperature=0.7)
    streams = [UniformStream(0, [1, 2], sample) for sample in range(4000)]
    chosen = next_tokens(logits.expand(4000, -1), sampling, streams)
    expected = (logits / 0.7).softmax(-1).double()
    counts = np.bincount(chosen, minlength=5)
    assert chisquare(counts, (expected / expected.sum() * 4000).numpy()).pvalue > 1e-3


def test_a_stream_is_uniform_and_its_own():
    stream = UniformStream(3, [5, 6], 0)
    draws = [stream.draw() for _ in range(1000)]
    again = UniformStream(3, [5, 6], 0)
    assert draws == [again.draw() for _ in range(1000)]
    assert chisquare(np.histogram(draws, bins=20, range=(0, 1))[0]).pvalue > 1e-3
    others = [UniformStream(4, [5, 6], 0), UniformStream(3, [5, 6], 1), UniformStream(3, [56], 0)]
    assert len({draws[0], *(other.draw() for other in others)}) == 4


@pytest.mark.parametrize("first_candidates", [4, 1024])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_the_nucleus_is_that_of_transformers(top_p, first_candidates, monkeypatch):
    monkeypatch.setattr(module, "FIRST_CANDIDATES", first_candidates)
    torch.manual_seed(0)
    logits = torch.randn(50, 40) * 3
    expected = TopPLogitsWarper(top_p)(None, logits.clone()).softmax(-1) > 0
    assert ((keep_nucleus(logits.softmax(-1), top_p) > 0) == expected).all()


def test_greedy_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert next_tokens(logits, Sampling(max_new_tokens=1), []) == [1, 0]
