"""The last layer, run for the positions whose logits are wanted: what it gives at others reaches nothing.

Its keys and values are needed of every position, but not its queries, nor what follows attention. So the feed-forward,
and the projections of queries and outputs where they are layers of their own, run on the wanted rows alone, with zeros
elsewhere. The trial of packed rows (packed_check.py) holds the result to the model's own logits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

MAX_SHARE = 0.9  # of positions wanted, from which to gather and scatter them saves nothing to speak of
NAMES = ("mlp", "feed_forward", "self_attn.q_proj", "self_attn.o_proj")  # within a layer


class WantedRows:
    """Which positions of the pass that runs are wanted, and what was left out for the others so far."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = last_layer_modules(model)
        self.spared_products = 0  # weights times positions that were not run
        self._wanted: torch.Tensor | None = None

    def choose(self, wanted: torch.Tensor, num_positions: int) -> None:
        """Of the pass to come."""
        self._wanted = wanted if len(wanted) <= MAX_SHARE * num_positions else None

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the modules run for what was chosen; they are as before afterwards."""
        before = [module.__dict__.get("forward") for module in self.modules]
        try:
            for module in self.modules:
                module.forward = self._forward_of(module)
            yield
        finally:
            for module, forward in zip(self.modules, before, strict=True):
                module.__dict__.pop("forward", None)
                if forward is not None:
                    module.forward = forward

    def _forward_of(self, module: nn.Module) -> Callable[..., Any]:
        forward = module.forward
        num_weights = sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))

        def at_wanted(hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
            if self._wanted is None or rest or named:
                return forward(hidden, *rest, **named)
            part = forward(hidden.index_select(1, self._wanted))
            self.spared_products += num_weights * (hidden.shape[1] - len(self._wanted))
            return part.new_zeros(*hidden.shape[:2], part.shape[-1]).index_copy_(1, self._wanted, part)

        return at_wanted


def last_layer_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of the last layer that only what is wanted needs; empty where they are not known."""
    num_layers = getattr(text_config_of(model), "num_hidden_layers", None)
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    if len(stacks) != 1:
        return []
    parts = dict(stacks[0][-1].named_modules())
    return [parts[name] for name in NAMES if name in parts and _is_of_plain_layers(parts[name])]


def text_config_of(model: Any) -> Any:
    """The config of the language model in it: the model's own, or of one that also sees, a part of that."""
    config = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _is_of_plain_layers(module: nn.Module) -> bool:
    """Whether it is linear layers as they are, each used once, so that what is spared can be counted. Adapters, which
    the model's own FLOPs leave out, and experts, of which not all run, come in lists.
    """
    parts = list(module.modules())
    holders = [part for part in parts if part._parameters]
    is_plain = bool(holders) and all(type(part) is nn.Linear for part in holders)
    return is_plain and not any(isinstance(part, nn.ModuleList | nn.ModuleDict) for part in parts)
