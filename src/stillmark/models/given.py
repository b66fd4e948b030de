"""A model that exists: from a Hugging Face directory, a GGUF file or a hub id, read without running its code.

Only safetensors and GGUF are read: loading a pickle can run its author's code.
"""

from pathlib import Path
from typing import Any

import torch

from stillmark.errors import UserError


def given_config(checkpoint: str, revision: str | None = None) -> dict[str, Any]:
    """The model's config as plain values."""
    from transformers import AutoConfig

    config = read(checkpoint, lambda: AutoConfig.from_pretrained(**source(checkpoint, revision))).to_dict()
    for key in ("_name_or_path", "transformers_version", "quantization_config", "dtype"):
        config.pop(key, None)
    return {key: value for key, value in config.items() if is_plain(value)}


def given_tokenizer(checkpoint: str, revision: str | None = None) -> Any:
    from transformers import AutoTokenizer

    return read(checkpoint, lambda: AutoTokenizer.from_pretrained(**source(checkpoint, revision)))


def given_model(checkpoint: str, revision: str | None = None) -> Any:
    """The model in float32 and eval mode; a quantised GGUF is dequantised."""
    from transformers import AutoModelForCausalLM

    options = source(checkpoint, revision)
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    return read(
        checkpoint, lambda: AutoModelForCausalLM.from_pretrained(dtype=torch.float32, **options)
    ).eval()


def source(checkpoint: str, revision: str | None) -> dict[str, Any]:
    """What transformers' `from_pretrained` is told about where a model lies."""
    path = Path(checkpoint).expanduser()
    looks_local = checkpoint.startswith((".", "/", "~")) or checkpoint.endswith(".gguf")
    if looks_local and not path.exists():
        raise UserError(
            f"{checkpoint}: there is no such model",
            hint="give a Hugging Face directory, a .gguf file or a hub id",
        )
    if path.suffix == ".gguf":
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    name = str(path) if path.is_dir() else checkpoint
    return {"pretrained_model_name_or_path": name, "revision": revision, "trust_remote_code": False}


def read(checkpoint: str, load: Any) -> Any:
    try:
        return load()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"the model `{checkpoint}` could not be loaded: {first}",
            hint="give a directory or hub id with safetensors weights, or a GGUF file",
        ) from error


def is_plain(value: Any) -> bool:
    """Whether JSON can hold a value as it is."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(is_plain(inner) for inner in value)
    return value is None or isinstance(value, (bool, int, float, str))
