"""Distillation methods: closed forms, and the order that the methods must stand in."""

from fractions import Fraction
from typing import Any

import pytest

from stillmark.compute.flops import Lora, Recompute, forward_flops, generate_flops, train_flops
from stillmark.compute.method_flops import (
    Samples,
    Training,
    cached_logits,
    fine_tuning,
    live_logits,
    on_policy,
    sequence_level,
    six_nd,
)
from stillmark.compute.model_shape import ModelShape
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError


def llama(hidden: int, layers: int, **more: Any) -> ModelShape:
    return shape_from_config(
        {
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": 3 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 8,
            "vocab_size": 1000,
            **more,
        }
    )


STUDENT, TEACHER = llama(64, 2), llama(256, 6)
SAMPLES = Samples(num_samples=10, prompt_tokens=30, answer_tokens=70, epochs=3)


def test_training_is_the_same_in_every_method():
    one = train_flops(STUDENT, tokens=100)
    for method in (fine_tuning(STUDENT, SAMPLES), live_logits(STUDENT, TEACHER, SAMPLES)):
        assert method.student_train == 10 * 3 * one
    assert fine_tuning(STUDENT, SAMPLES).teacher == 0


def test_live_logits_read_in_every_epoch_and_cached_ones_once():
    read = 10 * forward_flops(TEACHER, tokens=100)
    assert live_logits(STUDENT, TEACHER, SAMPLES).teacher == 3 * read
    assert cached_logits(STUDENT, TEACHER, SAMPLES).teacher == read


def test_the_teacher_writes_each_answer_once():
    one = generate_flops(TEACHER, prompt_tokens=30, new_tokens=70)
    assert sequence_level(STUDENT, TEACHER, SAMPLES).teacher == 10 * one
    # A quarter of the traces kept, 1.5 times as many tokens by the teacher's own tokenizer.
    written = Samples(num_samples=40, prompt_tokens=45, answer_tokens=105)
    more = sequence_level(STUDENT, TEACHER, SAMPLES, generated=written).teacher
    assert more == 40 * generate_flops(TEACHER, prompt_tokens=45, new_tokens=105)


def test_on_policy_adds_the_students_own_writing():
    method = on_policy(STUDENT, TEACHER, SAMPLES)
    assert method.student_generate == 30 * generate_flops(STUDENT, prompt_tokens=30, new_tokens=70)
    assert method.teacher == live_logits(STUDENT, TEACHER, SAMPLES).teacher
    assert method.total == method.student_train + method.student_generate + method.teacher_score


def test_writing_costs_what_reading_costs_up_to_the_mask_and_the_head():
    # Decode attends to the tokens so far, reading in one pass is counted in full: the sum over a growing
    # context is half of the square, and the last token is not read again.
    read = forward_flops(TEACHER, tokens=100)
    written = generate_flops(TEACHER, prompt_tokens=1, new_tokens=100)
    attention = read - 200 * TEACHER.matmul_params
    assert read - written == attention - attention * 101 // 200


def test_scored_tokens_take_the_head_off_the_prompt():
    answers_only = Samples(num_samples=10, prompt_tokens=30, answer_tokens=70, scored_tokens=70)
    everything = Samples(num_samples=10, prompt_tokens=30, answer_tokens=70)
    head = 2 * 64 * 1000 * 30
    less = fine_tuning(STUDENT, everything).total - fine_tuning(STUDENT, answers_only).total
    assert less == 10 * 3 * head


def test_how_the_student_is_trained_is_passed_on():
    training = Training(recompute=Recompute.LAYERS)
    whole = fine_tuning(STUDENT, SAMPLES, training).total
    assert whole == 30 * train_flops(STUDENT, tokens=100, recompute=Recompute.LAYERS)
    lora = Lora(rank=4)
    assert fine_tuning(STUDENT, SAMPLES, Training(lora=lora)).total == 30 * train_flops(
        STUDENT, tokens=100, lora=lora
    )


def test_only_what_is_kept_is_shared():
    method = cached_logits(STUDENT, TEACHER, SAMPLES)
    assert method.share(1) == method.total
    assert method.share(7) == method.student + Fraction(method.teacher, 7)
    for kept_by_none in (live_logits(STUDENT, TEACHER, SAMPLES), on_policy(STUDENT, TEACHER, SAMPLES)):
        with pytest.raises(UserError, match="not shared"):
            kept_by_none.share(2)
    with pytest.raises(UserError, match="1 or more"):
        method.share(0)


def test_six_nd_names_its_n():
    assert six_nd(STUDENT, 100).flops == 6 * STUDENT.params * 100
    assert six_nd(STUDENT.matmul_params, 100).flops == 6 * STUDENT.matmul_params * 100


@pytest.mark.parametrize(
    ("count", "message"),
    [
        ({"tokens": -1}, "number of tokens"),
        ({"tokens": 5, "context_tokens": 4}, "attends to itself"),
        ({"tokens": 5, "scored_tokens": 6}, "more than the 5 tokens"),
        ({"tokens": 1.5}, "number of tokens"),
    ],
)
def test_impossible_counts_are_refused(count: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        forward_flops(STUDENT, **count)
