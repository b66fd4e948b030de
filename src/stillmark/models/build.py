"""Models and tokenizers of a study: made from a config and a seed, kept as Hugging Face directories."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from stillmark.errors import UserError
from stillmark.models.tensor_files import MADE_AGAIN, sync


def word_tokenizer(words: list[str]) -> Any:
    """A tokenizer with one id a word, in the words' order; they begin with <pad>, <bos>, <eos> and <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def build_model(config: Mapping[str, Any], seed: int) -> Any:
    """A model with random weights that the seed alone decides."""
    from transformers import AutoConfig, AutoModelForCausalLM

    options = dict(config)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(options.pop("model_type"), **options))
    return model.to(torch.float32)


def save_model(folder: Path, model: Any, weights: Mapping[str, torch.Tensor], tokenizer: Any) -> str:
    """Writes a Hugging Face directory with these weights, whole or not at all; returns the weights' sha256.

    Of the model's generation settings the special tokens are kept: what ends a reply, not how it is sampled.
    """
    from transformers import GenerationConfig

    scratch = folder.with_name(folder.name + ".partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    model.config.save_pretrained(scratch)
    kept = ("bos_token_id", "eos_token_id", "pad_token_id")
    GenerationConfig(**{name: getattr(model.generation_config, name) for name in kept}).save_pretrained(
        scratch
    )
    tokenizer.save_pretrained(scratch)
    save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, scratch / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    digest = file_sha256(scratch / "model.safetensors")
    for path in (*scratch.iterdir(), scratch):
        sync(path)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(scratch, folder)
    sync(folder.parent)
    return digest


def checked_weights(folder: Path, sha256: str | None) -> Path:
    """The file of a directory's weights. With `sha256`, it must be just that one."""
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{folder}: there is no model.safetensors", hint=MADE_AGAIN)
    if sha256 is not None and file_sha256(weights) != sha256:
        raise UserError(f"{weights}: is not the file that was recorded (sha256 differs)",
                        hint=f"delete {folder}. {MADE_AGAIN}")  # fmt: skip
    return weights


def load_model(folder: Path, sha256: str | None = None) -> Any:
    """The model in a directory, in float32 and eval mode. With `sha256`, its weights must be just those."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    weights = checked_weights(folder, sha256)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=False).to(torch.float32)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    absent = model.load_state_dict(load_file(weights), strict=False)
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})  # the file holds one of two tied names
    if absent.unexpected_keys or set(absent.missing_keys) - tied:
        raise UserError(f"{weights}: does not hold the weights of its config: {absent}")
    model.tie_weights()
    return model.eval()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
