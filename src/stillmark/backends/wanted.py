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

MAX_SHARE = 0.75  # of positions wanted, from which to gather and scatter them saves nothing to speak of
FEED_FORWARD_NAMES = ("mlp", "feed_forward")
PROJECTION_NAMES = ("q_proj", "o_proj")


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
                module.__dict__.pop("forward")
                if forward is not None:
                    module.forward = forward

    def _forward_of(self, module: nn.Module) -> Callable[..., Any]:
        forward, num_weights = module.forward, sum(weight.numel() for weight in _matrices(module))

        def at_wanted(hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
            if self._wanted is None or rest or named:
                return forward(hidden, *rest, **named)
            part = forward(hidden.index_select(1, self._wanted))
            self.spared_products += num_weights * (hidden.shape[1] - len(self._wanted))
            return part.new_zeros(*hidden.shape[:2], part.shape[-1]).index_copy_(1, self._wanted, part)

        return at_wanted


def last_layer_modules(model: nn.Module) -> list[nn.Module]:
    """The modules of the last layer that only what is wanted needs; empty where the layers are not known."""
    num_layers = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    stacks = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList) and len(module) == num_layers
    ]
    if len(stacks) != 1:
        return []
    children = {name.rpartition(".")[2]: child for name, child in stacks[0][-1].named_modules()}
    named = [children[name] for name in (*FEED_FORWARD_NAMES, *PROJECTION_NAMES) if name in children]
    return [module for module in named if _is_of_plain_layers(module)]


def _is_of_plain_layers(module: nn.Module) -> bool:
    """Whether all its parameters are those of linear layers as they are, so that what it saves can be counted."""
    holders = [part for part in module.modules() if part._parameters]
    return bool(holders) and all(type(part) is nn.Linear for part in holders)


def _matrices(module: nn.Module) -> list[torch.Tensor]:
    return [part.weight for part in module.modules() if isinstance(part, nn.Linear)]
