"""A student cut out of its teacher: fewer layers by similarity, narrower ones by activation importance.

What goes is the least important (`importance.py`). An RMSNorm over fewer channels divides by another mean square: its
weight is scaled by the ratio of their roots, so that what it lets through keeps its size.

For Llama-like models (Llama, Qwen2, Qwen3, Mistral, SmolLM2, ...). A model that would be silently wrong is refused: one
with other parameters, with a layer that its config makes another layer at its new place, or in which more than the
weights' shapes depends on the hidden size. A pruned model is a start for distillation; by itself it is a poor model.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stillmark.errors import UserError
from stillmark.models.importance import Importance, head_size, measure_importance, norms_of

PARTS = {
    "input_layernorm", "post_attention_layernorm",
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "self_attn.q_norm", "self_attn.k_norm",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
}  # fmt: skip
WHOLE = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
SIZES = {  # of PrunedShape, by their names in a config
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "ffn_size": "intermediate_size",
    "num_kv_heads": "num_key_value_heads",
}


@dataclass(frozen=True, kw_only=True)
class PrunedShape:
    """What is kept; None keeps all."""

    num_layers: int | None = None
    hidden_size: int | None = None
    ffn_size: int | None = None
    num_kv_heads: int | None = None
    """Key-value groups; their query heads stay or go with them."""


@dataclass(frozen=True, kw_only=True)
class PrunedModel:
    """The student, and which parts of the teacher it is made of."""

    model: Any
    kept_layers: list[int]
    kept_hidden: list[int]
    importance: Importance


def prune(teacher: Any, shape: PrunedShape, calibration: Sequence[torch.Tensor]) -> PrunedModel:
    """A new model of the given shape, on the CPU, with the teacher's most important weights; the teacher is left as is.

    calibration: batches of token ids (B, T) without padding, of the kind that the student will read.
    """
    _require_known_parts(teacher)
    wanted = _checked(shape, teacher.config)
    if wanted["hidden_size"] < teacher.config.hidden_size:
        _require_only_shapes_know_the_width(teacher)
    return _pruned(teacher, wanted, calibration)


def require_known_kind(config: Any) -> None:
    """Refuses a kind of model that cannot be pruned, by its config: no weights are read."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        _require_known_parts(AutoModelForCausalLM.from_config(config, trust_remote_code=False))


def _pruned(teacher: Any, wanted: dict[str, int], calibration: Sequence[torch.Tensor]) -> PrunedModel:
    """The model of the wanted sizes, each under its name in the config."""
    importance = measure_importance(teacher, calibration)
    kept_layers = _highest(importance.layer_influence, wanted["num_hidden_layers"])
    kept_hidden = torch.tensor(_highest(importance.hidden, wanted["hidden_size"]))
    _require_same_layers(teacher, kept_layers)
    weights = {name: tensor.cpu() for name, tensor in teacher.state_dict().items()}
    weights |= _rescaled_norms(teacher, importance.norm_squares, kept_hidden)
    pruned = {name: weights[name].index_select(-1, kept_hidden) for name in WHOLE}
    for new_index, index in enumerate(kept_layers):
        keep = {
            "hidden": kept_hidden,
            "ffn": torch.tensor(_highest(importance.ffn[index], wanted["intermediate_size"])),
            "kv": torch.tensor(_highest(importance.kv_heads[index], wanted["num_key_value_heads"])),
        }
        prefix = f"model.layers.{index}."
        for name in [name for name in weights if name.startswith(prefix)]:
            part = name.removeprefix(prefix)
            pruned[f"model.layers.{new_index}.{part}"] = _cut(part, weights[name], keep, teacher.config)
    model = _untrained(type(teacher), _pruned_config(teacher.config, wanted, kept_layers))
    # Assigned, the parameters have the teacher's precision, and buffers (rotary frequencies) keep their own.
    model.load_state_dict({name: tensor.clone() for name, tensor in pruned.items()}, assign=True)
    model.tie_weights()
    return PrunedModel(
        model=model.eval(),
        kept_layers=kept_layers,
        kept_hidden=kept_hidden.tolist(),
        importance=importance,
    )


def _rescaled_norms(
    teacher: Any, squares: dict[str, torch.Tensor], kept: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The norms' weights, each times the root of (mean square of the kept channels / of all)."""
    scaled = {}
    for name, norm in norms_of(teacher):
        ratio = (squares[name][kept].mean() / squares[name].mean()).sqrt()
        scaled[name] = norm.weight.detach().cpu() * ratio.to(norm.weight.dtype)
    return scaled


def _cut(part: str, weight: torch.Tensor, keep: dict[str, torch.Tensor], config: Any) -> torch.Tensor:
    """The rows and columns of one of a layer's parameters that stay."""
    module, kind = part.rsplit(".", 1)
    name = module.rsplit(".", 1)[-1]
    size, groups = head_size(config), config.num_key_value_heads
    if name in ("q_norm", "k_norm"):
        return weight
    if name.endswith("layernorm"):
        return weight.index_select(0, keep["hidden"])
    per_group = size * (config.num_attention_heads // groups if name in ("q_proj", "o_proj") else 1)
    heads = (keep["kv"][:, None] * per_group + torch.arange(per_group)).flatten()
    rows, columns = {
        "q_proj": (heads, keep["hidden"]),
        "k_proj": (heads, keep["hidden"]),
        "v_proj": (heads, keep["hidden"]),
        "o_proj": (keep["hidden"], heads),
        "gate_proj": (keep["ffn"], keep["hidden"]),
        "up_proj": (keep["ffn"], keep["hidden"]),
        "down_proj": (keep["hidden"], keep["ffn"]),
    }[name]
    cut = weight.index_select(0, rows)
    return cut if kind == "bias" else cut.index_select(1, columns)


def _pruned_config(config: Any, wanted: dict[str, int], kept_layers: list[int]) -> Any:
    pruned = copy.deepcopy(config)
    heads_per_group = config.num_attention_heads // config.num_key_value_heads
    values = wanted | {
        "num_attention_heads": wanted["num_key_value_heads"] * heads_per_group,
        "head_dim": head_size(config),
    }
    for name, value in values.items():
        setattr(pruned, name, value)
    for name, value in vars(config).items():
        # By layer: layer_types, no_rope_layers. A list of token ids may be as long by chance.
        if isinstance(value, list) and len(value) == config.num_hidden_layers and "token" not in name:
            setattr(pruned, name, [value[index] for index in kept_layers])
    return pruned


def _untrained(model_class: Any, config: Any) -> Any:
    """A model of the config's sizes, unless the architecture ties two of them that are cut apart."""
    model = model_class(config)
    attention = model.model.layers[0].self_attn
    if attention.o_proj.in_features != attention.q_proj.out_features:
        raise UserError(
            f"{model_class.__name__} cannot be pruned in hidden_size or num_kv_heads: its attention heads must be as "
            "wide together as its hidden state",
            "prune num_layers and ffn_size",
        )
    return model


def _checked(shape: PrunedShape, config: Any) -> dict[str, int]:
    """The wanted size under each of the config's names; a size above the teacher's is refused."""
    wanted = {}
    for name, config_name in SIZES.items():
        has, value = getattr(config, config_name), getattr(shape, name)
        if value is not None and not 1 <= value <= has:
            raise UserError(f"pruning: {name} is {value}, but the teacher has {has}, and 1 is the least")
        wanted[config_name] = has if value is None else value
    return wanted


def _require_known_parts(teacher: Any) -> None:
    """A parameter that is not understood cannot be cut: the model would be silently wrong."""
    unknown, layer_parts = set(), set()
    for name in teacher.state_dict():
        pieces = name.split(".")
        part = ".".join(pieces[3:-1]) if pieces[:2] == ["model", "layers"] else None
        layer_parts.add(part)
        if name not in WHOLE and part not in PARTS:
            unknown.add(part or name)
    missing = PARTS - layer_parts - {"self_attn.q_norm", "self_attn.k_norm"}
    if unknown or missing:
        verb, names = ("has", unknown) if unknown else ("lacks", missing)
        raise UserError(
            f"{type(teacher).__name__} cannot be pruned: it {verb} {', '.join(sorted(names))}",
            "Llama-like models can: Llama, Mistral, Qwen2, Qwen3, SmolLM2",
        )


def _require_same_layers(teacher: Any, kept_layers: list[int]) -> None:
    """A kept layer must be at its new place what it was (window, rotary positions), as what the config says of it."""
    sizes = {name: getattr(teacher.config, name) for name in SIZES.values()}
    config = _pruned_config(teacher.config, sizes | {"num_hidden_layers": len(kept_layers)}, kept_layers)
    with torch.device("meta"):
        before, after = (type(teacher)(of).model.layers for of in (teacher.config, config))
    for new_index, index in enumerate(kept_layers):
        was, becomes = _settings(before[index]), _settings(after[new_index])
        differing = sorted(name for name in was.keys() | becomes.keys() if was.get(name) != becomes.get(name))
        if differing:
            raise UserError(
                f"{type(teacher).__name__} cannot lose these layers: layer {index} would be layer {new_index}, where "
                f"its {differing[0]} is {becomes.get(differing[0])}, not {was.get(differing[0])}",
                "prune ffn_size, or another num_layers",
            )


def _settings(layer: Any) -> dict[str, Any]:
    """The numbers and names that a layer's modules hold, but its own place."""
    return {
        f"{module_name}.{name}".lstrip("."): value
        for module_name, module in layer.named_modules()
        for name, value in vars(module).items()
        if name != "layer_idx" and isinstance(value, int | float | str | None)
    }


@torch.no_grad()
def _require_only_shapes_know_the_width(teacher: Any) -> None:
    """A small model of the same kind, half of whose hidden channels are always zero, must lose them without a change.

    It is not so where embeddings are scaled by the hidden size's root or a norm multiplies by 1 + weight (Gemma).
    """
    sizes = {name: getattr(teacher.config, name) for name in SIZES.values()}
    sizes |= {"num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 16}
    dead = slice(0, 16, 2)
    small = _untrained(type(teacher), _pruned_config(teacher.config, sizes, [0])).float().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in small.parameters():
        parameter.normal_(std=0.5, generator=generator)
    (layer,) = small.model.layers
    small.get_input_embeddings().weight[:, dead] = 0
    layer.self_attn.o_proj.weight[dead] = layer.mlp.down_proj.weight[dead] = 0
    for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
        if projection.bias is not None:
            projection.bias[dead] = 0
    ids = torch.arange(min(8, teacher.config.vocab_size)).view(1, -1)
    narrow = _pruned(small, sizes | {"hidden_size": 8}, [ids]).model
    wanted = small(input_ids=ids).logits
    difference = float((narrow(input_ids=ids).logits - wanted).norm() / wanted.norm())
    if not difference < 1e-2:
        raise UserError(
            f"{type(teacher).__name__} cannot be pruned in hidden_size: channels that are always zero cannot be left "
            f"out without a change ({difference:.0%}), so more than its weights depends on how many there are",
            "prune num_layers, ffn_size and num_kv_heads",
        )


def _highest(importance: torch.Tensor, count: int) -> list[int]:
    """The indices of the `count` highest, ascending; a tie keeps the lower index."""
    order = torch.argsort(importance, descending=True, stable=True)[:count]
    return sorted(order.tolist())
