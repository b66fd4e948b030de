"""Adapters against peft's own merging, their FLOPs against torch's counter, their checkpoints against transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.distill.small_training import TOKENIZER, flop_counter, training

from stillmark.compute.shapes import shape_from_config
from stillmark.distill.lora import add_lora, counted_lora, merged_weights
from stillmark.errors import UserError
from stillmark.models.build import build_model, load_model, save_model
from stillmark.study.recipe import Lora

pytest.importorskip("peft")
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("targets", [None, ["q_proj", "v_proj"], ["up_proj"], ["down_proj"]], ids=str)
def test_counted_flops_are_those_that_torch_counts(
    targets: list[str] | None, packing: bool, checkpointing: bool
):
    lora = {"rank": 3, "target_modules": targets}
    run = training("forward_kl", lora=lora, packing=packing, gradient_checkpointing=checkpointing)
    with flop_counter() as counter:
        for _ in range(2):
            run.step()
    assert counter.get_total_flops() == run.spent.train_flops + run.spent.teacher_flops


def test_only_adapters_are_trained_and_what_is_kept_is_plain_and_merged(tmp_path: Path):
    run = training(lora={"rank": 3, "alpha": 5.0}, learning_rate=1e-2, warmup_samples=1)
    plain = training().model
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    for _ in range(4):
        run.step()
    assert all(".lora_" in name for name in run.names)
    assert len(run.names) == 2 * 2 * len(ALL)
    for name, weight in run.model.named_parameters():
        assert torch.equal(weight, before[name]) == (".lora_" not in name), name

    save_model(tmp_path / "model", run.model, run.averaged_weights(), TOKENIZER)
    kept = load_model(tmp_path / "model")
    assert dict(kept.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    for parameter, average in zip(run.parameters, run.average, strict=True):
        parameter.data.copy_(average)
    ids = torch.arange(10).view(1, 10)
    with torch.no_grad():
        torch.testing.assert_close(kept(ids).logits, run.model(ids).logits, rtol=1e-5, atol=1e-6)
        assert (kept(ids).logits - plain(ids).logits).abs().max() > 1e-3


def test_gpt2s_linear_layers_are_found_counted_and_merged():
    """They are transformers' Conv1D, with the weight the other way round."""
    config = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 50,
              "bos_token_id": 0, "eos_token_id": 1,
              "attn_implementation": "eager"}  # fmt: skip
    model, plain = build_model(config, 0).eval(), build_model(config, 0).eval()
    add_lora(model, Lora(rank=3), seed=0)
    counted_lora(model, shape_from_config(config), 3)  # raises where the formula counts something else
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for weight in trained.values():
        weight.data.normal_(std=0.3)
    ids = torch.arange(10).view(1, 10)
    with torch.no_grad():
        plain.load_state_dict(merged_weights(model, trained), strict=False)
        torch.testing.assert_close(plain(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)


def test_the_seed_draws_the_adapters():
    first, again = training(lora={"rank": 2}), training(lora={"rank": 2})
    torch.manual_seed(12345)
    state = torch.random.get_rng_state()
    third = training(lora={"rank": 2})
    assert all(torch.equal(a, b) for a, b in zip(first.parameters, again.parameters, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters, third.parameters, strict=True))
    assert any(parameter.any() for parameter in first.parameters)
    del state


def test_the_state_holds_the_adapters_alone(tmp_path: Path):
    from safetensors import safe_open

    run = training(lora={"rank": 2})
    run.step()
    run.save(tmp_path / "state.safetensors")
    with safe_open(tmp_path / "state.safetensors", "pt") as file:
        assert all(".lora_" in name for name in file.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"target_modules": ["q_porj"]}, "target_modules"),
        ({"target_modules": ["layers.0.mlp.up_proj"]}, "formula"),
    ],
)
def test_what_cannot_be_adapted_or_counted_is_refused(lora: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message):
        training(lora=lora)
