"""A model that is ready to be asked, and its identity: what a stored reply depends on.

The identity holds the hash of the weights, the tokenizer and the chat template, the engine with its versions, and
the precision. Two models can never share an entry of the response cache or of the store, whatever their paths.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.backends.protocol import Backend
from stillmark.cache import cache_folder
from stillmark.compute.model_shape import ModelShape
from stillmark.compute.shapes import shape_from_config
from stillmark.errors import UserError
from stillmark.provenance import package_version
from stillmark.records import canonical


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The model's chat template: a prompt as the user's one turn, and the header of the reply."""

    template: str
    apply: Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """An engine with a model, and what is known of it. None where an engine cannot tell."""

    label: str  # for tables
    backend: Backend
    identity: Mapping[str, Any]
    shape: ModelShape | None = None
    chat: Chat | None = None  # where the endpoint applies its template by itself, `apply` changes nothing
    token_ends: Callable[[str], Sequence[int]] | None = None  # of a reply: its length after each token
    device: str = "cpu"
    close: Callable[[], None] = lambda: None  # lets go of what the engine holds open
    price: str | None = None  # of a remote engine: what is paid, with the day that it was read and its source

    def count_tokens(self, text: str) -> int | None:
        return None if self.token_ends is None else len(self.token_ends(text))


def transformers_model(
    backend: Any, *, label: str, weights: str, device: str = "cpu", dtype: str = "float32"
) -> LoadedModel:
    """A `TransformersBackend` with its identity. `weights` is a hash of the parameters."""
    tokenizer = backend.tokenizer
    chat = chat_of(tokenizer)
    try:
        shape = shape_from_config(backend.model.config.to_dict())
    except UserError:
        shape = None  # no formula for this architecture: its FLOPs stay unknown
    identity = {
        "weights": weights,
        "tokenizer": tokenizer_hash(tokenizer),
        "template": None if chat is None else sha256_text(chat.template),
        "engine": "transformers",
        "versions": {name: package_version(name) for name in ("stillmark", "transformers", "torch")},
        "device": device.partition(":")[0],
        "dtype": dtype,
    }

    def token_ends(text: str) -> list[int]:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [end for _, end in encoded["offset_mapping"]]

    is_fast = getattr(tokenizer, "is_fast", False)
    return LoadedModel(
        label=label,
        backend=backend,
        identity=identity,
        shape=shape,
        chat=chat,
        token_ends=token_ends if is_fast else None,
        device=device,
    )


def chat_of(tokenizer: Any) -> Chat | None:
    """The tokenizer's own template, or None where it has none: a base model is not a chat model."""
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    text = template if isinstance(template, str) else json.dumps(template, sort_keys=True)

    def apply(prompt: str) -> str:
        filled: str = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        return filled

    return Chat(template=text, apply=apply)


def short_label(path_or_id: str) -> str:
    path = Path(path_or_id)
    return f"{path.resolve().parent.name}/{path.resolve().name}" if path.exists() else path_or_id


def tokenizer_hash(tokenizer: Any) -> str:
    """Hash of what the tokenizer does, as far as its own serialisation tells."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    text = inner.to_str() if inner is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return sha256_text(text)


def weights_hash(path_or_id: str, revision: str | None) -> str:
    """Hash of the weight files' names and bytes and of config.json; of a hub model, its files in the cache."""
    path = Path(path_or_id)
    if path.is_file():
        return file_hash(path)
    folder = path if path.is_dir() else hub_folder(path_or_id, revision)
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.gguf"))
    files += [file for file in (folder / "config.json",) if file.is_file()]
    if not files:
        raise UserError(f"{folder}: no weights to identify the model by (*.safetensors, *.gguf)")
    return sha256_text(canonical({file.name: file_hash(file) for file in files}))


def hub_folder(model_id: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model_id, revision=revision, local_files_only=True))


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; kept beside its size and times, since hashing gigabytes takes seconds."""
    state = path.stat()
    key = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}:{state.st_ino}"
    memo = cache_folder() / "hashes" / sha256_text(key)
    if memo.is_file():
        return memo.read_text()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if state.st_size > 1 << 20:
        memo.parent.mkdir(parents=True, exist_ok=True)
        half = memo.with_suffix(f".{os.getpid()}")
        half.write_text(digest)
        half.replace(memo)
    return digest


def sha256_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
