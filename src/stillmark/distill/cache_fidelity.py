"""How near a cache's targets are to the teacher that it was captured from, on sequences of its own data.

Shape suffixes: L positions with a loss, D student's hidden size, E teacher's, V vocabulary, B = k + 1
buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stillmark.distill.cached_losses import TopKTargets, fused_cached_divergence
from stillmark.distill.divergence import DivergenceSettings
from stillmark.distill.head import OutputHead
from stillmark.distill.logit_cache import LogitCache
from stillmark.distill.losses import fused_divergence

ROWS = 64  # positions whose whole distribution is held at once


@dataclass(frozen=True, kw_only=True)
class CacheFidelity:
    """Means over the positions looked at; None where a kind of cache has no such figure."""

    num_positions: int
    bytes_per_token: float
    """On disk, all files over all stored positions."""
    mass_kept: float | None
    """The teacher's probability of the kept tokens."""
    mass_kept_lowest: float | None
    stored_kl: float | None
    """KL in nats from the teacher's k + 1 buckets to the stored ones: what rounding costs."""
    teacher_kl: float | None
    """KL in nats from the whole teacher to the stored buckets with the tail spread evenly: rounding and the
    tail's shape. The loss never spreads the tail; this is what a reader of the cache alone would know."""
    live_divergence: float
    cached_divergence: float
    """The student's divergence from the live teacher and from the cache, in nats."""
    gradient_cosine: float
    gradient_relative_error: float
    """Of the gradient to the student's head, summed over the positions: |cached - live| / |live|."""
    token_gradient_relative_error: float
    """The same of the gradients to each position's hidden state, before they average out."""


def cache_fidelity(
    cache: LogitCache,
    sequences: Sequence[int],
    *,
    teacher_hidden_LE: torch.Tensor,
    teacher_head: OutputHead,
    student_hidden_LD: torch.Tensor,
    student_head: OutputHead,
    kind: str = "forward_kl",
) -> CacheFidelity:
    """Compare the cache with the live teacher; hidden states are those of the sequences' loss positions in
    order.
    """
    targets = cache.targets(sequences)
    settings = DivergenceSettings(kind=kind, temperature=cache.manifest.settings.temperature)
    vocab_size, count = cache.manifest.vocab_size, len(targets)
    everywhere = torch.zeros(count, dtype=torch.long)
    live_hidden, cached_hidden = (student_hidden_LD.detach().clone().requires_grad_() for _ in range(2))
    weights = [student_head.weight.detach().clone().requires_grad_() for _ in range(2)]
    heads = [student_head.with_weight(weight) for weight in weights]
    live = fused_divergence(
        live_hidden,
        heads[0],
        teacher_hidden_LE,
        teacher_head,
        everywhere,
        divergence=settings,
        num_loss_tokens=count,
        vocab_size=vocab_size,
    )
    cached = fused_cached_divergence(
        cached_hidden,
        heads[1],
        targets,
        everywhere,
        divergence=settings,
        num_loss_tokens=count,
        vocab_size=vocab_size,
    )
    live.loss.backward()
    cached.loss.backward()
    head_gradients = [weight.grad.double().flatten() for weight in weights]
    kept = _kept(targets, teacher_hidden_LE, teacher_head.first_rows(vocab_size))
    return CacheFidelity(
        num_positions=count,
        bytes_per_token=cache.num_bytes / cache.num_rows,
        mass_kept=kept[0],
        mass_kept_lowest=kept[1],
        stored_kl=kept[2],
        teacher_kl=kept[3],
        live_divergence=float(live.loss.detach()),
        cached_divergence=float(cached.loss.detach()),
        gradient_cosine=float(torch.nn.functional.cosine_similarity(*head_gradients, dim=0)),
        gradient_relative_error=_relative_error(head_gradients[1], head_gradients[0]),
        token_gradient_relative_error=_relative_error(cached_hidden.grad, live_hidden.grad),
    )


def _relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    return float((value - truth).norm() / truth.norm())


@torch.no_grad()
def _kept(
    targets: object, teacher_hidden_LE: torch.Tensor, head: OutputHead
) -> tuple[float | None, float | None, float | None, float | None]:
    """(mass kept, its lowest, KL of the buckets, KL of the whole) of a top-k cache; in float64."""
    if not isinstance(targets, TopKTargets):
        return None, None, None, None
    mass, stored_kl, teacher_kl = [], [], []
    for start in range(0, len(targets), ROWS):
        rows = targets.rows(slice(start, start + ROWS))
        hidden = teacher_hidden_LE[start : start + ROWS]
        logits_LV = head.project(hidden, torch.empty(len(hidden), head.num_rows))
        logq_LV = (logits_LV.double() / targets.temperature).log_softmax(-1)
        kept_LK = logq_LV.gather(-1, rows.ids_LK)
        rest_LV = logq_LV.scatter(-1, rows.ids_LK, float("-inf"))
        true_LB = torch.cat([kept_LK, rest_LV.logsumexp(-1, keepdim=True)], -1)
        stored_LB = torch.cat([rows.logq_LK, rows.log_tail_L.unsqueeze(-1)], -1).double()
        mass.append(kept_LK.exp().sum(-1))
        bucket_kl = (true_LB.exp() * (true_LB - stored_LB).nan_to_num(neginf=0.0)).sum(-1)
        stored_kl.append(bucket_kl)
        # Within the tail: sum over it of q (log q - log(Q / n)), Q its mass and n its number of tokens.
        rest_size = max(1, head.num_rows - kept_LK.shape[1])
        tail_entropy = -(rest_LV.exp() * rest_LV.clamp(min=-1e4)).sum(-1)
        tail_mass = rest_LV.exp().sum(-1)
        within = (
            tail_mass * (torch.tensor(rest_size).double().log() - true_LB[:, -1].clamp(min=-1e4))
            - tail_entropy
        )
        teacher_kl.append(bucket_kl + within)
    masses = torch.cat(mass)
    return (
        float(masses.mean()),
        float(masses.min()),
        float(torch.cat(stored_kl).mean()),
        float(torch.cat(teacher_kl).mean()),
    )
