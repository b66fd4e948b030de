"""Teacher and student with tokenizers and padded heads of their own, through an objective."""

import pytest
import torch
from tests.distill.tiny_objective import (
    bound,
    dense_loss,
    gradients,
    piece_tokenizer,
    recipe,
    rows,
    teacher_of,
    tiny,
)

from stillmark.errors import UserError

LETTERS = "abcdefghijklmnop"
TOKENIZER = piece_tokenizer(".", [LETTERS])
NUM = len(TOKENIZER)


@pytest.mark.parametrize(
    ("student_rows", "teacher_rows"), [(NUM, NUM), (NUM + 3, NUM + 9), (NUM + 5, NUM + 5)]
)
@pytest.mark.parametrize("loss", ["forward_kl", "jsd"])
def test_rows_that_stand_for_no_token_have_no_probability(student_rows, teacher_rows, loss):
    """As in Qwen2.5, 151,936 and 152,064 rows: the loss is that of the shared tokens, padding gets no gradient."""
    wanted = recipe(loss=loss, cross_entropy_weight=0.3)
    student, teacher = tiny(vocab_size=student_rows), teacher_of(vocab_size=teacher_rows)
    objective = bound(
        wanted,
        student,
        teacher,
        student_tokenizer=TOKENIZER,
        teacher_tokenizer=piece_tokenizer(".", [LETTERS]),
    )
    chosen = rows(vocab_size=NUM)
    value, got = gradients(objective, student, chosen)
    expected = dense_loss(wanted, student, teacher, chosen, num_tokens=NUM)
    assert value == pytest.approx(float(expected.detach()), rel=1e-12)
    wanted_gradients = list(torch.autograd.grad(expected, list(student.parameters())))
    torch.testing.assert_close(got, wanted_gradients, rtol=1e-8, atol=1e-12)


def test_heads_of_two_heights_need_tokenizers():
    wanted = recipe(loss="jsd")
    with pytest.raises(UserError, match="19 rows, the teacher's 24"):
        bound(wanted, tiny(vocab_size=NUM), teacher_of(vocab_size=NUM + 5))


def test_two_vocabularies_are_refused_with_the_ids_that_differ():
    other = piece_tokenizer(".", [LETTERS.replace("c", "z")])
    student, teacher = tiny(vocab_size=NUM), teacher_of(vocab_size=NUM)
    with pytest.raises(UserError, match=r"disagree on 14 token ids[^$]*id 5: student 'c', teacher 'd'"):
        bound(recipe(loss="jsd"), student, teacher, student_tokenizer=TOKENIZER, teacher_tokenizer=other)
    with pytest.raises(UserError, match="tokens have no logit"):
        bound(recipe(loss="jsd"), tiny(vocab_size=NUM - 2), teacher,
              student_tokenizer=TOKENIZER, teacher_tokenizer=TOKENIZER)  # fmt: skip
