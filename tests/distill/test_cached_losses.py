"""The loss from a cache against dense float64 autograd over buckets, and against the whole vocabulary's."""

import pytest
import torch
from torch.nn import functional

from stillmark.distill import fused as machinery
from stillmark.distill.cached_losses import SampledTargets, TopKTargets, fused_cached_divergence
from stillmark.distill.divergence import KINDS, DivergenceSettings, divergence
from stillmark.distill.losses import fused_divergence
from stillmark.errors import UserError

N, V, K = 23, 37, 6


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(machinery, "CHUNK_BYTES", 1)


@pytest.fixture(name="batch")
def _batch():
    g = torch.Generator().manual_seed(0)
    hidden, weight, teacher_logits = (
        torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((N, 8), (V, 8), (N, V))
    )
    targets = torch.randint(0, V, (N,), generator=g)
    targets[::4] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), 2 * teacher_logits, targets


def top_k_targets(teacher_logits, k, temperature):
    logq = (teacher_logits / temperature).log_softmax(-1)
    top = logq.topk(k)
    tail = logq.scatter(-1, top.indices, float("-inf")).logsumexp(-1).clamp(min=-1000)
    return TopKTargets(ids_LK=top.indices, logq_LK=top.values, log_tail_L=tail, temperature=temperature)


def buckets(logits, ids, temperature):
    """log-probabilities of the k tokens and of all others: as logits, they give the bucketed distribution."""
    logp = (logits / temperature).log_softmax(-1)
    rest = logp.scatter(-1, ids, float("-inf")).logsumexp(-1, keepdim=True)
    return torch.cat([logp.gather(-1, ids), rest], -1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_top_k_agrees_with_dense_buckets(batch, kind, temperature, weight):
    hidden, head, teacher_logits, targets = batch
    settings = DivergenceSettings(
        kind=kind, temperature=temperature, cross_entropy_weight=weight, temperature_squared=weight > 0
    )
    kept = targets != -100
    teacher = top_k_targets(teacher_logits[kept], K, temperature)
    logits = hidden @ head.T
    student_buckets = buckets(logits[kept], teacher.ids_LK, temperature)
    teacher_buckets = torch.cat([teacher.logq_LK, teacher.log_tail_L[:, None]], -1)
    plain = DivergenceSettings(kind=kind)  # the buckets are at the temperature already
    value = divergence(plain, student_buckets, teacher_buckets).sum() / 20
    hard = functional.cross_entropy(logits, targets, reduction="sum") / 20
    expected = settings.divergence_scale * value + weight * hard
    result = fused_cached_divergence(hidden, head, teacher, targets, divergence=settings, num_loss_tokens=20)
    torch.testing.assert_close(result.loss, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(result.divergence, value, rtol=1e-12, atol=1e-13)
    for got, wanted in zip(
        torch.autograd.grad(result.loss, [hidden, head]),
        torch.autograd.grad(expected, [hidden, head]),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_vocabulary_cached_is_the_live_teacher(batch, kind):
    hidden, head, teacher_logits, targets = batch
    settings = DivergenceSettings(kind=kind)
    teacher = top_k_targets(teacher_logits[targets != -100], V, 1.0)
    cached = fused_cached_divergence(hidden, head, teacher, targets, divergence=settings, num_loss_tokens=20)
    identity = torch.eye(V, dtype=torch.float64)
    live = fused_divergence(
        hidden, head, teacher_logits, identity, targets, divergence=settings, num_loss_tokens=20
    )
    torch.testing.assert_close(cached.loss, live.loss, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(result.loss, [hidden, head]) for result in (cached, live)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gap", [10.0, 85.0, 150.0, 3000.0])
def test_a_student_that_puts_all_other_tokens_far_below_still_hears_of_the_tail(kind, gap):
    """In float32, whose exponential ends at -103: against dense float64 autograd over the buckets."""
    logits = torch.tensor([[0.0, -1, -gap, -gap - 1, -gap - 0.5, -gap - 2]])
    teacher_logits = torch.tensor([[0.3, 0.25, 0.15, 0.1, 0.1, 0.1]]).log()
    settings = DivergenceSettings(kind=kind)
    head = logits.T.contiguous().requires_grad_()
    teacher = top_k_targets(teacher_logits, 2, 1.0)
    target = torch.zeros(1, dtype=torch.long)
    result = fused_cached_divergence(
        torch.ones(1, 1), head, teacher, target, divergence=settings, num_loss_tokens=1
    )
    exact = logits.double().requires_grad_()
    student_buckets = buckets(exact, teacher.ids_LK, 1.0)
    teacher_buckets = buckets(teacher_logits.double(), teacher.ids_LK, 1.0)
    expected = divergence(settings, student_buckets, teacher_buckets).sum()
    assert result.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    (got,), (wanted,) = torch.autograd.grad(result.loss, [head]), torch.autograd.grad(expected, [exact])
    torch.testing.assert_close(got.T.double(), wanted, rtol=1e-5, atol=1e-6)


def test_shares_equal_to_the_teacher_give_forward_kl(batch):
    """The loss is linear in the shares and their mean is q: full KL at q, so it is unbiased."""
    hidden, head, teacher_logits, targets = batch
    settings = DivergenceSettings(temperature=1.5, cross_entropy_weight=0.2)
    q = (teacher_logits[targets != -100] / 1.5).softmax(-1)
    ids = torch.arange(V).expand_as(q)
    entropy = -(q * q.log()).sum(-1)
    teacher = SampledTargets(ids_LK=ids, share_LK=q, entropy_L=entropy, temperature=1.5)
    cached = fused_cached_divergence(hidden, head, teacher, targets, divergence=settings, num_loss_tokens=20)
    identity = torch.eye(V, dtype=torch.float64)
    live = fused_divergence(
        hidden, head, teacher_logits, identity, targets, divergence=settings, num_loss_tokens=20
    )
    torch.testing.assert_close(cached.loss, live.loss, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad(result.loss, [hidden, head]) for result in (cached, live)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-12)


def test_what_a_cache_cannot_give_is_refused(batch):
    hidden, head, teacher_logits, targets = batch
    teacher = top_k_targets(teacher_logits[targets != -100], K, 1.0)
    samples = SampledTargets(
        ids_LK=teacher.ids_LK, share_LK=teacher.logq_LK.exp(), entropy_L=teacher.log_tail_L, temperature=1.0
    )

    def loss(teacher, **settings):
        return fused_cached_divergence(
            hidden, head, teacher, targets, divergence=DivergenceSettings(**settings), num_loss_tokens=20
        )

    with pytest.raises(UserError, match=r"temperature 1\.0, the loss asks for 2\.0"):
        loss(teacher, temperature=2.0)
    with pytest.raises(UserError, match="only forward_kl is unbiased"):
        loss(samples, kind="reverse_kl")
    with pytest.raises(ValueError, match="5 rows from the cache for 17 positions"):
        loss(teacher.rows(slice(0, 5)))
