"""K-quants, rounded by llama.cpp's own quantiser: the one in the installed xllamacpp, called through ctypes.

xllamacpp has no quantising command, but its library exports ggml's `ggml_quantize_chunk`, which rounds one
matrix. Which matrix of a mix such as Q4_K_M gets more bits is llama.cpp's rule (src/llama-quant.cpp,
`llama_tensor_get_type_impl`), written down here for dense models without an importance matrix;
tests/profiling/test_k_quants.py holds it beside what llama-quantize itself chose. Where the rule has
exceptions that are not written here (mixtures of experts, Falcon, Llama of 80 layers), it is refused.
"""

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmark.errors import UserError

MIXES = ("Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
BLOCK, SMALL_BLOCK = 256, 32
# of a matrix whose rows are no multiple of 256
SMALLER_BLOCKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
KEPT = ("_norm.weight", "ffn_gate_inp.weight", "position_embd", "token_types")
FUSED_OR_EXPERT = ("attn_qkv", "attn_kv_b", "_exps")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """One K-quant mix for one model."""

    name: str
    num_layers: int
    heads_per_key: int
    """Query heads that share one key and value head."""
    is_tied: bool

    @classmethod
    def of(cls, name: str, metadata: dict[str, Any], tensors: set[str]) -> "Mix":
        """From a GGUF header; a UserError for models whose rule has exceptions that are not written here."""
        architecture = str(metadata["general.architecture"])
        layers = int(metadata[f"{architecture}.block_count"])
        heads = int(metadata[f"{architecture}.attention.head_count"])
        keys = int(metadata.get(f"{architecture}.attention.head_count_kv", heads))
        unusual = sorted({part for part in FUSED_OR_EXPERT for tensor in tensors if part in tensor})
        if architecture == "falcon" or layers == 80 or unusual:
            raise UserError(
                f"K-quants of this model are not written here ({architecture}, {layers} layers, {unusual or 'dense'})",
                hint="quantise it with llama.cpp's own llama-quantize",
            )
        return cls(name=name, num_layers=layers, heads_per_key=heads // keys,
                   is_tied="output.weight" not in tensors)  # fmt: skip

    @property
    def base(self) -> str:
        """The format of most matrices: Q4_K of Q4_K_M."""
        return self.name[:4]

    def format_of(self, tensor: str, shape: tuple[int, ...]) -> str:
        """Norms and vectors stay float32; rows that the format's blocks do not divide get one with smaller blocks."""
        if len(shape) < 2 or not tensor.endswith("weight") or any(part in tensor for part in KEPT):
            return "F32"
        row = int(shape[0])
        is_head = tensor == "output.weight" or (tensor == "token_embd.weight" and self.is_tied)
        asked = "Q6_K" if is_head else self._asked(tensor)
        if row % BLOCK == 0:
            return asked
        return SMALLER_BLOCKS[asked] if row % SMALL_BLOCK == 0 else "F16"

    def _asked(self, tensor: str) -> str:
        if not tensor.startswith("blk."):
            return self.base
        layer, part = int(tensor.split(".")[1]), tensor.split(".")[2]
        if part == "attn_v":
            return self._values(layer)
        if part == "ffn_down":
            return self._down(layer)
        if part == "attn_output":
            return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(self.name, self.base)
        return self.base

    def _values(self, layer: int) -> str:
        if self.name == "Q2_K":
            return "Q4_K" if self.heads_per_key >= 4 else "Q3_K"
        if self.name == "Q3_K_M":
            return "Q5_K" if layer < 2 else "Q4_K"
        if self.name == "Q4_K_S":
            return "Q5_K" if layer < 4 else "Q4_K"
        if self.name in ("Q4_K_M", "Q5_K_M") and self._is_sensitive(layer):
            return "Q6_K"
        return "Q5_K" if self.name == "Q3_K_L" else self.base

    def _down(self, layer: int) -> str:
        if self.name == "Q2_K":
            return "Q3_K"
        if self.name == "Q3_K_M":
            return "Q5_K" if layer < self.num_layers // 16 else "Q4_K"
        if self.name == "Q4_K_S":
            return "Q5_K" if layer < self.num_layers // 8 else "Q4_K"
        if self.name in ("Q4_K_M", "Q5_K_M") and self._is_sensitive(layer):
            return "Q6_K"
        return "Q5_K" if self.name == "Q3_K_L" else self.base

    def _is_sensitive(self, layer: int) -> bool:
        """The first and last eighth of the layers, and every third between."""
        eighth = self.num_layers // 8
        return layer < eighth or layer >= 7 * self.num_layers // 8 or (layer - eighth) % 3 == 2


def rounded(weights: "np.ndarray[Any, Any]", format: str, num_bytes_per_row: int, number: int) -> Any:
    """`weights` [rows, columns] in float32 as the bytes of `format`, whose number in ggml is `number`."""
    quantiser = _quantiser()
    source = np.ascontiguousarray(weights, dtype=np.float32)
    rows, columns = source.reshape(-1, source.shape[-1]).shape
    target = np.empty((rows, num_bytes_per_row), dtype=np.uint8)
    written = quantiser(number, source.ctypes.data, target.ctypes.data, 0, rows, columns, None)
    assert written == target.nbytes, f"{format}: {written} bytes written, {target.nbytes} expected"
    return target.reshape(*source.shape[:-1], num_bytes_per_row)


def _quantiser() -> Any:
    """`size_t ggml_quantize_chunk(type, src, dst, start, nrows, n_per_row, imatrix)` of the installed llama.cpp."""
    try:
        module = importlib.import_module("xllamacpp.xllamacpp")
        function = ctypes.CDLL(str(module.__file__)).ggml_quantize_chunk
    except ImportError as error:
        raise UserError(
            "K-quants are rounded by llama.cpp's own quantiser, which xllamacpp brings",
            hint="pip install 'stillmark[llamacpp]'",
        ) from error
    except (OSError, AttributeError) as error:
        raise UserError(
            "the installed xllamacpp does not export llama.cpp's quantiser (ggml_quantize_chunk)",
            hint="use its Linux wheel, or llama.cpp's own llama-quantize",
        ) from error
    function.restype = ctypes.c_size_t
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64,
                         ctypes.c_int64, ctypes.c_void_p]  # fmt: skip
    return function
