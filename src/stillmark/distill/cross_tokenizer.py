"""Distillation between different tokenizers: universal logit distillation where both have read the same text.

ULD (Boizard et al., arXiv 2402.12030): tokens of two vocabularies cannot be compared, but the shapes of two
distributions can. Both are sorted from the likeliest token down, and the loss is the sum of |p_(i) -
q_(i)|, the shorter one filled up with zeros.

Where: after every character at which a token of both tokenizers ends. There both models have read exactly
the same text and say what follows, so that no probabilities need to be merged. Other positions have no ULD
loss.

Shape suffixes: L aligned positions, D student's hidden size, E teacher's, V and W the two vocabularies, C
positions of a chunk, R rows of a block.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from stillmark.distill.divergence import DistillationLoss
from stillmark.distill.fused import FusedPass
from stillmark.distill.head import OutputHead, as_head
from stillmark.distill.losses import Clock, blocks_of
from stillmark.errors import UserError

# Characters: one has at most 30 marks in text that is fit for streams (UAX #15, section 13)
NORMALIZED_TOGETHER = 32


@dataclass(frozen=True, kw_only=True)
class TokenText:
    """The text that tokens stand for, and the offset in it after each of them (0 for a special token).

    `turns`, (role, content), are a chat before the text, which each model reads through its own template.
    """

    text: str
    ends: Sequence[int]
    turns: Sequence[tuple[str, str]] = ()


def aligned_positions(
    student_ends: Sequence[int], teacher_ends: Sequence[int]
) -> tuple[list[int], list[int]]:
    """The positions, in the student's and the teacher's tokens, after which both have read the same text.

    The ends are the offset in the text after each token. Of several tokens with one end (the bytes of one
    character, or a special token), the last is the one that has read all of it.
    """
    student_last = {end: position for position, end in enumerate(student_ends)}
    teacher_last = {end: position for position, end in enumerate(teacher_ends)}
    common = sorted(student_last.keys() & teacher_last.keys() - {0})
    return [student_last[end] for end in common], [teacher_last[end] for end in common]


def token_ends(tokenizer: Any, text: str, *, special_tokens: bool = False) -> tuple[list[int], list[int]]:
    """(ids, ends): the tokens of a text and the character offset after each.

    `special_tokens` adds those that the tokenizer puts around a text; they end at 0, where nothing is aligned.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(
            f"{type(tokenizer).__name__} does not say which characters a token stands for",
            "use a fast tokenizer (tokenizer.json)",
        )
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special_tokens)
    ids = encoded["input_ids"]
    return ids, ends_of(tokenizer, text, ids, encoded["offset_mapping"])


def ends_of(tokenizer: Any, text: str, ids: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """The offset after each token of a text, from a fast tokenizer's offsets, which tell less than was read:

    - Some byte-level tokenizers (Llama 3's) leave spaces at a token's end out: a newline and seven spaces, one token,
      would end after the newline. They are added back.
    - Of characters that a normaliser makes one ("e" and a combining accent, under NFC), only the first may be told. The
      token's end is the end of them all.
    - A token whose character is also the next one's (some of its bytes, or a mark for a space that is put before the
      text) ends where that one does, so that it is not the last with its end.
    """
    ends = [end for _, end in offsets]
    processor = tokenizer.backend_tokenizer.post_processor
    if processor is not None and b'"trim_offsets":true' in processor.__getstate__():
        for index, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
            without = token.rstrip("\u0120")  # a space, as byte-level vocabularies write it
            if without:
                ends[index] += len(token) - len(without)
            elif ends[index] == 0 < len(token) and text.startswith(
                " "
            ):  # the first one: its spaces may be trimmed too
                ends[index] = len(token)
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is not None and not normalizes_each_alone(normalizer, text):
        ends = [end_of_normalized(normalizer, text, end) for end in ends]
    for index in range(len(ends) - 2, -1, -1):
        (_, end), (next_start, next_end) = offsets[index : index + 2]
        if next_start < min(end, next_end):  # a special token has no characters
            ends[index] = max(ends[index], ends[index + 1])
    return ends


def normalizes_each_alone(normalizer: Any, text: str) -> bool:
    """Whether the normaliser joins no characters of this text, seen in one pass: most texts, and the quick way out."""
    first = normalizer.normalize_str(text[:1])
    parts = {char: normalizer.normalize_str(text[0] + char).removeprefix(first) for char in set(text[1:])}
    return bool(normalizer.normalize_str(text) == first + "".join(map(parts.__getitem__, text[1:])))


def end_of_normalized(normalizer: Any, text: str, end: int) -> int:
    """The first offset from `end` on at which the text can be cut and its first part is normalised as within it all."""
    while 0 < end < len(text):
        start = max(0, end - NORMALIZED_TOGETHER)
        whole = normalizer.normalize_str(text[start : end + NORMALIZED_TOGETHER])
        if whole.startswith(normalizer.normalize_str(text[start:end])):
            break
        end += 1
    return end


def fused_uld(
    student_hidden_LD: torch.Tensor,
    student_head: torch.Tensor | OutputHead,
    teacher_hidden_LE: torch.Tensor,
    teacher_head: torch.Tensor | OutputHead,
    *,
    num_loss_tokens: int | torch.Tensor,
    temperature: float = 1.0,
    student_vocab_size: int | None = None,
    teacher_vocab_size: int | None = None,
    teacher_clock: Clock = nullcontext,
) -> DistillationLoss:
    """The ULD loss of aligned positions, summed and divided by `num_loss_tokens` (the aligned ones of a
    step).

    Row i of both is the hidden state after the same text. The vocabulary sizes leave padding rows of the
    heads out. `teacher_clock` is entered around what the teacher's head takes, again at each block.
    """
    if student_hidden_LD.shape[:-1] != teacher_hidden_LE.shape[:-1]:
        shapes = f"{tuple(student_hidden_LD.shape)} and {tuple(teacher_hidden_LE.shape)}"
        raise ValueError(f"aligned hidden states come in pairs, not as {shapes}")
    everywhere = torch.zeros(student_hidden_LD.shape[:-1], dtype=torch.long, device=student_hidden_LD.device)
    fused = FusedPass(student_hidden_LD, student_head, everywhere, num_loss_tokens, student_vocab_size)
    with teacher_clock():
        teacher = as_head(teacher_head).detach().first_rows(teacher_vocab_size).to(fused.product_dtype)
        teacher_LE = fused.at_loss_positions(teacher_hidden_LE)

    def chunk_loss(logits_CV: torch.Tensor, rows: slice) -> tuple[torch.Tensor, None]:
        chunk_LE = teacher_LE[rows]
        values = []
        for block in blocks_of(logits_CV):
            with teacher_clock():
                teacher_RW = logits_CV.new_empty(len(chunk_LE[block]), teacher.num_rows)
                teacher.project(chunk_LE[block], teacher_RW)
            values.append(_uld_block(logits_CV[block], teacher_RW, temperature))
        return torch.cat(values), None

    return fused.run(chunk_loss, num_buffers=1, divergence_scale=1.0)


def _uld_block(logits_RV: torch.Tensor, teacher_RW: torch.Tensor, temperature: float) -> torch.Tensor:
    """The loss of each row; the student's logits become its gradient."""
    p_RV = logits_RV.div_(temperature).softmax(-1)
    sorted_p = p_RV.sort(-1, descending=True)
    sorted_q = teacher_RW.div_(temperature).softmax(-1).sort(-1, descending=True).values
    shared = min(p_RV.shape[1], sorted_q.shape[1])
    difference_RV = sorted_p.values
    difference_RV[:, :shared] -= sorted_q[:, :shared]
    value = difference_RV.abs().sum(-1) + sorted_q[:, shared:].sum(-1)
    slope_RV = torch.empty_like(p_RV).scatter_(-1, sorted_p.indices, difference_RV.sign_())
    mean_R1 = torch.linalg.vecdot(p_RV, slope_RV).unsqueeze(-1)
    torch.mul(p_RV, slope_RV.sub_(mean_R1), out=logits_RV).div_(temperature)
    return value
