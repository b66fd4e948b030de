"""The training loop: its FLOPs against torch's own counter, its batches against one another, its resumption."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from stillmark.compute.shapes import shape_from_config
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.text import IGNORED, TaskText, TextPair, TraceText, micro_batches, rows_of
from stillmark.distill.train import AVERAGE_GAMMA, SAVED_COUNTS, Training
from stillmark.models.build import build_model, word_tokenizer
from stillmark.sizes import model_config, tokenizer_words
from stillmark.study.recipe import Recipe
from stillmark.study.schema import ModelSpec, ShuffledObjects
from stillmark.tasks import make_task

TASK = make_task(ShuffledObjects(kind="shuffled_objects", objects=4, min_swaps=1, max_swaps=3))
WORDS = tokenizer_words(TASK)
TOKENIZER = word_tokenizer(WORDS)
STUDENT = ModelSpec(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=24
)
TEACHER = ModelSpec(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40)


def training(loss: str = "cross_entropy", **changes: object) -> Training:
    recipe = Recipe.model_validate(
        {
            "text": "solutions",
            "loss": loss,
            "train_flops": 1e9,
            "learning_rate": 1e-3,
            "batch_samples": 6,
            **changes,
        }
    )
    config, teacher_config = (model_config(spec, len(WORDS)) for spec in (STUDENT, TEACHER))
    weights = build_model({**teacher_config, "attn_implementation": "eager"}, 1).eval()
    teacher = LiveTeacher(model=weights, shape=shape_from_config(teacher_config))
    return Training(
        model=build_model({**config, "attn_implementation": "eager"}, 0).train(),
        shape=shape_from_config(config),
        tokenizer=TOKENIZER,
        source=TaskText(TASK, "solutions", 0, TOKENIZER),
        recipe=recipe,
        objective=Objective(recipe, teacher if loss != "cross_entropy" else None),
    )


def addmm_in_place_flop(self_shape, first_shape, second_shape, *args, **kwargs) -> int:  # type: ignore[no-untyped-def]
    return mm_flop(first_shape, second_shape)


@pytest.mark.parametrize("loss", ["cross_entropy", "forward_kl", "reverse_kl"])
def test_counted_flops_are_those_that_torch_counts(loss: str):
    """Exactly, over whole steps: every matmul of forward, backward and teacher. Neither counts what is element-wise.

    torch's counter does not know the in-place addmm_ that sums the head's weight gradient: it is told here.
    """
    run = training(loss)
    with FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.addmm_: addmm_in_place_flop}
    ) as counter:
        for _ in range(3):
            run.step()
    assert counter.get_total_flops() == run.spent.train_flops + run.spent.teacher_flops
    assert (run.spent.teacher_flops > 0) == (loss != "cross_entropy")


def test_tokens_are_the_texts_and_positions_what_was_run():
    run = training()
    run.step()
    samples = [TASK.training_sample(0, index) for index in range(6)]
    ids = [len(s.prompt.split()) + len(s.solution.split()) + 2 for s in samples]  # <bos> and <eos>
    assert run.spent.tokens == sum(ids) - 6  # the last id of each is a target only
    assert run.spent.positions >= run.spent.tokens


def test_the_gradient_does_not_depend_on_how_the_batch_is_cut():
    """One micro-batch, many, or one sample at a time: the same gradient to rounding."""
    gradients = []
    for max_positions in (10_000, 150, 1):
        run = training()
        batches = micro_batches(
            run.source.rows(range(6)), TOKENIZER.pad_token_id, max_positions=max_positions
        )
        total = sum(batch.num_loss_tokens for batch in batches)
        for batch in batches:
            run.backward(batch, total)
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in run.parameters]))
    assert len(batches) == 6
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(gradients[2], gradients[0], rtol=1e-4, atol=1e-7)


def test_loss_is_on_the_response_alone_and_aligned():
    pair = TextPair(prompt="Alice red ; ?", response="red blue")
    (batch,) = micro_batches(rows_of([pair], TOKENIZER), TOKENIZER.pad_token_id, max_positions=100)
    ids = [WORDS.index(word) for word in ["<bos>", "Alice", "red", ";", "?", "red", "blue", "<eos>"]]
    assert batch.input_ids_BT.tolist() == [ids[:-1]]
    assert batch.targets_BT.tolist() == [[IGNORED] * 4 + ids[5:]]


@pytest.mark.parametrize("loss", ["cross_entropy", "forward_kl"])
def test_resumed_training_is_bit_for_bit_the_same(tmp_path: Path, loss: str):
    whole, first = training(loss), training(loss)
    for _ in range(7):
        whole.step()
    for _ in range(3):
        first.step()
    first.save(tmp_path / "state.safetensors")
    second = training(loss)
    second.load(tmp_path / "state.safetensors", {name: getattr(first.spent, name) for name in SAVED_COUNTS})
    for _ in range(4):
        second.step()
    assert second.spent.train_flops == whole.spent.train_flops
    for name, weight in whole.averaged_weights().items():
        assert torch.equal(weight, second.averaged_weights()[name]), name
    for mine, theirs in zip(second.parameters, whole.parameters, strict=True):
        assert torch.equal(mine, theirs)


def test_average_has_the_power_law_profile():
    """Weight of step s after n steps, from the recursion and from the closed form: s^gamma, nearly."""
    weights = torch.zeros(200, dtype=torch.float64)
    for step in range(1, 201):
        share = 1 - (1 - 1 / step) ** (AVERAGE_GAMMA + 1)
        weights *= 1 - share
        weights[step - 1] = share
    steps = torch.arange(1, 201, dtype=torch.float64)
    exact = (steps / 200) ** (AVERAGE_GAMMA + 1) - ((steps - 1) / 200) ** (AVERAGE_GAMMA + 1)
    torch.testing.assert_close(weights, exact)


def test_traces_come_in_a_new_order_each_epoch_and_at_any_index():
    colours = ["red", "blue", "green", "Bob", "Alice"]
    source = TraceText([TextPair(prompt=word, response="") for word in colours], 0, TOKENIZER)
    stream = [row.sequence.token_ids[1] for row in source.rows(range(15))]
    assert all(sorted(stream[i : i + 5]) == sorted(WORDS.index(w) for w in colours) for i in (0, 5, 10))
    assert stream[:5] != stream[5:10]
    assert TraceText(source.pairs, 0, TOKENIZER).rows([12])[0].sequence.token_ids[1] == stream[12]
