"""FLOPs of a model counted on the meta device: every matmul that transformers dispatches, none computed.

This is the independent check of the formulas in `stillmark.compute.flops`, and the way for architectures
that have no checked formula. `torch.utils.flop_counter.FlopCounterMode` counts matmuls (2 a multiply-add) and
convolutions; element-wise work is left out, as in the formulas. Attention runs eager, so the whole score
matrix is counted, masked or not (also in sliding-window layers: compare with `shape.without_windows()`), and
a mixture of experts multiplies each token by the experts it visits (`batched_mm`).
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CountedFlops:
    """What one sequence of `tokens` tokens takes, as counted, and the model's parameters.

    `train_flops` is forward and backward with all parameters trained.
    """

    model_type: str
    tokens: int
    params: int
    forward_flops: int
    train_flops: int


def count_flops(config: Mapping[str, Any], tokens: int) -> CountedFlops:
    """Counts the model of this config.json, on one sequence, the vocabulary head on every position."""
    model = meta_model(config)
    forward, train = count_model(model, tokens)
    return CountedFlops(
        model_type=str(config["model_type"]),
        tokens=tokens,
        params=sum(parameter.numel() for parameter in model.parameters()),
        forward_flops=forward,
        train_flops=train,
    )


def meta_model(config: Mapping[str, Any]) -> torch.nn.Module:
    """The causal language model of this config.json, without memory for its weights."""
    keys = {key: value for key, value in config.items() if key != "model_type"}
    try:
        full = AutoConfig.for_model(str(config.get("model_type")), **keys)
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = AutoModelForCausalLM.from_config(
                full, attn_implementation="eager", experts_implementation="batched_mm"
            )
    except (ValueError, KeyError) as error:
        raise UserError(
            f"transformers makes no causal language model from this config: {error}",
            hint="multimodal configs hold the language model's own under `text_config`",
        ) from error
    return model.train()


def count_model(model: torch.nn.Module, tokens: int) -> tuple[int, int]:
    """(forward FLOPs, forward and backward FLOPs) of one sequence of a model on the meta device.

    A ready-made 4-D mask avoids a check that reads data; models with ALiBi or learned offsets want a 2-D one.
    """
    ids = torch.zeros(1, tokens, dtype=torch.long, device="meta")
    errors = []
    for mask_shape in [(1, 1, tokens, tokens), (1, tokens)]:
        mask = torch.ones(mask_shape, device="meta")
        try:
            with FlopCounterMode(display=False) as counter:
                logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
                forward = counter.get_total_flops()
                logits.sum().backward()
                return forward, counter.get_total_flops()
        except (NotImplementedError, RuntimeError, ValueError) as error:
            errors.append(error)
    raise UserError(
        f"{type(model).__name__} cannot be counted on the meta device: {errors[0]}",
        hint="its forward pass depends on data; no FLOPs figure is given rather than a guessed one",
    ) from errors[0]
