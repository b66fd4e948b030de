"""Vocabularies: padding is counted, a difference is named, nothing is resized."""

import pytest

from stillmark.distill.vocabulary import shared_vocabulary
from stillmark.errors import UserError


class Tokens:
    def __init__(self, *tokens):
        self.vocab = {token: index for index, token in enumerate(tokens)}

    def get_vocab(self):
        return self.vocab


def test_padded_heads_share_the_tokens_of_the_tokenizer():
    words = Tokens(*[f"w{index}" for index in range(151_665)])  # Qwen2.5's tokenizer and heads
    shared = shared_vocabulary(words, words, student_rows=151_936, teacher_rows=152_064)
    assert shared.num_tokens == 151_665
    assert "271 of the student's, 399 of the teacher's" in shared.describe()
    plain = shared_vocabulary(Tokens("a"), Tokens("a"), student_rows=1, teacher_rows=1)
    assert "neither head is padded" in plain.describe()


def test_the_first_differing_ids_are_named():
    with pytest.raises(UserError) as error:
        shared_vocabulary(Tokens("a", "b", "c"), Tokens("a", "B", "c", "d"), student_rows=4, teacher_rows=4)
    assert "2 token ids (student 3 tokens, teacher 4)" in error.value.message
    assert "id 1: student 'b', teacher 'B'\n  id 3: student has none, teacher 'd'" in error.value.message


def test_a_head_with_fewer_rows_than_tokens_is_refused():
    with pytest.raises(UserError, match="teacher's output head has 2 rows"):
        shared_vocabulary(Tokens("a", "b", "c"), Tokens("a", "b", "c"), student_rows=3, teacher_rows=2)


def test_two_tokens_with_one_id_are_refused():
    broken = Tokens("a")
    broken.vocab["b"] = 0
    with pytest.raises(UserError, match="two tokens"):
        shared_vocabulary(broken, Tokens("a"), student_rows=1, teacher_rows=1)
