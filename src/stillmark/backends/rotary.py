"""Rotary positions whose frequencies depend on how long the sequence is: `longrope` (Phi-3, Phi-4-mini).

transformers chooses between a short and a long set by the longest sequence of a forward pass. Beside a long sequence
a short one would then get other numbers than alone, so sequences beyond `steady_positions` run by themselves.
(`dynamic` frequencies change beyond `max_position_embeddings` alone, and no sequence of ours is longer.)
"""

from typing import Any


def steady_positions(model: Any) -> int | None:
    """How many positions a sequence may have for its frequencies not to depend on it; None: any number."""
    limits = []
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer, kind in kinds.items() if isinstance(kinds, dict) else [(None, kinds)]:
            if kind == "longrope":
                parameters = module.config.rope_parameters
                parameters = parameters if layer is None else parameters[layer]
                limits.append(int(parameters["original_max_position_embeddings"]))
    return min(limits, default=None)
