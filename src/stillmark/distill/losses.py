"""Losses from hidden states, without ever building the (tokens x vocabulary) logits.

The output head, the loss and the loss's gradient are computed chunk by chunk in one pass: project a chunk
of tokens to logits, turn the logits in place into their gradient, multiply back. So the gradient is ready
in the forward, and the backward only scales it. Only positions with a target are projected, and peak memory
beyond the inputs and their gradients is about `fused.CHUNK_BYTES`, whatever the batch.

Every loss is a sum over the loss tokens divided by `num_loss_tokens`, which the caller passes: the count
over the whole optimiser step (all micro-batches, all processes), so that any split of the batch gives the
same gradient.

Shape suffixes: L positions with a loss, D student's hidden size, E teacher's, V vocabulary, C positions of
a chunk, R rows of a block of a chunk.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch

from stillmark.distill.divergence import (
    DistillationLoss,
    DivergenceSettings,
    shifted_softmax,
    value_and_gradient,
)
from stillmark.distill.fused import FusedPass
from stillmark.distill.head import OutputHead, as_head, checked_output_head, output_head
from stillmark.errors import UserError

__all__ = [
    "DistillationLoss",
    "DivergenceSettings",
    "OutputHead",
    "checked_output_head",
    "fused_cross_entropy",
    "fused_divergence",
    "output_head",
]

Clock = Callable[[], AbstractContextManager[object]]  # times what runs within it

BLOCK_ELEMENTS = 2**17  # on a CPU, softmax and loss run over blocks that stay in each core's cache


def fused_cross_entropy(
    hidden: torch.Tensor,
    head: torch.Tensor | OutputHead,
    targets: torch.Tensor,
    *,
    num_loss_tokens: int | torch.Tensor,
    vocab_size: int | None = None,
) -> torch.Tensor:
    """Cross-entropy in nats: the sum over positions whose target is not -100, divided by `num_loss_tokens`.

    hidden (..., D) and targets (...) are aligned: hidden[i] predicts targets[i], so the caller has shifted
    them. `vocab_size` leaves the head's rows past it out (probability 0).
    """
    return cross_entropy_of(FusedPass(hidden, head, targets, num_loss_tokens, vocab_size)).loss


def fused_divergence(
    student_hidden: torch.Tensor,
    student_head: torch.Tensor | OutputHead,
    teacher_hidden: torch.Tensor,
    teacher_head: torch.Tensor | OutputHead,
    targets: torch.Tensor,
    *,
    divergence: DivergenceSettings,
    num_loss_tokens: int | torch.Tensor,
    vocab_size: int | None = None,
    teacher_clock: Clock = nullcontext,
) -> DistillationLoss:
    """The divergence from a live teacher, mixed with cross-entropy as the settings say.

    student_hidden (..., D), teacher_hidden (..., E) and targets (...) are aligned; a position with target
    -100 has no loss. The teacher gets no gradient. Heads of different height need `vocab_size`, the count
    of tokens that both share from id 0 on: rows past it are padding and get probability 0 on both sides
    (see `vocabulary.py`). `teacher_clock` is entered around what the teacher's head takes, again at each chunk.
    """
    fused = FusedPass(student_hidden, student_head, targets, num_loss_tokens, vocab_size)
    teacher = as_head(teacher_head).detach().first_rows(vocab_size)
    if teacher.num_rows != fused.head.num_rows:
        raise UserError(
            f"the student's head has {fused.head.num_rows} rows, the teacher's {teacher.num_rows}",
            "pass vocab_size, the count of tokens that they share: stillmark.distill.vocabulary finds it",
        )
    if teacher_hidden.shape != (*targets.shape, teacher.weight.shape[1]):
        raise ValueError(f"teacher_hidden {tuple(teacher_hidden.shape)}, but targets {tuple(targets.shape)}")
    if divergence.cross_entropy_weight == 1.0:
        return cross_entropy_of(fused)
    with teacher_clock():
        teacher = teacher.to(fused.product_dtype)
        teacher_LE, teacher_buffer = fused.at_loss_positions(teacher_hidden), fused.chunk_buffer(2)

    def chunk_loss(logits_CV: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        with teacher_clock():
            teacher_CV = teacher.project(teacher_LE[rows], teacher_buffer[: len(logits_CV)])
        targets_C = fused.targets_L[rows]
        blocks = blocks_of(logits_CV)
        return joined(
            [divergence_block(divergence, logits_CV[r], teacher_CV[r], targets_C[r]) for r in blocks]
        )

    return fused.run(
        chunk_loss,
        num_buffers=2,
        divergence_scale=divergence.divergence_scale,
        cross_entropy_weight=divergence.cross_entropy_weight,
    )


def cross_entropy_of(fused: FusedPass) -> DistillationLoss:
    def chunk_loss(logits_CV: torch.Tensor, rows: slice) -> tuple[None, torch.Tensor]:
        targets_C = fused.targets_L[rows]
        return None, torch.cat(
            [cross_entropy_block(logits_CV[r], targets_C[r]) for r in blocks_of(logits_CV)]
        )

    return fused.run(chunk_loss, num_buffers=1, cross_entropy_weight=1.0)


def cross_entropy_block(logits_RV: torch.Tensor, targets_R: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row; the logits become its gradient, softmax(logits) - one_hot(target)."""
    index_R1 = targets_R.unsqueeze(-1)
    probability_RV, log_sum_R = shifted_softmax(logits_RV)
    at_target_R = logits_RV.gather(-1, index_R1).squeeze(-1)
    logits_RV.copy_(probability_RV)
    logits_RV.scatter_add_(-1, index_R1, logits_RV.new_full(index_R1.shape, -1.0))
    return log_sum_R.sub_(at_target_R)


def divergence_block(
    settings: DivergenceSettings, logits_RV: torch.Tensor, teacher_RV: torch.Tensor, targets_R: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(divergence, cross-entropy) of each row; the student's logits become the gradient of the mixed loss."""
    temperature, weight = settings.temperature, settings.cross_entropy_weight
    cross_entropy = hard_gradient_RV = None
    if weight:
        hard_gradient_RV = logits_RV.clone()
        cross_entropy = cross_entropy_block(hard_gradient_RV, targets_R)
    if temperature != 1.0:
        logits_RV.div_(temperature)
        teacher_RV.div_(temperature)
    value = value_and_gradient(settings, logits_RV, teacher_RV)
    if (scale := settings.divergence_scale / temperature) != 1.0:
        logits_RV.mul_(scale)
    if hard_gradient_RV is not None:
        logits_RV.add_(hard_gradient_RV, alpha=weight)
    return value, cross_entropy


def blocks_of(logits_CV: torch.Tensor) -> Iterator[slice]:
    """Row blocks that fit a CPU core's cache; on other devices the whole chunk, for the fewest kernel
    launches.
    """
    num_rows, vocab_size = logits_CV.shape
    block_rows = max(1, num_rows)
    if logits_CV.device.type == "cpu":
        block_rows = max(1, BLOCK_ELEMENTS * torch.get_num_threads() // vocab_size)
    for start in range(0, num_rows, block_rows):
        yield slice(start, start + block_rows)


def joined(
    blocks: list[tuple[torch.Tensor, torch.Tensor | None]],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The blocks' (divergence, cross-entropy), end to end."""
    seconds = [second for _, second in blocks if second is not None]
    return torch.cat([first for first, _ in blocks]), torch.cat(seconds) if seconds else None
