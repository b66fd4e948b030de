"""Losses towards a teacher whose logits lie in a cache, fused with the student's head.

Top-k with a tail: each row has k + 1 buckets, the k tokens and all others together. Any divergence is taken
exactly between the teacher's and the student's probabilities of these buckets. With P_b the student's
buckets and g_b the gradient to the k + 1 logs of P_b, a token v of bucket b has gradient p_v / P_b * g_b
(bucket of one: g_b). By the data-processing inequality the value is at most the whole vocabulary's; what it
misses is reported by `cache_fidelity.py`.

Samples ("Sparse Logit Sampling", arXiv 2503.16870): the teacher's distribution is stood for by the shares
of tokens drawn from it. Forward KL is linear in them, so that value and gradient are unbiased; the others
are refused.

Shape suffixes: L positions with a loss, K tokens kept of a position, B = K + 1 buckets, V vocabulary,
C positions of a chunk, R rows of a block of a chunk.
"""

import math
from dataclasses import dataclass, replace

import torch

from stillmark.distill.divergence import DistillationLoss, DivergenceSettings, value_and_gradient
from stillmark.distill.fused import FusedPass
from stillmark.distill.head import OutputHead
from stillmark.distill.losses import blocks_of, cross_entropy_block, cross_entropy_of, joined
from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class TopKTargets:
    """The teacher at L positions: its k likeliest tokens and the probability of all others; each row sums
    to 1.
    """

    ids_LK: torch.Tensor
    logq_LK: torch.Tensor
    log_tail_L: torch.Tensor
    temperature: float

    def __len__(self) -> int:
        return len(self.ids_LK)

    def rows(self, rows: slice) -> "TopKTargets":
        return replace(
            self, ids_LK=self.ids_LK[rows], logq_LK=self.logq_LK[rows], log_tail_L=self.log_tail_L[rows]
        )

    def to(self, device: torch.device) -> "TopKTargets":
        return replace(
            self,
            ids_LK=self.ids_LK.to(device),
            logq_LK=self.logq_LK.to(device),
            log_tail_L=self.log_tail_L.to(device),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledTargets:
    """The teacher at L positions: shares of the tokens drawn from it (a share of 0 fills a row up)."""

    ids_LK: torch.Tensor
    share_LK: torch.Tensor
    entropy_L: torch.Tensor
    """Of the teacher's whole distribution, in nats: turns cross-entropy into KL."""
    temperature: float

    def __len__(self) -> int:
        return len(self.ids_LK)

    def rows(self, rows: slice) -> "SampledTargets":
        return replace(
            self, ids_LK=self.ids_LK[rows], share_LK=self.share_LK[rows], entropy_L=self.entropy_L[rows]
        )

    def to(self, device: torch.device) -> "SampledTargets":
        return replace(
            self,
            ids_LK=self.ids_LK.to(device),
            share_LK=self.share_LK.to(device),
            entropy_L=self.entropy_L.to(device),
        )


CachedTargets = TopKTargets | SampledTargets


def fused_cached_divergence(
    student_hidden: torch.Tensor,
    student_head: torch.Tensor | OutputHead,
    teacher: CachedTargets,
    targets: torch.Tensor,
    *,
    divergence: DivergenceSettings,
    num_loss_tokens: int | torch.Tensor,
    vocab_size: int | None = None,
) -> DistillationLoss:
    """As `fused_divergence`, with the teacher's rows in the order of the positions whose target is not
    -100.
    """
    fused = FusedPass(student_hidden, student_head, targets, num_loss_tokens, vocab_size)
    if divergence.cross_entropy_weight == 1.0:
        return cross_entropy_of(fused)
    _require_fit(teacher, fused.num_positions, divergence)

    def chunk_loss(logits_CV: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        teacher_C, targets_C = teacher.rows(rows), fused.targets_L[rows]
        blocks = blocks_of(logits_CV)
        return joined(
            [cached_block(divergence, logits_CV[r], teacher_C.rows(r), targets_C[r]) for r in blocks]
        )

    return fused.run(
        chunk_loss,
        num_buffers=1,
        divergence_scale=divergence.divergence_scale,
        cross_entropy_weight=divergence.cross_entropy_weight,
    )


def _require_fit(teacher: CachedTargets, num_positions: int, settings: DivergenceSettings) -> None:
    if len(teacher) != num_positions:
        raise ValueError(f"{len(teacher)} rows from the cache for {num_positions} positions with a loss")
    if teacher.temperature != settings.temperature:
        raise UserError(
            f"the cache holds the teacher at temperature {teacher.temperature}, "
            f"the loss asks for {settings.temperature}",
            "a cache holds one temperature, since other ones need every logit: capture at the one wanted",
        )
    if isinstance(teacher, SampledTargets) and settings.effective_kind != "forward_kl":
        raise UserError(
            f"`{settings.kind}` from a cache of samples: only forward_kl is unbiased there, as it alone is "
            "linear in the teacher's probabilities",
            "use forward_kl, or capture top-k with a tail",
        )


def cached_block(
    settings: DivergenceSettings, logits_RV: torch.Tensor, teacher: CachedTargets, targets_R: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(divergence, cross-entropy) of each row; the student's logits become the gradient of the mixed loss."""
    temperature, weight = settings.temperature, settings.cross_entropy_weight
    cross_entropy = hard_gradient_RV = None
    if weight:
        hard_gradient_RV = logits_RV.clone()
        cross_entropy = cross_entropy_block(hard_gradient_RV, targets_R)
    if temperature != 1.0:
        logits_RV.div_(temperature)
    scale = settings.divergence_scale / temperature
    if isinstance(teacher, TopKTargets):
        value = _top_k_block(settings, logits_RV, teacher, scale)
    else:
        value = _sampled_block(logits_RV, teacher, scale)
    if hard_gradient_RV is not None:
        logits_RV.add_(hard_gradient_RV, alpha=weight)
    return value, cross_entropy


def _top_k_block(
    settings: DivergenceSettings, logits_RV: torch.Tensor, teacher: TopKTargets, scale: float
) -> torch.Tensor:
    """The bucketed divergence; logits / T become its gradient to them, times `scale`."""
    # The rest is shifted by its own maximum and summed without the kept tokens: the tail may be far below the rounding
    # of 1, and farther below the likeliest token than exp reaches. A rest without tokens gets about what it does reach.
    kept_RK = logits_RV.gather(-1, teacher.ids_LK)
    rest_RV = logits_RV.scatter_(-1, teacher.ids_LK, float("-inf"))
    nowhere_R1 = kept_RK.amax(-1, keepdim=True) + math.log(1024 * torch.finfo(logits_RV.dtype).tiny)
    top_R1 = rest_RV.amax(-1, keepdim=True)
    top_R1 = torch.where(top_R1 > float("-inf"), top_R1, nowhere_R1)
    # exp(0) and more, if there is any
    rest_R1 = rest_RV.sub_(top_R1).exp_().sum(-1, keepdim=True).clamp_(min=1.0)
    buckets_RB = torch.cat([kept_RK, rest_R1.log().add_(top_R1)], dim=-1).log_softmax(-1)
    logq_RB = torch.cat([teacher.logq_LK, teacher.log_tail_L.unsqueeze(-1)], dim=-1)
    value = value_and_gradient(settings, buckets_RB, logq_RB.to(buckets_RB.dtype))
    gradient_RB = buckets_RB.mul_(scale)
    rest_RV.mul_(gradient_RB[:, -1:] / rest_R1).scatter_(-1, teacher.ids_LK, gradient_RB[:, :-1])
    return value


def _sampled_block(logits_RV: torch.Tensor, teacher: SampledTargets, scale: float) -> torch.Tensor:
    """Cross-entropy to the shares, less the teacher's entropy; logits / T become its gradient times
    `scale`.
    """
    share_RK = teacher.share_LK.to(logits_RV.dtype)
    top_R1 = logits_RV.amax(-1, keepdim=True)
    kept_RK = logits_RV.gather(-1, teacher.ids_LK).sub_(top_R1)
    logits_RV.sub_(top_R1).exp_()
    sum_R1 = logits_RV.sum(-1, keepdim=True)
    total_R1 = share_RK.sum(-1, keepdim=True)
    logits_RV.mul_(total_R1.mul(scale) / sum_R1).scatter_add_(-1, teacher.ids_LK, share_RK.mul(-scale))
    value = (share_RK * (sum_R1.log() - kept_RK)).sum(-1)
    return value.sub_(teacher.entropy_L.to(value.dtype))
