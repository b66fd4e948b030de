"""Low-rank adapters by peft: trained in place of all weights, merged into them in every checkpoint.

What is averaged over steps are the adapters A and B themselves, as all trained weights are; a checkpoint's
matrix is W + (alpha / rank) * B·A of the averaged pair, so that evaluating it needs no peft.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch

from stillmark.compute.backward import Lora as CountedLora
from stillmark.compute.backward import lora_params
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.processes import whole
from stillmark.errors import UserError
from stillmark.study.recipe import Lora

ADAPTER = "default"


def add_lora(model: Any, lora: Lora, seed: int) -> None:
    """Puts adapters beside the model's linear layers, in place, and freezes all else; `seed` draws the A's."""
    try:
        import peft
    except ImportError as error:
        raise UserError("lora: needs peft", hint="pip install 'stillmark[lora]'") from error
    config = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=lora.target_modules or linear_names(model)
    )
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            peft.inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    except ValueError as error:
        raise UserError(f"lora.target_modules: {error}",
                        hint=f"linear layers of this model: {', '.join(linear_names(model))}") from error  # fmt: skip


def linear_names(model: Any) -> list[str]:
    """Last parts of the names of all linear layers but the output head."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    head = model.get_output_embeddings()
    return sorted({
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    })  # fmt: skip


def adapted(model: Any) -> dict[str, Any]:
    """The layers with an adapter, by their name in the model without adapters."""
    return {
        name: module for name, module in model.named_modules() if ADAPTER in getattr(module, "lora_A", {})
    }


def adapter_params(model: Any) -> int:
    """Weights of the adapters, by which each position is multiplied beside the model's own: 2 FLOPs each forward."""
    sides = [side[ADAPTER] for module in adapted(model).values() for side in (module.lora_A, module.lora_B)]
    return sum(parameter.numel() for side in sides for parameter in side.parameters())


def counted_lora(model: Any, shape: ModelShape, rank: int) -> CountedLora:
    """The adapters as the FLOPs formula takes them. What it would count must be the parameters that are trained."""
    names = tuple(sorted({name.rpartition(".")[2] for name in adapted(model)}))
    lora = CountedLora(rank=rank, targets=names)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if lora_params(shape, lora) != trained:
        raise UserError(
            f"lora: {trained:,} parameters are trained, but the formula counts {lora_params(shape, lora):,}",
            hint="name whole kinds of matrices in `lora.target_modules`, such as q_proj, in every layer",
        )
    return lora


def merged_weights(model: Any, trained: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model's weights under their names without adapters, with these values of the trained ones merged in."""
    layers = adapted(model)
    weights = {}
    for name, parameter in model.named_parameters():
        layer_name, _, part = name.rpartition(".base_layer.")
        if layer_name not in layers:
            if ".lora_" not in name:
                weights[name] = trained[name] if name in trained else whole(parameter.detach())
            continue
        weight = whole(parameter.detach())
        if part == "weight":
            down = trained[f"{layer_name}.lora_A.{ADAPTER}.weight"]
            up = trained[f"{layer_name}.lora_B.{ADAPTER}.weight"]
            delta = (up @ down) * layers[layer_name].scaling[ADAPTER]
            weight = weight + (delta.T if layers[layer_name].fan_in_fan_out else delta)
        weights[f"{layer_name}.{part}"] = weight
    return weights
