"""A model that exists: from a Hugging Face directory, a GGUF file or a hub id; its code is run only where asked.

Only safetensors and GGUF are read: loading a pickle can run its author's code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stillmark.errors import UserError


def given_config(checkpoint: str, revision: str | None = None) -> dict[str, Any]:
    """The model's config as plain values."""
    from transformers import AutoConfig

    with loading(checkpoint):
        # Not to say it is to be asked on standard input, where a `yes` may be waiting
        found = AutoConfig.from_pretrained(**source(checkpoint, revision), trust_remote_code=False)
    config: dict[str, Any] = found.to_dict()
    for key in ("_name_or_path", "transformers_version", "quantization_config", "dtype", "auto_map"):
        config.pop(key, None)
    return {key: value for key, value in config.items() if is_plain(value)}


def given_tokenizer(checkpoint: str, revision: str | None = None, *, trust_remote_code: bool = False) -> Any:
    from transformers import AutoTokenizer

    with loading(checkpoint):
        return AutoTokenizer.from_pretrained(
            **source(checkpoint, revision), trust_remote_code=trust_remote_code
        )


def given_model(
    checkpoint: str,
    revision: str | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
) -> Any:
    """The model in eval mode; a quantised GGUF is dequantised. One whose files lack weights is refused."""
    from transformers import AutoModelForCausalLM

    options = source(checkpoint, revision)
    if "gguf_file" not in options:
        options["use_safetensors"] = True
    with loading(checkpoint):
        model, info = AutoModelForCausalLM.from_pretrained(
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below
            **options,
        )
    # transformers fills what the file lacks with random numbers and a warning: such a model is nobody's
    absent = sorted([*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])])
    if absent:
        names = ", ".join(absent[:3])
        raise UserError(
            f"the model `{checkpoint}` lacks {len(absent)} of its weights, or has them in another size: {names}",
            "the files are incomplete, or of another architecture than config.json says",
        )
    if not trust_remote_code and hasattr(model.config, "auto_map"):
        del model.config.auto_map  # names code that a copy of the model would not have
    return model.eval()


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
    return {"pretrained_model_name_or_path": name, "revision": revision}


@contextmanager
def loading(checkpoint: str) -> Iterator[None]:
    """A fault of the block is one line that names the model."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "trust_remote_code" in str(error):
            raise UserError(f"the model `{checkpoint}` brings code of its own, which is not run",
                            hint="use one whose architecture transformers has itself") from error  # fmt: skip
        if not Path(checkpoint).expanduser().exists():
            reason = f"there is no such folder here, and from the hub: {reason}"
        hint = "give a directory or hub id with safetensors weights, or a GGUF file"
        if isinstance(error, ImportError) and checkpoint.endswith(".gguf"):
            hint = "pip install 'stillmark[llamacpp]'"
        raise UserError(f"the model `{checkpoint}` could not be loaded: {reason}", hint) from error


def is_plain(value: Any) -> bool:
    """Whether JSON can hold a value as it is."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(is_plain(inner) for inner in value)
    return value is None or isinstance(value, (bool, int, float, str))
