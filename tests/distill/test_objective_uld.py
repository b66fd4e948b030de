"""ULD through an objective: against all logits by autograd, with a teacher that reads its own tokens."""

import pytest
import torch
from tests.distill.test_objective_flops import counted_by_the_loop, counter
from tests.distill.tiny_objective import (
    bound,
    gradients,
    logits_of,
    piece_tokenizer,
    recipe,
    rows,
    targets_of,
    teacher_of,
    tiny,
)
from tokenizers import processors
from torch.nn import functional

from stillmark.distill.cross_tokenizer import token_ends
from stillmark.distill.spent import Spent
from stillmark.distill.text import IGNORED, CorpusText, TextPair, rows_of
from stillmark.errors import UserError
from stillmark.study.recipe import recipe_faults

PAIRS = [
    TextPair(prompt="abcd", response="efghijkl"),
    TextPair(prompt="ijk", response="abcdefa"),
    TextPair(prompt="klefgh", response="abcdefghijkllkjihgfe"),
    TextPair(prompt="a", response="e"),
]
PARTS = [text for pair in PAIRS for text in (pair.prompt, pair.response)]
STUDENT = piece_tokenizer("..?", PARTS)  # two letters a token, prompt and response by themselves
TEACHER = piece_tokenizer(".{1,3}", [pair.prompt + pair.response for pair in PAIRS], begins=True, padding=3)


def models(dtype=torch.float64):
    """The student's head has two rows of padding, the teacher's five."""
    student = tiny(vocab_size=len(STUDENT) + 2, dtype=dtype)
    return student, teacher_of(tiny(seed=7, width=12, layers=3, vocab_size=len(TEACHER) + 5, dtype=dtype))


def bound_uld(student, teacher, **fields):
    wanted = recipe(loss="uld", **fields)
    return bound(wanted, student, teacher, student_tokenizer=STUDENT, teacher_tokenizer=TEACHER)


def characters_read(tokenizer, ids):
    """After each token, from the tokens' own letters."""
    words, read = tokenizer.convert_ids_to_tokens(ids), 0
    return [read := read + (0 if word.startswith("<") else len(word)) for word in words]


def dense_uld(student, teacher, weight, temperature):
    total, compared = 0.0, 0
    chosen = rows_of(PAIRS, STUDENT)
    for row, pair in zip(chosen, PAIRS, strict=True):
        ids = row.sequence.token_ids
        teacher_ids = TEACHER(pair.prompt + pair.response)["input_ids"]
        teacher_ends = characters_read(TEACHER, teacher_ids)
        z = student(input_ids=torch.tensor([ids])).logits[0][:, : len(STUDENT)]
        t = teacher.model(input_ids=torch.tensor([teacher_ids])).logits[0][:, : len(TEACHER)]
        for place, end in enumerate(characters_read(STUDENT, ids)):
            if row.sequence.targets[place] != IGNORED and end in teacher_ends:
                p = (z[place] / temperature).softmax(-1).sort(descending=True).values
                q = (t[teacher_ends.index(end)] / temperature).softmax(-1).sort(descending=True).values
                width = max(len(p), len(q))
                p, q = (functional.pad(x, (0, width - len(x))) for x in (p, q))
                total, compared = total + (1 - weight) * (p - q).abs().sum(), compared + 1
        kept = logits_of(student, row)[:, : len(STUDENT)]
        total = total + weight * functional.cross_entropy(kept, targets_of(row), reduction="sum")
    return total / sum(row.sequence.num_loss_tokens for row in chosen), compared


@pytest.mark.parametrize(("weight", "temperature"), [(0.0, 1.0), (0.3, 1.7), (1.0, 1.0)])
def test_loss_and_gradient_are_the_dense_ones_in_any_cut(weight, temperature):
    student, teacher = models()
    objective = bound_uld(student, teacher, cross_entropy_weight=weight, temperature=temperature)
    expected, compared = dense_uld(student, teacher, weight, temperature)
    loss_tokens = sum(row.sequence.num_loss_tokens for row in rows_of(PAIRS, STUDENT))
    assert weight == 1.0 or 8 <= compared < loss_tokens
    wanted = list(torch.autograd.grad(expected, list(student.parameters())))
    for max_positions in (10_000, 20, 1):
        value, got = gradients(objective, student, rows_of(PAIRS, STUDENT), max_positions)
        assert value == pytest.approx(float(expected.detach()), rel=1e-12)
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_every_product_is_counted_once(weight):
    """The teacher's own tokens, its head and the student's on the compared ones, and the rows that are tokens."""
    student, teacher = models(torch.float32)
    objective, spent = bound_uld(student, teacher, cross_entropy_weight=weight), Spent()
    chosen = rows_of(PAIRS, STUDENT)
    with counter() as counted:
        gradients(objective, student, chosen, 20, spent=spent)
    by_loop = counted_by_the_loop(student, chosen, 20)
    assert counted.get_total_flops() == by_loop + spent.train_flops + spent.teacher_flops
    assert (spent.teacher_flops > 0) == (weight < 1)


def test_a_batch_in_which_nothing_can_be_compared_adds_nothing():
    student, teacher = models()
    spent, pair = Spent(), TextPair(prompt="ab", response="cd")
    tokenizer = piece_tokenizer(".*", ["abcdef", *PARTS])
    wanted = recipe(loss="uld")
    objective = bound(wanted, student, teacher, student_tokenizer=STUDENT, teacher_tokenizer=tokenizer)
    row = rows_of([pair], STUDENT)[0]
    row = type(row)(sequence=row.sequence, text=type(row.text)(text="abcdef", ends=row.text.ends))
    value, got = gradients(objective, student, [row], spent=spent)
    assert value == 0
    assert spent.teacher_flops == 0
    assert all(float(gradient.abs().max()) == 0 for gradient in got)


def test_what_cannot_be_compared_is_refused():
    student, teacher = models()
    with pytest.raises(UserError, match="needs the student's tokenizer and the teacher's"):
        bound(recipe(loss="uld"), student, teacher)
    with pytest.raises(UserError, match="tokens alone"):
        gradients(bound_uld(student, teacher), student, rows(vocab_size=len(STUDENT)))
    small = tiny(vocab_size=len(STUDENT) - 1)
    with pytest.raises(UserError, match=r"student's output head has .* 1 tokens have no logit"):
        bound_uld(small, teacher)
    for field, value in (
        ("temperature_squared", True),
        ("packing", True),
        ("hidden_states", {}),
        ("on_policy", {}),
        ("logit_cache", {}),
    ):
        faults = [fault for fault in recipe_faults(recipe(loss="uld", **{field: value})) if "uld" in fault]
        assert [fault.partition(":")[0] for fault in faults] == [field]
    assert not list(recipe_faults(recipe(loss="uld", temperature=2.0, cross_entropy_weight=0.1)))


def test_a_corpus_keeps_the_text_of_its_sequences():
    kept = rows_of(PAIRS, STUDENT)
    sequences, texts = [row.sequence for row in kept], [row.text for row in kept]
    for row in CorpusText(sequences, 0, texts).rows(range(4)):
        assert row.text is texts[row.fixed_index]
    assert all(row.text is None for row in CorpusText(sequences, 0).rows(range(4)))


def test_spaces_that_a_tokenizer_leaves_out_of_its_offsets_were_read():
    """Llama 3's post-processor trims them: the ends must be those of the same tokenizer without it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    text = "def f(x):\n        return  x\n\n    y = f(1)\n        z"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator([text] * 20, trainer)
    plain = token_ends(PreTrainedTokenizerFast(tokenizer_object=backend), text[:-9])
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    trimmed = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert [end for _, end in trimmed(text[:-9], return_offsets_mapping=True)["offset_mapping"]] != plain[1]
    assert token_ends(trimmed, text[:-9]) == plain
