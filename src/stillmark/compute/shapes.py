"""A Hugging Face config.json -> `ModelShape`. No torch, no guess.

Only architectures whose formula was checked against transformers on the meta device (parameters, forward and
backward FLOPs) are read. Any other raises a `UserError` that names what is supported;
`stillmark.models.count` counts those operation by operation.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillmark.compute.families import classic, fairseq, latent, llama, moe, shared_moe, windowed
from stillmark.compute.families.reader import COUNT_INSTEAD
from stillmark.compute.model_shape import ModelShape
from stillmark.errors import UserError, did_you_mean

__all__ = ["FAMILIES", "ModelShape", "load_shape", "shape_from_config"]

FAMILIES = {
    **llama.FAMILIES,
    **windowed.FAMILIES,
    **classic.FAMILIES,
    **fairseq.FAMILIES,
    **moe.FAMILIES,
    **shared_moe.FAMILIES,
    **latent.FAMILIES,
}


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of the model that transformers makes from this config (the content of a config.json)."""
    model_type = str(config.get("model_type"))
    if model_type not in FAMILIES and "text_config" in config:
        raise UserError(
            f"model_type `{model_type}` is not a language model alone: parts beside it have no formula here",
            hint="for its language model, give the config under `text_config`",
        )
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


def load_shape(path_or_id: str | Path) -> ModelShape:
    """The shape of a model in a directory, of a config.json, or of a model id on the Hugging Face hub."""
    path = Path(path_or_id)
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        return shape_from_config(read_config(path))
    if path.name == "config.json" or path.is_absolute() or str(path_or_id).count("/") > 1:
        raise UserError(f"no config.json at {path_or_id}")
    return shape_from_config(read_config(download_config(str(path_or_id))))


def read_config(path: Path) -> dict[str, Any]:
    """The content of a config.json."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no object with a model's configuration")
    return config


def download_config(model_id: str) -> Path:
    """config.json of a model on the hub, from the local cache where it is there."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise UserError(f"`{model_id}` is no directory, and huggingface_hub is not installed") from error
    try:
        return Path(hf_hub_download(model_id, "config.json"))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"`{model_id}` is no directory, and its config.json could not be had from the hub: {reason}",
            hint="give the path of a directory with a config.json",
        ) from error
