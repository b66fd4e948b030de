"""Divergences between a teacher's and a student's next-token distribution, with their gradients.

Notation, as used everywhere below: q is the teacher, p the student, both softmax(logits / T) over the same
vocabulary; values are in nats a token.

| kind            | D                                     | source                                      |
|-----------------|---------------------------------------|---------------------------------------------|
| forward_kl      | KL(q || p)                            | Hinton et al., arXiv 1503.02531             |
| reverse_kl      | KL(p || q)                            | MiniLLM, arXiv 2306.08543                   |
| jsd             | b KL(q || m) + (1-b) KL(p || m),      | GKD, arXiv 2306.13649, in TRL's convention: |
|                 | m = b q + (1-b) p                     | b = 0 is forward KL and b = 1 reverse KL    |
| skew_kl         | KL(q || a q + (1-a) p)                | DistiLLM, arXiv 2402.03898                  |
| skew_reverse_kl | KL(p || a p + (1-a) q)                | DistiLLM, arXiv 2402.03898                  |
| total_variation | 1/2 sum |p - q|                       | f-distill, arXiv 2307.15190                 |

`temperature_squared` multiplies the divergence by T^2 (Hinton's correction for the 1/T^2 in its gradient;
TRL does not, DistillKit and ModelOpt do). Cross-entropy is taken at temperature 1 and mixed in as `(1 -
cross_entropy_weight) * divergence + cross_entropy_weight * cross_entropy`.

The gradient: with z the student's logits / T, and w = p dD/dp, dD/dz = w - p sum(w) (softmax's Jacobian).
Terms of w that are a multiple of p drop out, so they are left out below.

Shape suffixes: N tokens, V vocabulary (or buckets).
"""

from dataclasses import dataclass

import torch

from stillmark.errors import UserError, did_you_mean

KINDS = ("forward_kl", "reverse_kl", "jsd", "skew_kl", "skew_reverse_kl", "total_variation")


@dataclass(frozen=True, kw_only=True)
class DivergenceSettings:
    """What a student is pulled by; see the table at the head of this file."""

    kind: str = "forward_kl"
    beta: float = 0.5
    """Only for `jsd`: 0 is forward KL, 1 is reverse KL."""
    alpha: float = 0.1
    """Only for the skewed kinds: the share of the first distribution in the mixture."""
    temperature: float = 1.0
    temperature_squared: bool = False
    """Whether the divergence is multiplied by temperature squared."""
    cross_entropy_weight: float = 0.0
    """The share of cross-entropy on the data's tokens; the divergence gets the rest."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(
                f"unknown divergence `{self.kind}`: {', '.join(KINDS)}", did_you_mean(self.kind, KINDS)
            )
        if not 0.0 <= self.beta <= 1.0:
            raise UserError(f"divergence `jsd`: beta is {self.beta}, but must be within 0 and 1")
        if not 0.0 <= self.alpha < 1.0:
            raise UserError(
                f"divergence `{self.kind}`: alpha is {self.alpha}, but must be at least 0 and below 1"
            )
        if not 0.0 < self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}, but must be above 0")
        if not 0.0 <= self.cross_entropy_weight <= 1.0:
            raise UserError(
                f"cross_entropy_weight is {self.cross_entropy_weight}, but must be within 0 and 1"
            )

    @property
    def effective_kind(self) -> str:
        """The kind after the limits: `jsd` is a KL at beta 0 and 1, a skewed kind is plain at alpha 0."""
        if self.kind == "jsd" and self.beta in (0.0, 1.0):
            return "forward_kl" if self.beta == 0.0 else "reverse_kl"
        if self.kind.startswith("skew") and self.alpha == 0.0:
            return "forward_kl" if self.kind == "skew_kl" else "reverse_kl"
        return self.kind

    @property
    def divergence_scale(self) -> float:
        """What the divergence is multiplied by in the loss: its share of the mix, and T^2 where asked for."""
        return (1.0 - self.cross_entropy_weight) * (self.temperature**2 if self.temperature_squared else 1.0)


@dataclass(frozen=True, kw_only=True)
class DistillationLoss:
    """A loss to call `backward` on, and its two parts, each a sum over loss tokens / num_loss_tokens, in
    nats.
    """

    loss: torch.Tensor
    divergence: torch.Tensor | None
    """Without its weight and without T^2; None where the weight of cross-entropy is 1 and no teacher was
    asked.
    """
    cross_entropy: torch.Tensor | None
    """Without its weight; None where its weight is 0, since it was then not computed."""


def divergence(
    settings: DivergenceSettings, student_logits_NV: torch.Tensor, teacher_logits_NV: torch.Tensor
) -> torch.Tensor:
    """The divergence of each row, dense and by autograd: the reference that the fused losses are held to.

    No T^2 and no cross-entropy. Logits of -inf (masked rows of a padded vocabulary) must be so on both sides.
    """
    logp = (student_logits_NV / settings.temperature).log_softmax(-1)
    logq = (teacher_logits_NV / settings.temperature).log_softmax(-1)
    kind, alpha, beta = settings.effective_kind, settings.alpha, settings.beta
    if kind == "forward_kl":
        return _kl(logq, logp)
    if kind == "reverse_kl":
        return _kl(logp, logq)
    if kind == "jsd":
        middle = _log_mix(logq, logp, beta)
        return beta * _kl(logq, middle) + (1 - beta) * _kl(logp, middle)
    if kind == "skew_kl":
        return _kl(logq, _log_mix(logq, logp, alpha))
    if kind == "skew_reverse_kl":
        return _kl(logp, _log_mix(logp, logq, alpha))
    return 0.5 * (logp.exp() - logq.exp()).abs().sum(-1)


def _kl(first_log_NV: torch.Tensor, second_log_NV: torch.Tensor) -> torch.Tensor:
    """KL(first || second) of each row; a pair of -inf counts as 0, as its limit is."""
    possible = first_log_NV > float("-inf")
    ratio = torch.where(possible, first_log_NV, 0.0) - torch.where(possible, second_log_NV, 0.0)
    return (first_log_NV.exp() * ratio).sum(-1)


def _log_mix(first_log_NV: torch.Tensor, second_log_NV: torch.Tensor, share: float) -> torch.Tensor:
    """log(share * first + (1 - share) * second), computed in logs."""
    shares = torch.tensor([share, 1 - share], dtype=first_log_NV.dtype, device=first_log_NV.device).log()
    return torch.logaddexp(first_log_NV + shares[0], second_log_NV + shares[1])


def value_and_gradient(
    settings: DivergenceSettings, student_NV: torch.Tensor, teacher_NV: torch.Tensor
) -> torch.Tensor:
    """The divergence of each row, from finite logits / T; the student's become its gradient to them.

    Written for speed: the teacher's are overwritten too. The columns may be a vocabulary, or buckets of one.
    """
    kind, beta, alpha = settings.effective_kind, settings.beta, settings.alpha
    p_NV, student_log_sum_N = shifted_softmax(student_NV)
    q_NV, teacher_log_sum_N = shifted_softmax(teacher_NV)
    if kind in ("forward_kl", "reverse_kl"):  # only the difference of log p and log q is needed
        shift_N = student_log_sum_N - teacher_log_sum_N
        if kind == "forward_kl":
            value_N = _row_dot(q_NV, teacher_NV.sub_(student_NV), scratch_NV=teacher_NV)
            torch.sub(p_NV, q_NV, out=student_NV)
            return value_N.add_(shift_N)
        return _to_gradient(student_NV.sub_(teacher_NV), p_NV, scratch_NV=teacher_NV).sub_(shift_N)
    logp_NV = student_NV.sub_(student_log_sum_N.unsqueeze(-1))
    logq_NV = teacher_NV.sub_(teacher_log_sum_N.unsqueeze(-1))
    if kind == "total_variation":
        difference_NV = torch.sub(p_NV, q_NV, out=student_NV)
        value_N = torch.abs(difference_NV, out=teacher_NV).sum(-1).mul_(0.5)
        _to_gradient(difference_NV.sign_().mul_(0.5), p_NV, scratch_NV=teacher_NV)
        return value_N
    # The mixtures. `tiny` keeps log(0) out where both underflow; each such entry is multiplied by 0.
    tiny = torch.finfo(p_NV.dtype).tiny
    if kind == "jsd":
        log_m_NV = torch.lerp(p_NV, q_NV, beta).clamp_(min=tiny).log_()
        teacher_part_N = _row_dot(q_NV, logq_NV.sub_(log_m_NV), scratch_NV=teacher_NV)
        student_part_N = _to_gradient(logp_NV.sub_(log_m_NV), p_NV, scratch_NV=teacher_NV)
        student_NV.mul_(1 - beta)
        return beta * teacher_part_N + (1 - beta) * student_part_N
    if kind == "skew_kl":
        m_NV = torch.lerp(p_NV, q_NV, alpha).clamp_(min=tiny)
        value_N = _row_dot(q_NV, logq_NV.sub_(m_NV.log()), scratch_NV=teacher_NV)
        ratio_NV = torch.div(q_NV, m_NV, out=student_NV).mul_(alpha - 1)
        _to_gradient(ratio_NV, p_NV, scratch_NV=teacher_NV)
        return value_N
    m_NV = torch.lerp(q_NV, p_NV, alpha).clamp_(min=tiny)
    log_ratio_NV = logp_NV.sub_(m_NV.log())
    value_N = _row_dot(p_NV, log_ratio_NV, scratch_NV=teacher_NV)
    slope_NV = log_ratio_NV.sub_(torch.div(p_NV, m_NV, out=m_NV).mul_(alpha))
    _to_gradient(slope_NV, p_NV, scratch_NV=teacher_NV)
    return value_N


def _to_gradient(slope_NV: torch.Tensor, p_NV: torch.Tensor, *, scratch_NV: torch.Tensor) -> torch.Tensor:
    """sum(p slope) of each row; the slope becomes p (slope - that sum)."""
    mean_N = _row_dot(p_NV, slope_NV, scratch_NV=scratch_NV)
    slope_NV.sub_(mean_N.unsqueeze(-1)).mul_(p_NV)
    return mean_N


def _row_dot(first_NV: torch.Tensor, second_NV: torch.Tensor, *, scratch_NV: torch.Tensor) -> torch.Tensor:
    """The dot product of each pair of rows, with the products in `scratch`, which may be either (einsum takes five
    times as long on a CPU).
    """
    return torch.mul(first_NV, second_NV, out=scratch_NV).sum(-1)


def shifted_softmax(logits_NV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax and logsumexp of each row, by one exponential, when its highest logit is made 0 in place.

    So what is computed from them next does not carry the rounding of large logits. The highest probability is then
    exp(-logsumexp).
    """
    probability_NV = logits_NV.sub_(logits_NV.amax(-1, keepdim=True)).softmax(-1)
    return probability_NV, probability_NV.amax(-1).log_().neg_()
