"""Rotary positions whose frequencies depend on how long the sequence is: `longrope` (Phi-3, Phi-4-mini) and `dynamic`.

transformers chooses between longrope's short and long set by the longest sequence of a forward pass. Beside a long
sequence a short one would then get other numbers than alone, so sequences beyond `steady_positions` run by themselves.
Dynamic frequencies follow the longest sequence of this and earlier passes once it is beyond `lasting_positions`: no
evaluation has a sequence beyond it, and training refuses one.
"""

from collections.abc import Iterator
from typing import Any


def steady_positions(model: Any) -> int | None:
    """How many positions a sequence may have for its frequencies not to depend on it; None: any number."""
    limits = []
    for module, layer in _rotary(model, "longrope"):
        parameters = module.config.rope_parameters
        parameters = parameters if layer is None else parameters[layer]
        limits.append(int(parameters["original_max_position_embeddings"]))
    return min(limits, default=None)


def lasting_positions(model: Any) -> int | None:
    """Up to how many positions the frequencies do not depend on what ran before; None: any number."""
    return min((int(module.original_max_seq_len) for module, _ in _rotary(model, "dynamic")), default=None)


def _rotary(model: Any, wanted: str) -> Iterator[tuple[Any, str | None]]:
    """The modules of this kind of frequencies, and the type of layer that they are for where there are several."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
            if kind == wanted:
                yield module, layer
