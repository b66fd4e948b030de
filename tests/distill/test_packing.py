"""Packed rows beside the same samples one a row: loss, gradient, and that no sample sees another."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.distill.small_training import TOKENIZER, WORDS, flop_counter, training
from transformers import AutoConfig, AutoModelForCausalLM

from stillmark.compute.shapes import shape_from_config
from stillmark.distill.identity import TokenSequence
from stillmark.distill.logit_capture import teacher_hidden_states
from stillmark.distill.objective import LiveTeacher, Objective
from stillmark.distill.packing import SampleBatches, check_packing, packed_batches
from stillmark.distill.spent import Spent
from stillmark.distill.text import Row, micro_batches
from stillmark.distill.train import Training
from stillmark.errors import UserError

PAD = TOKENIZER.pad_token_id


def rows_of_lengths(lengths: list[int], seed: int = 0) -> list[Row]:
    random = torch.Generator().manual_seed(seed)
    ids = [torch.randint(4, len(WORDS), (length + 1,), generator=random).tolist() for length in lengths]
    return [Row(sequence=TokenSequence(token_ids=i[:-1], targets=i[1:])) for i in ids]


def gradient(run: Training, batches: list) -> tuple[float, torch.Tensor]:  # type: ignore[type-arg]
    total = sum(batch.num_loss_tokens for batch in batches)
    loss = sum(run.backward(batch, total) for batch in batches)
    return loss, torch.cat([parameter.grad.flatten() for parameter in run.parameters])


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("loss", ["cross_entropy", "reverse_kl"])
def test_packed_and_padded_rows_have_one_loss_and_gradient(loss: str, kernel: str):
    rows = rows_of_lengths([9, 1, 4, 4, 7, 2, 9, 3])
    results = []
    for cut in (packed_batches, micro_batches):
        run = training(loss)
        run.model.set_attn_implementation(kernel)
        results.append(gradient(run, cut(rows, PAD, max_positions=1000)))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-4, atol=1e-7)


def test_samples_share_rows_no_wider_than_the_longest():
    rows = rows_of_lengths([9, 1, 4, 4, 7, 2, 9, 3])
    (batch,) = packed_batches(rows, PAD, max_positions=1000)
    assert batch.input_ids_BT.shape == (5, 9)  # 39 tokens; first-fit decreasing: 9 | 9 | 7 2 | 4 4 1 | 3
    assert batch.num_tokens == 39
    assert batch.position_ids_BT[3].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert batch.position_ids_BT[4].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5]  # padding is a sample of its own
    in_order = [target for row in batch.rows for target in row.sequence.targets]
    assert batch.targets_BT[batch.targets_BT >= 0].tolist() == in_order
    cut = packed_batches(rows, PAD, max_positions=18)
    assert [part.input_ids_BT.shape for part in cut] == [(2, 9), (2, 9), (1, 3)]
    assert packed_batches([], PAD, max_positions=10) == []


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_changed_sample_leaves_its_neighbours_gradient_as_it_was_bit_for_bit(kernel: str):
    """The gradient at each input embedding: it moves in the changed sample and nowhere else in the row."""
    gradients = []
    for seed in (1, 2):
        first, *others = rows_of_lengths([6, 5, 4], seed=0)
        (changed,) = rows_of_lengths([5], seed=seed)
        run = training()
        run.model.set_attn_implementation(kernel)
        (batch,) = packed_batches(
            [first, changed, others[1], *rows_of_lengths([15])], PAD, max_positions=1000
        )
        kept = []

        def keep_gradient(module, inputs, embedded, kept=kept):  # type: ignore[no-untyped-def]
            embedded.register_hook(kept.append)

        run.model.model.embed_tokens.register_forward_hook(keep_gradient)
        run.backward(batch, batch.num_loss_tokens)
        gradients.append(kept[0][1])
    assert batch.input_ids_BT.shape == (2, 15)
    assert torch.equal(gradients[0][:6], gradients[1][:6])
    assert torch.equal(gradients[0][11:], gradients[1][11:])
    assert not torch.equal(gradients[0][6:11], gradients[1][6:11])


@pytest.mark.parametrize("loss", ["cross_entropy", "forward_kl"])
def test_counted_flops_are_those_of_the_dense_mask(loss: str):
    run = training(loss, packing=True)
    with flop_counter() as counter:
        for _ in range(2):
            run.step()
    assert counter.get_total_flops() == run.spent.train_flops + run.spent.teacher_flops
    padded = training(loss)
    for _ in range(2):
        padded.step()
    assert run.spent.tokens == padded.spent.tokens


def tiny(model_type: str, **options: Any) -> torch.nn.Module:
    sizes = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, **options}
    config = AutoConfig.for_model(model_type, **sizes)
    return AutoModelForCausalLM.from_config(config).eval()


def test_a_model_that_keeps_samples_apart_passes():
    check_packing(tiny("llama", num_attention_heads=2, intermediate_size=32))


@pytest.mark.parametrize("model_type", ["gpt2", "gpt_neox", "falcon"])
def test_a_model_under_another_name_than_model_passes_in_training_mode_too(model_type: str):
    """Dropout, which differs from one forward pass to the next, is none of the samples' doing."""
    model = tiny(model_type, num_attention_heads=2, intermediate_size=32).train()
    check_packing(model)
    assert all(module.training for module in model.modules())


@pytest.mark.filterwarnings("ignore")
def test_a_model_in_which_samples_meet_is_refused():
    """Bloom takes no positions; a recurrent model carries its state from one sample to the next."""
    for model in (tiny("bloom", n_head=2), tiny("mamba", state_size=4, expand=2)):
        model.config._attn_implementation = "eager"
        with pytest.raises(UserError, match="packing"):
            check_packing(model)


@pytest.mark.filterwarnings("ignore")
def test_a_teacher_in_which_samples_meet_is_refused():
    run = training("forward_kl")
    teacher = LiveTeacher(model=tiny("bloom", n_head=2, vocab_size=len(WORDS)), shape=run.shape)
    objective = Objective(run.recipe, teacher)
    with pytest.raises(UserError, match="packing: BloomForCausalLM lets samples"):
        replace(run, recipe=run.recipe.model_copy(update={"packing": True}), objective=objective)


def of_frequencies(**rope: Any) -> torch.nn.Module:
    rope = {"rope_theta": 1e4, **rope}
    sizes = {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 16}
    model = tiny("llama", vocab_size=len(WORDS), rope_parameters=rope, **sizes)
    for parameter in model.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "padded"])
def test_samples_beside_a_long_one_have_the_frequencies_that_they_have_alone(is_packed: bool):
    """Phi-3's: one set of frequencies up to 8 positions, another beyond, chosen for a whole batch. Of the teacher too."""
    changing = changing_beyond(8)
    steady = of_frequencies(rope_type="default")
    rows = rows_of_lengths([3, 9, 8, 2, 12, 5])
    for models in ([changing], [steady, changing]):
        cut = SampleBatches(models=models, pad_id=PAD, max_positions=1000, is_packed=is_packed)
        batches = cut.cut(rows)
        assert sorted(len(batch.rows) for batch in batches)[:2] == [1, 1]  # 9 and 12 positions
        assert sum(len(batch.rows) for batch in batches) == 6
        for batch in batches:
            logits = changing(**batch.model_inputs(), use_cache=False).logits[batch.targets_BT >= 0]
            alone = [changing(torch.tensor([row.sequence.token_ids])).logits[0] for row in batch.rows]
            torch.testing.assert_close(logits, torch.cat(alone), rtol=1e-4, atol=1e-4)


def changing_beyond(positions: int):
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    return of_frequencies(rope_type="longrope", original_max_position_embeddings=positions, **factors)


def test_a_captured_teacher_reads_each_sequence_as_alone():
    model = changing_beyond(8)
    sequences = [row.sequence for row in rows_of_lengths([3, 9, 8, 2, 12, 5])]
    hidden_states, _ = teacher_hidden_states(model)
    alone = [
        model.model(torch.tensor([sequence.token_ids])).last_hidden_state[0][
            torch.tensor(sequence.targets) >= 0
        ]
        for sequence in sequences
    ]
    torch.testing.assert_close(hidden_states(sequences), torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_a_teachers_own_rows_that_others_would_change_are_refused():
    """Student and teacher have tokenizers of their own: batches that are safe for the student may not be so for it."""
    for model, limit in ((changing_beyond(8), 8), (of_frequencies(rope_type="dynamic", factor=2.0), 16)):
        teacher = LiveTeacher(model=model, shape=shape_from_config(model.config.to_dict()))
        ids = torch.ones(2, limit + 1, dtype=torch.long)
        teacher.run({"input_ids": ids[:, :limit]}, Spent(), num_tokens=2 * limit)
        with pytest.raises(UserError, match=f"beyond {limit} its rotary frequencies depend"):
            teacher.run({"input_ids": ids}, Spent(), num_tokens=2 * limit + 2)


def test_samples_whose_frequencies_depend_on_earlier_ones_are_refused():
    model = of_frequencies(rope_type="dynamic", factor=2.0)
    cut = SampleBatches(models=[model], pad_id=PAD, max_positions=1000, is_packed=False)
    assert cut.cut(rows_of_lengths([16, 3]))
    with pytest.raises(UserError, match=r"a sample has 17 positions, .* depend on earlier samples beyond 16"):
        cut.cut(rows_of_lengths([17, 3]))


def test_attention_that_skips_blocks_is_refused():
    model = tiny("llama", num_attention_heads=2, intermediate_size=32)
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(UserError, match="flex_attention"):
        check_packing(model)
