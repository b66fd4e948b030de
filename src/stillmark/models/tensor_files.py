"""Files of tensors that are whole or not there, whenever process or machine stop, and that know their damage."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stillmark.errors import UserError

MADE_AGAIN = "The same command makes it again, with all that it needs for that"
CHECKSUM = "sha256"  # in a file's metadata: of its names and tensors


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file that holds the checksum of its tensors and of `metadata`."""
    scratch = path.with_name(path.name + ".partial")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(whole, scratch, metadata={**metadata, CHECKSUM: checksum(whole, metadata)})
    sync(scratch)
    scratch.replace(path)
    sync(path.parent)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata. Raises UserError where the file is not there, or not as it was written."""
    if not path.exists():
        raise UserError(f"{path}: is not there", hint=MADE_AGAIN)
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise damaged(path) from error
    if metadata.pop(CHECKSUM, None) != checksum(tensors, metadata):
        raise damaged(path)
    return tensors, metadata


def damaged(path: Path) -> UserError:
    return UserError(f"{path}: is not as it was written (its checksum differs)",
                     hint=f"delete it. {MADE_AGAIN}")  # fmt: skip


def checksum(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> str:
    digest = hashlib.sha256()
    for name in sorted(metadata):
        digest.update(f"{name}={metadata[name]}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Makes a file, or a folder's list of files, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
