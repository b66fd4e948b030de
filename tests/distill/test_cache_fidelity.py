"""The fidelity report against what is known: a whole cached vocabulary, a uniform tail, unbiased samples."""

import pytest
import torch

from stillmark.distill.cache_fidelity import cache_fidelity
from stillmark.distill.head import OutputHead
from stillmark.distill.identity import CacheIdentity, TokenSequence
from stillmark.distill.logit_cache import CacheSettings, LogitCache
from stillmark.distill.logit_capture import capture_logits

V, COUNT = 64, 200
IDENTITY = CacheIdentity(teacher="a", tokenizer="b", template="c", data="d")
DATA = [TokenSequence(token_ids=[0] * COUNT, targets=[0] * COUNT)]


def report(directory, teacher_logits, settings):
    """A teacher whose hidden states are its logits, and a student with random ones."""
    head = OutputHead(weight=torch.eye(V))
    capture_logits(directory, lambda _: teacher_logits, head, DATA, identity=IDENTITY, settings=settings)
    student = torch.randn(COUNT, 8, generator=torch.Generator().manual_seed(5))
    weight = torch.randn(V, 8, generator=torch.Generator().manual_seed(6))
    return cache_fidelity(
        LogitCache(directory, IDENTITY), [0], teacher_hidden_LE=teacher_logits, teacher_head=head,
        student_hidden_LD=student, student_head=OutputHead(weight=weight),
    )  # fmt: skip


def random_logits():
    return 2 * torch.randn(COUNT, V, generator=torch.Generator().manual_seed(4))


def test_the_whole_vocabulary_at_16_bits_is_the_teacher(tmp_path):
    got = report(tmp_path, random_logits(), CacheSettings(k=V, code_bits=16))
    assert got.mass_kept == pytest.approx(1)
    assert got.teacher_kl == pytest.approx(got.stored_kl, abs=1e-12)
    assert abs(got.stored_kl) < 1e-5
    assert got.cached_divergence == pytest.approx(got.live_divergence, rel=1e-3)
    assert got.gradient_cosine > 0.99999
    assert got.gradient_relative_error < 2e-3


def test_kept_mass_and_kl_by_hand_where_the_tail_is_even(tmp_path):
    logits = torch.zeros(COUNT, V)
    logits[:, 3], logits[:, 9] = 3.0, 2.0
    got = report(tmp_path, logits, CacheSettings(k=2, code_bits=16))
    weights = logits[0].double().exp()
    assert got.mass_kept == pytest.approx(float((weights[3] + weights[9]) / weights.sum()), rel=1e-6)
    assert got.mass_kept_lowest == pytest.approx(got.mass_kept, rel=1e-6)
    assert got.teacher_kl < 1e-6  # an even tail spread evenly is the teacher itself


def test_a_tail_hides_part_of_the_divergence_and_samples_do_not(tmp_path):
    top = report(tmp_path / "top", random_logits(), CacheSettings(k=8))
    samples = report(tmp_path / "samples", random_logits(), CacheSettings(kind="samples", k=50))
    assert top.cached_divergence < top.live_divergence  # the data-processing inequality
    assert top.teacher_kl > top.stored_kl
    assert samples.mass_kept is samples.teacher_kl is None
    assert samples.cached_divergence == pytest.approx(samples.live_divergence, rel=0.05)
    assert samples.gradient_cosine > 0.99
