"""How many rows of each output head an objective reads: those that stand for a token, the same on both sides."""

from typing import Any

from stillmark.distill.vocabulary import num_token_rows, shared_vocabulary
from stillmark.errors import UserError

VocabSizes = tuple[int | None, int | None]  # student's and teacher's; None: every row of the head


def shared_sizes(
    student_rows: int, teacher_rows: int, tokenizers: tuple[Any, Any], *, teacher_rows_of: str
) -> VocabSizes:
    """For losses that compare token by token: the ids that mean the same, checked one by one.

    Without tokenizers both sides must have as many rows: the caller vouches that one tokenizer made both.
    """
    student_tokenizer, teacher_tokenizer = tokenizers
    if student_tokenizer is None or teacher_tokenizer is None:
        if student_rows != teacher_rows:
            raise UserError(
                f"the student's output head has {student_rows:,} rows, {teacher_rows_of} {teacher_rows:,}",
                "give both tokenizers, so that it is known which rows stand for the same token",
            )
        return None, None
    shared = shared_vocabulary(
        student_tokenizer, teacher_tokenizer, student_rows=student_rows, teacher_rows=teacher_rows
    )
    return shared.num_tokens, shared.num_tokens


def own_sizes(student_rows: int, teacher_rows: int, tokenizers: tuple[Any, Any]) -> VocabSizes:
    """For losses across tokenizers: each side's own tokens."""
    if None in tokenizers:
        raise UserError("loss `uld`: needs the student's tokenizer and the teacher's")
    sides = zip(("student", "teacher"), tokenizers, (student_rows, teacher_rows), strict=True)
    sizes = []
    for side, tokenizer, rows in sides:
        size = num_token_rows(tokenizer)
        if size > rows:
            raise UserError(
                f"the {side}'s output head has {rows:,} rows, but its tokenizer {size:,} tokens: "
                f"{size - rows:,} tokens have no logit",
                "resize the model's embeddings on purpose, and train it so, before distilling",
            )
        sizes.append(size)
    return sizes[0], sizes[1]
