"""Whether a teacher and a student speak of the same tokens: checked id by id, and never resized.

Models pad their output heads to a round number of rows (Qwen2.5's tokenizers have 151,665 tokens; its heads
151,936 or 152,064 rows). Such a row stands for no token. Here the rows past the last token are left out on
both sides, which is the same as logits of -inf: probability 0 for teacher and student, and no gradient to
the row.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Protocol

from stillmark.errors import UserError

SHOWN_DIFFERENCES = 5


class HasVocabulary(Protocol):
    """Any transformers tokenizer."""

    def get_vocab(self) -> dict[str, int]: ...


@dataclass(frozen=True, kw_only=True)
class SharedVocabulary:
    """Ids 0 to num_tokens - 1 mean the same token for both; pass `num_tokens` as the losses' `vocab_size`."""

    num_tokens: int
    student_rows: int
    teacher_rows: int
    sha256: str
    """Of the ids and their tokens."""

    def describe(self) -> str:
        """One sentence for a log or a model card."""
        padding = [self.student_rows - self.num_tokens, self.teacher_rows - self.num_tokens]
        if not any(padding):
            return f"student and teacher share {self.num_tokens:,} tokens; neither head is padded"
        return (
            f"student and teacher share {self.num_tokens:,} tokens; padding rows of the heads, masked to "
            f"probability 0: {padding[0]:,} of the student's, {padding[1]:,} of the teacher's"
        )


def shared_vocabulary(
    student_tokenizer: HasVocabulary,
    teacher_tokenizer: HasVocabulary,
    *,
    student_rows: int,
    teacher_rows: int,
) -> SharedVocabulary:
    """What both share; a difference in any id is a `UserError` that names the first ones.

    student_rows, teacher_rows: the heights of the output heads.
    """
    student, teacher = tokens_by_id(student_tokenizer), tokens_by_id(teacher_tokenizer)
    different = sorted(i for i in student.keys() | teacher.keys() if student.get(i) != teacher.get(i))
    if different:
        shown = different[:SHOWN_DIFFERENCES]
        lines = [f"  id {i}: student {_shown(student, i)}, teacher {_shown(teacher, i)}" for i in shown]
        raise UserError(
            f"student and teacher disagree on {len(different):,} token ids "
            f"(student {len(student):,} tokens, teacher {len(teacher):,}); the first:\n" + "\n".join(lines),
            "give the student the teacher's tokenizer, or distil from text or across tokenizers",
        )
    num_tokens = num_token_rows(student_tokenizer)
    for side, rows in (("student", student_rows), ("teacher", teacher_rows)):
        if rows < num_tokens:
            raise UserError(
                f"the {side}'s output head has {rows:,} rows, but its tokenizer {num_tokens:,} tokens: "
                f"{num_tokens - rows:,} tokens have no logit",
                "resize the model's embeddings on purpose, and train it so, before distilling",
            )
    return SharedVocabulary(
        num_tokens=num_tokens,
        student_rows=student_rows,
        teacher_rows=teacher_rows,
        sha256=vocabulary_sha256(student_tokenizer),
    )


def tokens_by_id(tokenizer: HasVocabulary) -> dict[int, str]:
    """Each id's token; a vocabulary in which two tokens share an id is refused."""
    tokens: dict[int, str] = {}
    for token, token_id in tokenizer.get_vocab().items():
        if token_id in tokens:
            raise UserError(f"id {token_id} stands for two tokens: {tokens[token_id]!r} and {token!r}")
        tokens[token_id] = token
    return tokens


def num_token_rows(tokenizer: HasVocabulary) -> int:
    """Rows of a head up to the last that stands for a token: more than there are tokens where ids are left out."""
    return max(tokenizer.get_vocab().values()) + 1


def vocabulary_sha256(tokenizer: HasVocabulary) -> str:
    """The checksum of all (id, token) pairs in the order of ids."""
    pairs = sorted(tokens_by_id(tokenizer).items())
    return hashlib.sha256(json.dumps(pairs, ensure_ascii=True).encode()).hexdigest()


def _shown(tokens: dict[int, str], token_id: int) -> str:
    return repr(tokens[token_id]) if token_id in tokens else "has none"
