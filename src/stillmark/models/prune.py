"""A student cut out of its teacher: fewer layers by similarity, narrower ones by activation importance.

After Minitron (arXiv 2408.11796) and ShortGPT (arXiv 2403.03853), on a small set of calibration tokens:

- depth: a layer's influence is 1 - mean cosine(hidden state before it, after it); the least influential go.
- width: the importance of a feed-forward neuron is the mean |activation| that enters `down_proj`, of a
key-value group
  the mean norm of its heads' output that enters `o_proj`, of a hidden channel the mean |output| of all norms.
- an RMSNorm over fewer channels divides by another mean square: its weight is scaled by the ratio of their
roots, so
  that what it lets through keeps its size.

For Llama-like models (Llama, Qwen2, Qwen3, Mistral, SmolLM2, ...): the parameters of a layer are looked at
by name, and a model that has others is refused. A pruned model is a start for distillation; by itself it is
a poor model.

Shape suffixes: B sequences, T tokens, D hidden size, F feed-forward width, H heads.
"""

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from stillmark.errors import UserError

PARTS = {
    "input_layernorm", "post_attention_layernorm",
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "self_attn.q_norm", "self_attn.k_norm",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrunedShape:
    """What is kept; None keeps all."""

    num_layers: int | None = None
    hidden_size: int | None = None
    ffn_size: int | None = None
    num_kv_heads: int | None = None
    """Key-value groups; their query heads stay or go with them."""


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Higher is kept. Measured on `num_tokens` tokens, one forward of the teacher each."""

    layer_influence: torch.Tensor
    norm_squares: dict[str, torch.Tensor]
    """By norm, the mean square of each channel that enters it."""
    ffn: list[torch.Tensor]
    kv_heads: list[torch.Tensor]
    hidden: torch.Tensor
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class PrunedModel:
    """The student, and which parts of the teacher it is made of."""

    model: Any
    kept_layers: list[int]
    kept_hidden: list[int]
    importance: Importance


def prune(teacher: Any, shape: PrunedShape, calibration: Sequence[torch.Tensor]) -> PrunedModel:
    """A new model of the given shape with the teacher's most important weights; the teacher is left as it is.

    calibration: batches of token ids (B, T) without padding, of the kind that the student will read.
    """
    _require_known_parts(teacher)
    wanted = _checked(shape, teacher.config)
    importance = measure_importance(teacher, calibration)
    kept_layers = _highest(importance.layer_influence, wanted["num_hidden_layers"])
    kept_hidden = torch.tensor(_highest(importance.hidden, wanted["hidden_size"]))
    weights = dict(teacher.state_dict())
    weights |= _rescaled_norms(teacher, importance.norm_squares, kept_hidden)
    pruned = {
        name: weights[name].index_select(-1, kept_hidden)
        for name in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight")
    }
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
    model = type(teacher)(_pruned_config(teacher.config, wanted, kept_layers)).to(teacher.dtype)
    model.load_state_dict({name: tensor.clone() for name, tensor in pruned.items()})
    return PrunedModel(
        model=model.eval(),
        kept_layers=kept_layers,
        kept_hidden=kept_hidden.tolist(),
        importance=importance,
    )


@torch.no_grad()
def measure_importance(teacher: Any, calibration: Sequence[torch.Tensor]) -> Importance:
    """The means over all calibration tokens, in float64."""
    sums: dict[tuple[str, int | str], Any] = defaultdict(float)
    num_tokens = sum(batch.numel() for batch in calibration)
    if not num_tokens:
        raise UserError("pruning needs calibration text: there is no token in what was given")
    was_training = teacher.training
    teacher.eval()
    with _observed(teacher, sums):
        for batch in calibration:
            teacher.model(input_ids=batch, use_cache=False)
    teacher.train(was_training)
    layers = range(teacher.config.num_hidden_layers)
    return Importance(
        norm_squares={name: sums["squares", name] / num_tokens for name, _ in _norms(teacher)},
        layer_influence=1 - torch.stack([sums["cosine", index] for index in layers]) / num_tokens,
        ffn=[sums["ffn", index] / num_tokens for index in layers],
        kv_heads=[sums["kv", index] / num_tokens for index in layers],
        hidden=sums["hidden", 0] / num_tokens,
        num_tokens=num_tokens,
    )


@contextmanager
def _observed(teacher: Any, sums: dict[tuple[str, int | str], Any]) -> Iterator[None]:
    """Adds up what passes through the layers while the context is open."""
    groups, head_size = teacher.config.num_key_value_heads, _head_size(teacher.config)

    def layer_hook(index: int) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            cosine = torch.nn.functional.cosine_similarity(inputs[0].double(), after.double(), dim=-1)
            sums["cosine", index] += cosine.sum()

        return hook

    def ffn_hook(index: int) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            sums["ffn", index] += inputs[0].abs().double().flatten(0, -2).sum(0)

        return hook

    def heads_hook(index: int) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            heads_BTHd = inputs[0].double().unflatten(-1, (-1, head_size))
            norms = heads_BTHd.norm(dim=-1).flatten(0, -2).sum(0)
            sums["kv", index] += norms.view(groups, -1).sum(-1)

        return hook

    def norm_hook(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            sums["hidden", 0] += output.abs().double().flatten(0, -2).sum(0)
            sums["squares", name] += inputs[0].double().square().flatten(0, -2).sum(0)

        return hook

    handles = [norm.register_forward_hook(norm_hook(name)) for name, norm in _norms(teacher)]
    for index, layer in enumerate(teacher.model.layers):
        handles += [
            layer.register_forward_hook(layer_hook(index)),
            layer.mlp.down_proj.register_forward_pre_hook(ffn_hook(index)),
            layer.self_attn.o_proj.register_forward_pre_hook(heads_hook(index)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _norms(teacher: Any) -> Iterator[tuple[str, Any]]:
    """Those over the hidden channels, by the name of their parameter."""
    yield "model.norm.weight", teacher.model.norm
    for index, layer in enumerate(teacher.model.layers):
        yield f"model.layers.{index}.input_layernorm.weight", layer.input_layernorm
        yield f"model.layers.{index}.post_attention_layernorm.weight", layer.post_attention_layernorm


def _rescaled_norms(
    teacher: Any, squares: dict[str, torch.Tensor], kept: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The norms' weights, each times the root of (mean square of the kept channels / of all)."""
    scaled = {}
    for name, norm in _norms(teacher):
        ratio = (squares[name][kept].mean() / squares[name].mean()).sqrt()
        scaled[name] = norm.weight.detach() * ratio.to(norm.weight.dtype)
    return scaled


def _cut(part: str, weight: torch.Tensor, keep: dict[str, torch.Tensor], config: Any) -> torch.Tensor:
    """The rows and columns of one of a layer's parameters that stay."""
    module, kind = part.rsplit(".", 1)
    name = module.rsplit(".", 1)[-1]
    head_size, groups = _head_size(config), config.num_key_value_heads
    if name in ("q_norm", "k_norm"):
        return weight
    if name.endswith("layernorm"):
        return weight.index_select(0, keep["hidden"])
    per_group = head_size * (config.num_attention_heads // groups if name in ("q_proj", "o_proj") else 1)
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
        "head_dim": _head_size(config),
    }
    for name, value in values.items():
        setattr(pruned, name, value)
    if getattr(config, "layer_types", None):
        pruned.layer_types = [config.layer_types[index] for index in kept_layers]
    return pruned


def _checked(shape: PrunedShape, config: Any) -> dict[str, int]:
    """The wanted size under each of the config's names; a size above the teacher's is refused."""
    names = {
        "num_layers": "num_hidden_layers",
        "hidden_size": "hidden_size",
        "ffn_size": "intermediate_size",
        "num_kv_heads": "num_key_value_heads",
    }
    wanted = {}
    for name, config_name in names.items():
        has, value = getattr(config, config_name), getattr(shape, name)
        if value is not None and not 1 <= value <= has:
            raise UserError(f"pruning: {name} is {value}, but the teacher has {has}, and 1 is the least")
        wanted[config_name] = has if value is None else value
    return wanted


def _require_known_parts(teacher: Any) -> None:
    """A parameter that is not understood cannot be cut: the model would be silently wrong."""
    unknown = set()
    for name in teacher.state_dict():
        pieces = name.split(".")
        in_layer = pieces[:2] == ["model", "layers"]
        known = ".".join(pieces[3:-1]) in PARTS if in_layer else name in WHOLE
        if not known:
            unknown.add(".".join(pieces[3:-1]) if in_layer else name)
    if unknown:
        raise UserError(
            f"{type(teacher).__name__} cannot be pruned: it has {', '.join(sorted(unknown))}",
            "Llama-like models can: Llama, Mistral, Qwen2, Qwen3, SmolLM2",
        )


WHOLE = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _highest(importance: torch.Tensor, count: int) -> list[int]:
    """The indices of the `count` highest, ascending; a tie keeps the lower index."""
    order = torch.argsort(importance, descending=True, stable=True)[:count]
    return sorted(order.tolist())
