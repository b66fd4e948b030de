"""Matching hidden states: chosen layers of the student are pulled towards layers of the teacher.

Where the two widths differ, a linear projector carries the student's states to the teacher's width
(FitNets, arXiv 1412.6550; TinyBERT, arXiv 1909.10351). Projectors are trained with the student and are no
part of it: they live in this module and are not saved with the student.

Shape suffixes: L positions with a loss, D student's hidden size, E teacher's.
"""

from collections.abc import Sequence
from typing import Any

import torch

from stillmark.errors import UserError, did_you_mean

KINDS = ("mse", "cosine")
IGNORED = -100


def layer_pairs(num_student_layers: int, num_teacher_layers: int) -> list[tuple[int, int]]:
    """(student's layer, teacher's layer) for every student layer, spread evenly, the last with the last.

    Layers are counted from 1, as in transformers' `hidden_states`, where 0 is the embedding.
    """
    if num_student_layers > num_teacher_layers:
        raise UserError(f"{num_student_layers} student layers cannot each have one of {num_teacher_layers}")
    return [
        (layer, round(layer * num_teacher_layers / num_student_layers))
        for layer in range(1, num_student_layers + 1)
    ]


class HiddenStateMatch(torch.nn.Module):  # type: ignore[misc]
    """The loss between paired layers, and the projectors that it needs.

    mse: the mean squared difference of a position's channels. cosine: 1 - their cosine. Each is the mean
    over pairs and the sum over loss positions / `num_loss_tokens`, so that any split of the batch gives the
    same gradient.
    """

    def __init__(
        self,
        student_size: int,
        teacher_size: int,
        pairs: Sequence[tuple[int, int]],
        *,
        kind: str = "cosine",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UserError(
                f"unknown match of hidden states `{kind}`: {', '.join(KINDS)}", did_you_mean(kind, KINDS)
            )
        if not pairs:
            raise UserError("matching hidden states needs at least one pair of layers")
        self.pairs, self.kind = tuple(pairs), kind
        generator = torch.Generator().manual_seed(seed)
        self.projectors = torch.nn.ParameterList()
        if student_size != teacher_size:
            for _ in self.pairs:
                weight = torch.empty(teacher_size, student_size)
                torch.nn.init.normal_(weight, std=student_size**-0.5, generator=generator)
                self.projectors.append(torch.nn.Parameter(weight))

    def forward(
        self,
        student_states: Sequence[torch.Tensor],
        teacher_states: Sequence[torch.Tensor],
        targets: torch.Tensor,
        *,
        num_loss_tokens: int | torch.Tensor,
    ) -> Any:
        """The loss; states are (..., D) and (..., E) by layer with the embedding first, targets (...)."""
        keep = targets != IGNORED
        total = student_states[0].new_zeros(())
        for index, (student_layer, teacher_layer) in enumerate(self.pairs):
            student_LD = student_states[student_layer][keep]
            teacher_LE = teacher_states[teacher_layer][keep].detach().to(student_LD.dtype)
            if len(self.projectors):
                student_LD = student_LD @ self.projectors[index].to(student_LD.dtype).T
            if self.kind == "mse":
                total = total + (student_LD - teacher_LE).square().mean(-1).sum()
            else:
                total = (
                    total + (1 - torch.nn.functional.cosine_similarity(student_LD, teacher_LE, dim=-1)).sum()
                )
        return total / (len(self.pairs) * num_loss_tokens)
