"""How much each layer, neuron, group of heads and hidden channel of a Llama-like model does on calibration text.

After Minitron (arXiv 2408.11796) and ShortGPT (arXiv 2403.03853):

- a layer's influence is 1 - mean cosine(hidden state before it, after it);
- the importance of a feed-forward neuron is the mean |activation| that enters `down_proj`, of a key-value group the
  mean norm of its heads' output that enters `o_proj`, of a hidden channel the mean |output| of all norms.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from stillmark.errors import UserError


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


@torch.no_grad()
def measure_importance(teacher: Any, calibration: Sequence[torch.Tensor]) -> Importance:
    """The means over all calibration tokens, in float64, on the CPU."""
    sums: dict[tuple[str, int | str], Any] = defaultdict(float)
    num_tokens = sum(batch.numel() for batch in calibration)
    if not num_tokens:
        raise UserError("pruning needs calibration text: there is no token in what was given")
    was_training = teacher.training
    teacher.eval()
    with _observed(teacher, sums):
        for batch in calibration:
            teacher.model(input_ids=batch.to(teacher.device), use_cache=False)
    teacher.train(was_training)
    sums = {name: total.cpu() for name, total in sums.items()}
    layers = range(teacher.config.num_hidden_layers)
    return Importance(
        norm_squares={name: sums["squares", name] / num_tokens for name, _ in norms_of(teacher)},
        layer_influence=1 - torch.stack([sums["cosine", index] for index in layers]) / num_tokens,
        ffn=[sums["ffn", index] / num_tokens for index in layers],
        kv_heads=[sums["kv", index] / num_tokens for index in layers],
        hidden=sums["hidden", 0] / num_tokens,
        num_tokens=num_tokens,
    )


@contextmanager
def _observed(teacher: Any, sums: dict[tuple[str, int | str], Any]) -> Iterator[None]:
    """Adds up what passes through the layers while the context is open."""
    groups, size = teacher.config.num_key_value_heads, head_size(teacher.config)

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
            heads_BTHd = inputs[0].double().unflatten(-1, (-1, size))
            norms = heads_BTHd.norm(dim=-1).flatten(0, -2).sum(0)
            sums["kv", index] += norms.view(groups, -1).sum(-1)

        return hook

    def norm_hook(name: str) -> Any:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            sums["hidden", 0] += output.abs().double().flatten(0, -2).sum(0)
            sums["squares", name] += inputs[0].double().square().flatten(0, -2).sum(0)

        return hook

    handles = [norm.register_forward_hook(norm_hook(name)) for name, norm in norms_of(teacher)]
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


def norms_of(teacher: Any) -> Iterator[tuple[str, Any]]:
    """Those over the hidden channels, by the name of their parameter."""
    yield "model.norm.weight", teacher.model.norm
    for index, layer in enumerate(teacher.model.layers):
        yield f"model.layers.{index}.input_layernorm.weight", layer.input_layernorm
        yield f"model.layers.{index}.post_attention_layernorm.weight", layer.post_attention_layernorm


def head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
