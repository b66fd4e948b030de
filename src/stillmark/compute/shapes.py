"""A Hugging Face config.json -> `ModelShape`. No torch, no guess.

Only architectures whose formula was checked against transformers (parameters and FLOPs, on the meta device) are
read. Any other raises a `UserError` that names what is supported; `stillmark.models.count` counts those.
"""

from collections.abc import Mapping
from typing import Any

from stillmark.compute.families.llama import LLAMA_LIKE
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError, did_you_mean

__all__ = ["SUPPORTED", "ModelShape", "shape_from_config"]

SUPPORTED = {**LLAMA_LIKE}


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of the model that transformers makes from this config (the content of a config.json)."""
    model_type = config.get("model_type")
    if model_type not in SUPPORTED:
        raise UserError(
            f"no FLOPs formula was checked for model_type `{model_type}`\nchecked: {', '.join(sorted(SUPPORTED))}",
            hint=did_you_mean(str(model_type), SUPPORTED)
            or "count it on the meta device: `stillmark.models.count.count_flops(config, tokens)`",
        )
    return SUPPORTED[model_type](config)
