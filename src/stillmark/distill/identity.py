"""Checksums of what a teacher's logits depend on: its weights, its tokenizer, its template and the data."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True)
class TokenSequence:
    """One training sequence: token_ids[i] is followed by targets[i]; a target of -100 has no loss."""

    token_ids: Sequence[int]
    targets: Sequence[int]

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.targets):
            raise ValueError(f"{len(self.token_ids)} token ids, but {len(self.targets)} targets")

    @property
    def num_loss_tokens(self) -> int:
        return len(self.targets) - self.targets.count(-100)

    def digest(self) -> bytes:
        """Eight bytes that tell this sequence from another."""
        both = np.array([self.token_ids, self.targets], dtype="<i8")
        return hashlib.blake2b(both.tobytes(), digest_size=8).digest()


@dataclass(frozen=True, kw_only=True)
class CacheIdentity:
    """What the logits in a cache depend on, each as a SHA-256."""

    teacher: str
    tokenizer: str
    template: str
    data: str

    def require(self, wanted: "CacheIdentity", where: str) -> None:
        """Refuse a cache made from anything else than what is wanted."""
        pairs = [(f.name, getattr(self, f.name), getattr(wanted, f.name)) for f in fields(self)]
        if wrong := [pair for pair in pairs if pair[1] != pair[2]]:
            listed = "\n".join(f"  {name}: cache {has[:16]}, now {want[:16]}" for name, has, want in wrong)
            names = " and ".join(name for name, _, _ in wrong)
            raise UserError(
                f"{where}: these logits were captured with another {names}\n{listed}",
                "capture again into another directory, or train with what the cache was made from",
            )


def cache_identity(teacher: torch.nn.Module, tokenizer: Any, data: Iterable[TokenSequence]) -> CacheIdentity:
    """The checksums of what is about to be captured, or trained on."""
    return CacheIdentity(
        teacher=model_sha256(teacher),
        tokenizer=tokenizer_sha256(tokenizer),
        template=template_sha256(tokenizer),
        data=data_sha256(data),
    )


def model_sha256(model: torch.nn.Module) -> str:
    """Of every weight's name, dtype, shape and bytes, and of the config that shapes the forward."""
    total = hashlib.sha256()
    config = getattr(model, "config", None)
    if config is not None:
        unrelated = ("_name_or_path", "transformers_version")
        kept = {key: value for key, value in config.to_diff_dict().items() if key not in unrelated}
        total.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total.update(memoryview(plain.numpy()))
    return total.hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """Of the whole tokenizer, without the truncation and padding that its last caller happened to set."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _sha256_of(sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1]))
    whole = json.loads(backend.to_str())
    return _sha256_of({key: value for key, value in whole.items() if key not in ("truncation", "padding")})


def template_sha256(tokenizer: Any) -> str:
    """Of the chat template, or of there being none."""
    return _sha256_of(getattr(tokenizer, "chat_template", None))


def data_sha256(data: Iterable[TokenSequence]) -> str:
    """Of the sequences in their order."""
    total = hashlib.sha256()
    for sequence in data:
        total.update(sequence.digest())
    return total.hexdigest()


def _sha256_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
