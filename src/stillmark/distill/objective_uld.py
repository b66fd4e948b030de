"""Universal logit distillation of a batch: where student and teacher have read the same text, and the loss there.

The teacher reads each row's text in its own tokens, with the special tokens that it begins a text with, up to the
last place that is compared. The sum over compared positions is divided by the step's loss tokens, compared or not:
a position after which the two tokenizers do not both end a token adds nothing.

Shape suffixes: B rows with a compared position, U teacher's positions, L compared positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stillmark.distill.cross_tokenizer import aligned_positions, fused_uld, token_ends
from stillmark.distill.head import OutputHead
from stillmark.distill.text import IGNORED, MicroBatch, Row
from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedBatch:
    """What the teacher reads of a batch, and the places (row, position) where both have read the same."""

    teacher_ids_BU: torch.Tensor
    student_places_L: tuple[torch.Tensor, torch.Tensor]
    teacher_places_L: tuple[torch.Tensor, torch.Tensor]

    @property
    def num_positions(self) -> int:
        return len(self.student_places_L[0])


def aligned_batch(batch: MicroBatch, teacher_tokenizer: Any) -> AlignedBatch:
    """Each row of the batch is one sample; positions without a loss are not compared."""
    device = batch.input_ids_BT.device
    texts: list[list[int]] = []
    student_places: list[tuple[int, int]] = []
    teacher_places: list[tuple[int, int]] = []
    for index, row in enumerate(batch.rows):
        pairs, teacher_ids = aligned_row(row, teacher_tokenizer)
        if pairs:
            student_places += [(index, student) for student, _ in pairs]
            teacher_places += [(len(texts), teacher) for _, teacher in pairs]
            texts.append(teacher_ids[: pairs[-1][1] + 1])
    ids_BU = torch.zeros(len(texts), max(map(len, texts), default=0), dtype=torch.long)
    for index, ids in enumerate(texts):  # padded on the right: causal attention keeps it from every position
        ids_BU[index, : len(ids)] = torch.tensor(ids)
    return AlignedBatch(
        teacher_ids_BU=ids_BU.to(device),
        student_places_L=columns(student_places, device),
        teacher_places_L=columns(teacher_places, device),
    )


def aligned_row(row: Row, teacher_tokenizer: Any) -> tuple[list[tuple[int, int]], list[int]]:
    """((student's position, teacher's position) in ascending order, the teacher's tokens)."""
    if row.text is None:
        raise UserError(
            "loss `uld` compares tokenizers on the same text, but a sample came as tokens alone",
            "read samples with a fast tokenizer (tokenizer.json), from a text that keeps its characters",
        )
    teacher_ids, teacher_ends = token_ends(teacher_tokenizer, row.text.text, special_tokens=True)
    both = zip(*aligned_positions(row.text.ends, teacher_ends), strict=True)
    return [pair for pair in both if row.sequence.targets[pair[0]] != IGNORED], teacher_ids


def uld_loss(
    aligned: AlignedBatch,
    student_hidden_BTD: torch.Tensor,
    student_head: OutputHead,
    teacher_hidden_BUE: torch.Tensor | None,
    teacher_head: OutputHead,
    *,
    num_loss_tokens: int,
    temperature: float,
    student_vocab_size: int | None,
    teacher_vocab_size: int | None,
) -> torch.Tensor:
    """The batch's share of the ULD loss; 0 (with a gradient of 0) where nothing could be compared."""
    if teacher_hidden_BUE is None:
        teacher_LE = student_hidden_BTD.new_empty(0, teacher_head.weight.shape[1])
    else:
        teacher_LE = teacher_hidden_BUE[aligned.teacher_places_L]
    return fused_uld(
        student_hidden_BTD[aligned.student_places_L],
        student_head,
        teacher_LE,
        teacher_head,
        num_loss_tokens=num_loss_tokens,
        temperature=temperature,
        student_vocab_size=student_vocab_size,
        teacher_vocab_size=teacher_vocab_size,
    ).loss


def columns(places: Sequence[tuple[int, int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and positions, each as an index."""
    rows, positions = torch.tensor(places, dtype=torch.long, device=device).reshape(-1, 2).unbind(1)
    return rows, positions
