"""Universal logit distillation of a batch: where student and teacher have read the same text, and the loss there.

The teacher reads each row's text in its own tokens, with the special tokens that it begins a text with, or the chat
before it through its own template, up to the last place that is compared. The sum over compared positions is divided
by the step's loss tokens, compared or not: a position after which the two tokenizers do not both end a token adds
nothing.

Shape suffixes: B rows with a compared position, U teacher's positions, L compared positions.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from stillmark.distill.chat import ChatFormat, chat_format, ids_before_reply
from stillmark.distill.corpus import Corpus
from stillmark.distill.cross_tokenizer import TokenText, aligned_positions, fused_uld, token_ends
from stillmark.distill.head import OutputHead
from stillmark.distill.losses import Clock
from stillmark.distill.text import IGNORED, MicroBatch, Row
from stillmark.errors import UserError
from stillmark.study.schema import ComparedText


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignedBatch:
    """What the teacher reads of a batch, and the places (row, position) where both have read the same."""

    teacher_ids_BU: torch.Tensor
    num_teacher_tokens: int  # padding left out
    student_places_L: tuple[torch.Tensor, torch.Tensor]
    teacher_places_L: tuple[torch.Tensor, torch.Tensor]

    @property
    def num_positions(self) -> int:
        return len(self.student_places_L[0])


class TeacherReading:
    """How a teacher's tokenizer reads the texts of its student."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @cached_property
    def chat(self) -> ChatFormat | None:
        return chat_format(self.tokenizer)

    def tokens(self, text: TokenText) -> tuple[Sequence[int], Sequence[int]]:
        """(ids, the offset in the text after each; 0 of what is before it)."""
        if not text.turns:
            return token_ends(self.tokenizer, text.text, special_tokens=True)
        before = ids_before_reply(text.turns, self.tokenizer, self.chat)
        ids, ends = token_ends(self.tokenizer, text.text)
        return [*before, *ids], [*[0] * len(before), *ends]


def aligned_batch(batch: MicroBatch, teacher: TeacherReading) -> AlignedBatch:
    """Each row of the batch is one sample; positions without a loss are not compared."""
    device = batch.input_ids_BT.device
    texts: list[Sequence[int]] = []
    student_places: list[tuple[int, int]] = []
    teacher_places: list[tuple[int, int]] = []
    for index, row in enumerate(batch.rows):
        pairs, teacher_ids = aligned_row(row, teacher)
        if pairs:
            student_places += [(index, student) for student, _ in pairs]
            teacher_places += [(len(texts), teacher) for _, teacher in pairs]
            texts.append(teacher_ids)
    ids_BU = torch.zeros(len(texts), max(map(len, texts), default=0), dtype=torch.long)
    for index, ids in enumerate(texts):  # padded on the right: causal attention keeps it from every position
        ids_BU[index, : len(ids)] = torch.tensor(ids)
    return AlignedBatch(
        teacher_ids_BU=ids_BU.to(device),
        num_teacher_tokens=sum(map(len, texts)),
        student_places_L=columns(student_places, device),
        teacher_places_L=columns(teacher_places, device),
    )


def aligned_row(row: Row, teacher: TeacherReading) -> tuple[list[tuple[int, int]], Sequence[int]]:
    """((student's position, teacher's position) in ascending order, the teacher's tokens up to the last of these)."""
    if row.text is None:
        raise UserError(
            "loss `uld` compares tokenizers on the same text, but a sample came as tokens alone",
            "read samples with a fast tokenizer (tokenizer.json), from a text that keeps its characters",
        )
    teacher_ids, teacher_ends = teacher.tokens(row.text)
    both = zip(*aligned_positions(row.text.ends, teacher_ends), strict=True)
    pairs = [pair for pair in both if row.sequence.targets[pair[0]] != IGNORED]
    return pairs, teacher_ids[: pairs[-1][1] + 1] if pairs else []


def compared_text(corpus: Corpus, teacher_tokenizer: Any) -> ComparedText:
    """What a teacher reads of the training text, and where it is compared. Raises UserError where that is nowhere."""
    assert corpus.train_texts is not None
    teacher, teacher_tokens, positions, total = TeacherReading(teacher_tokenizer), 0, 0, hashlib.sha256()
    for sequence, text in zip(corpus.train, corpus.train_texts, strict=True):
        pairs, read = aligned_row(Row(sequence=sequence, text=text), teacher)
        positions += len(pairs)
        teacher_tokens += len(read)
        total.update(json.dumps([pairs, list(read)]).encode())
    if not positions:
        raise UserError("loss `uld`: there is no place in the training text where both tokenizers have read the same",
                        "raise `context_tokens` so that prompts and some of their responses fit")  # fmt: skip
    return ComparedText(sha256=total.hexdigest(), teacher_tokens=teacher_tokens, positions=positions)


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
    teacher_clock: Clock,
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
        teacher_clock=teacher_clock,
    ).loss


def columns(places: Sequence[tuple[int, int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and positions, each as an index."""
    rows, positions = torch.tensor(places, dtype=torch.long, device=device).reshape(-1, 2).unbind(1)
    return rows, positions
