"""A Hugging Face config.json -> `ModelShape`. No torch, no guess.

Only architectures whose formula was checked against transformers on the meta device (parameters, forward and
backward FLOPs) are read. Any other raises a `UserError` that names what is supported;
`stillmark.models.count` counts those operation by operation.
"""

from collections.abc import Mapping
from typing import Any

from stillmark.compute.families import classic, llama
from stillmark.compute.families.reader import COUNT_INSTEAD
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError, did_you_mean

__all__ = ["FAMILIES", "ModelShape", "shape_from_config"]

FAMILIES = {**llama.FAMILIES, **classic.FAMILIES}


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of the model that transformers makes from this config (the content of a config.json)."""
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES:
        near = did_you_mean(model_type, FAMILIES)
        raise UserError(
            f"no FLOPs formula was checked for model_type `{model_type}`\n"
            f"checked: {', '.join(sorted(FAMILIES))}",
            hint=f"{near} Else {COUNT_INSTEAD}" if near else COUNT_INSTEAD,
        )
    if config.get("per_layer_config"):
        raise UserError(
            "no FLOPs formula was checked for a config with `per_layer_config` (layers of different sizes)",
            hint=COUNT_INSTEAD,
        )
    return FAMILIES[model_type].shape(config)
