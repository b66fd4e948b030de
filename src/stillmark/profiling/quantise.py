"""Quantised variants of an arm: a GGUF file, or a Hugging Face directory, to GGUF.

Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16 and F32 are written with the `gguf` package in numpy, bit for bit as
ggml's own reference code rounds them. K-quants (Q4_K_M and others) are rounded by the llama.cpp that xllamacpp
brings (k_quants.py). As llama.cpp does, only matrices are quantised (norms and biases stay float32); in the
simple formats a tied embedding, which is also the vocabulary head, is kept at Q8_0 at least.

From GGUF: all metadata and the tokenizer are taken over. Weights that are quantised already are first made
float again, so what the first quantisation lost stays lost: the result says so. From a directory: Llama-like
models, whose tokenizer is byte-level BPE (tokenizer.json); others are refused.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillmark.errors import UserError, did_you_mean
from stillmark.profiling.k_quants import MIXES, SMALLER_BLOCKS, Mix, rounded

FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
FULL_FORMATS = ("F32", "F16", "BF16")
HEADS = ("token_embd.weight", "output.weight")
SKIPPED_FIELDS = (
    "GGUF.version",
    "GGUF.tensor_count",
    "GGUF.kv_count",
    "general.file_type",
    "general.architecture",
)
FILE_TYPES = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16"}


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """What was written."""

    path: Path
    format: str
    file_bytes: int
    source_bytes: int
    was_quantised: bool
    """The source had already lost precision."""
    num_kept: int
    """Tensors that stayed float: norms, biases, rows that no block fits."""

    @property
    def ratio(self) -> float:
        """Bytes written over the source's."""
        return self.file_bytes / self.source_bytes


def quantise(source: str | Path, target: str | Path, format: str, *, is_by_ids: bool = False) -> Quantised:
    """Write `source` (a .gguf or a Hugging Face directory) as GGUF in `format`.

    `is_by_ids`: the file will be given token ids and no text, so a vocabulary of whole words will do.
    """
    source, target = Path(source), Path(target)
    name = format.upper()
    if name not in FORMATS + MIXES:
        raise UserError(
            f"cannot write `{format}` (formats: {', '.join(FORMATS + MIXES)})",
            hint=did_you_mean(name, FORMATS + MIXES)
            or "others, such as IQ formats, take llama.cpp's own llama-quantize",
        )
    if source.is_dir():
        from stillmark.profiling.convert_hf import float_gguf_of

        whole = target.with_suffix(".float.gguf")
        float_gguf_of(source, whole, is_by_ids=is_by_ids)
        try:
            return _requantise(whole, target, name)
        finally:
            whole.unlink()
    if not source.is_file():
        raise UserError(f"no model at {source}", hint="give a .gguf file or a directory with safetensors")
    if target.exists() and target.samefile(source):
        raise UserError(f"{target} is the source itself: give another name")
    return _requantise(source, target, name)


def _requantise(source: Path, target: Path, format: str) -> Quantised:
    gguf = _gguf()
    reader = gguf.GGUFReader(str(source))
    writer = gguf.GGUFWriter(str(target), reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name not in SKIPPED_FIELDS:
            _copy_field(gguf, writer, field)
    writer.add_file_type(getattr(gguf.LlamaFileType, FILE_TYPES.get(format, f"MOSTLY_{format}")))
    names = {tensor.name for tensor in reader.tensors}
    mix = Mix.of(format, _metadata(reader), names) if format in MIXES else None
    was_quantised, num_kept = False, 0
    for tensor in reader.tensors:
        was_quantised = was_quantised or tensor.tensor_type.name not in FULL_FORMATS
        shape = tuple(tensor.shape)
        if mix is not None:
            asked = mix.format_of(tensor.name, shape)
        else:
            asked = format_of(tensor.name, shape, format, is_tied="output.weight" not in names)
        num_kept += asked in FULL_FORMATS if format not in FULL_FORMATS else asked != format
        _add_tensor(gguf, writer, tensor, asked)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Quantised(
        path=target,
        format=format,
        file_bytes=target.stat().st_size,
        source_bytes=source.stat().st_size,
        was_quantised=was_quantised,
        num_kept=num_kept,
    )


def format_of(name: str, shape: tuple[int, ...], format: str, *, is_tied: bool) -> str:
    """Matrices get the format where rows divide into its blocks of 32; the head at least Q8_0."""
    if len(shape) < 2:
        return "F32"
    if format in FULL_FORMATS:
        return format
    if int(shape[0]) % 32:
        return "F16"
    is_head = name == "output.weight" or (name == "token_embd.weight" and is_tied)
    return "Q8_0" if is_head else format


def _add_tensor(gguf: Any, writer: Any, tensor: Any, format: str) -> None:
    kind = getattr(gguf.GGMLQuantizationType, format)
    if tensor.tensor_type == kind:
        data = tensor.data
    else:
        whole = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if format in SMALLER_BLOCKS:
            block, size = gguf.GGML_QUANT_SIZES[kind]
            data = rounded(whole, format, whole.shape[-1] // block * size, int(kind))
        else:
            data = gguf.quants.quantize(whole, kind)
    writer.add_tensor(tensor.name, data, raw_dtype=kind)


def _metadata(reader: Any) -> dict[str, Any]:
    return {field.name: field.contents() for field in reader.fields.values()
            if not field.name.startswith("tokenizer.")}  # fmt: skip


def _copy_field(gguf: Any, writer: Any, field: Any) -> None:
    """A metadata value under its own type."""
    kind = field.types[0]
    if kind == gguf.GGUFValueType.ARRAY:
        writer.add_key_value(field.name, field.contents(), kind, sub_type=field.types[-1])
    else:
        writer.add_key_value(field.name, field.contents(), kind)


def _gguf() -> Any:
    try:
        importlib.import_module("gguf.quants")
        return importlib.import_module("gguf")
    except ImportError as error:
        raise UserError("writing GGUF takes the gguf package", hint="pip install gguf") from error
