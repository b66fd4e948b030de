"""A file of tensors: read as it was written, and refused after any one flipped bit, or a cut."""

import pytest
import torch

from stillmark.errors import UserError
from stillmark.models.tensor_files import read_tensors, write_tensors

TENSORS = {
    "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "ids": torch.tensor([[3]]),
    "scalar": torch.tensor(2.5),
    "none": torch.zeros(0, 4),
}


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "state.safetensors"
    write_tensors(path, TENSORS, {"step": "7"})
    tensors, metadata = read_tensors(path)
    assert metadata == {"step": "7"}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_any_flipped_bit_and_any_cut_is_noticed(tmp_path):
    path = tmp_path / "state.safetensors"
    write_tensors(path, TENSORS, {"step": "7"})
    content = path.read_bytes()
    for place in range(len(content)):
        spoiled = bytearray(content)
        spoiled[place] ^= 1 << place % 8
        path.write_bytes(spoiled)
        try:
            tensors, metadata = read_tensors(path)
        except UserError:
            continue
        else:  # a blank of the header, which says nothing
            assert metadata == {"step": "7"}
            assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    for length in (0, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="is not as it was written"):
            read_tensors(path)
