"""The training loop: its FLOPs against torch's own counter, its batches against one another, its resumption."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.small_training import TASK, TOKENIZER, WORDS, flop_counter, training
from tests.onednn import always_onednn

from stillmark.distill.text import IGNORED, TextPair, TraceText, micro_batches, rows_of
from stillmark.distill.train import AVERAGE_GAMMA, SAVED_COUNTS, Training
from stillmark.errors import UserError


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("loss", ["cross_entropy", "forward_kl", "reverse_kl"])
def test_counted_flops_are_those_that_torch_counts(loss: str, checkpointing: bool):
    """Exactly, over whole steps: every matmul of forward, backward and teacher. Neither counts what is element-wise."""
    run = training(loss, gradient_checkpointing=checkpointing)
    with flop_counter() as counter:
        for _ in range(3):
            run.step()
    assert counter.get_total_flops() == run.spent.train_flops + run.spent.teacher_flops
    assert (run.spent.teacher_flops > 0) == (loss != "cross_entropy")


def test_recomputed_layers_give_the_same_step_bit_for_bit():
    kept, recomputed = training(), training(gradient_checkpointing=True)
    for run in (kept, recomputed):
        for _ in range(3):
            run.step()
    for mine, theirs in zip(recomputed.parameters, kept.parameters, strict=True):
        assert torch.equal(mine, theirs)
    assert recomputed.spent.train_flops > kept.spent.train_flops


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}, {"lora": {"rank": 3}}], ids=str)
def test_either_matrix_library_takes_the_same_steps(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    runs = training("reverse_kl", **changes), training("reverse_kl", **changes)
    for _ in range(3):
        runs[0].step()
    always_onednn(monkeypatch)
    with flop_counter() as counter:
        for _ in range(3):
            runs[1].step()
    spent = runs[1].spent
    assert counter.get_total_flops() < 0.5 * (spent.train_flops + spent.teacher_flops)  # it sees MKL's alone
    for mine, theirs in zip(runs[1].parameters, runs[0].parameters, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


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


@pytest.mark.parametrize(
    "recipe",
    [
        {"loss": "cross_entropy"},
        {"loss": "forward_kl"},
        {"loss": "forward_kl", "packing": True},
        {"loss": "forward_kl", "hidden_states": {"weight": 0.5}},
        {"loss": "forward_kl", "lora": {"rank": 3}},
        {"lora": {"rank": 3}, "packing": True, "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_resumed_training_is_bit_for_bit_the_same(tmp_path: Path, recipe: dict[str, Any]):
    whole, first = training(**recipe), training(**recipe)
    for _ in range(7):
        whole.step()
    for _ in range(3):
        first.step()
    first.save(tmp_path / "state.safetensors")
    second = training(**recipe)
    counts = {name: getattr(first.spent, name) for name in SAVED_COUNTS}
    content = (tmp_path / "state.safetensors").read_bytes()
    (tmp_path / "spoiled.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="is not as it was written"):
        second.load(tmp_path / "spoiled.safetensors", counts)
    second.load(tmp_path / "state.safetensors", counts)
    for _ in range(4):
        second.step()
    assert second.spent.train_flops == whole.spent.train_flops
    for name, weight in whole.averaged_weights().items():
        assert torch.equal(weight, second.averaged_weights()[name]), name
    for mine, theirs in zip(second.parameters, whole.parameters, strict=True):
        assert torch.equal(mine, theirs)
    assert (
        len(whole.names) == len(whole.averaged_weights()) + len(whole.objective.parameters())
        or "lora" in recipe
    )


def with_dropout(seed: int = 0, **recipe: Any) -> Training:
    run = training("forward_kl", **recipe)
    run.seed = seed
    for layer in run.model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    return run


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
def test_the_seed_and_the_step_decide_what_dropout_draws(tmp_path: Path, checkpointing: bool):
    """Whatever was drawn before: in a new process, beside other work, and with layers that are computed twice."""
    runs = [with_dropout(), with_dropout(gradient_checkpointing=checkpointing), with_dropout(seed=1)]
    for run in runs:
        for _ in range(3):
            torch.randn(5)
            generator = torch.get_rng_state()
            run.step()
            assert torch.equal(torch.get_rng_state(), generator)  # as it was found
    runs[1].save(tmp_path / "state.safetensors")
    resumed = with_dropout(gradient_checkpointing=checkpointing)
    resumed.load(tmp_path / "state.safetensors", {n: getattr(runs[1].spent, n) for n in SAVED_COUNTS})
    for run in (runs[0], resumed):
        for _ in range(2):
            run.step()
    for mine, theirs, of_other_seed in zip(
        resumed.parameters, runs[0].parameters, runs[2].parameters, strict=True
    ):
        assert torch.equal(mine, theirs)
        assert not torch.equal(mine, of_other_seed)


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
