"""Variants of one model, each by whoever makes that format: ours and llama.cpp's for GGUF, ONNX Runtime's builder.

torchao writes no file: `stillmark profile --quantise torchao-int8` rounds in memory and measures beside the original.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from stillmark.errors import UserError
from stillmark.profiling.quantise import Quantised, quantise

ONNX = "onnx-int4"
BUILDER = "onnxruntime_genai.models.builder"
REFUSED = {
    "torchao-int8": "torchao has no file of its own to write: it rounds a model in memory, which "
    "`stillmark profile --quantise torchao-int8` measures beside the original",
    "torchao-int4": "torchao 0.18 packs int4 with mslk, which is made for GPUs, and nothing else packs float32",
}


def make_variants(model: str, out: Path, formats: Sequence[str]) -> list[Quantised]:
    """One variant a format; `out` is the file of a single one, else the folder of all."""
    if not formats:
        raise UserError("no type to quantise to", hint="for example --type Q8_0")
    refuse(formats)
    made = []
    for format in formats:
        is_file = len(formats) == 1 and out.suffix == ".gguf"
        if format == ONNX:
            made.append(onnx_int4(Path(model), out if len(formats) == 1 else out / ONNX))
        elif is_file:
            out.parent.mkdir(parents=True, exist_ok=True)
            made.append(quantise(model, out, format))
        else:
            out.mkdir(parents=True, exist_ok=True)
            name = Path(model).stem if model.endswith(".gguf") else Path(model).name
            made.append(quantise(model, out / f"{name}.{format.upper()}.gguf", format))
    return made


def refuse(formats: Sequence[str]) -> None:
    """Before anything is written."""
    for format in formats:
        if format in REFUSED:
            raise UserError(f"`{format}` cannot be made here: {REFUSED[format]}", hint="use Q8_0 or Q4_K_M")


def onnx_int4(source: Path, target: Path) -> Quantised:
    """ONNX Runtime GenAI's own builder, in a process of its own: int4 weights in blocks of 32, for the CPU."""
    if not (source / "config.json").is_file():
        raise UserError(
            f"{source} has no config.json: the builder reads a Hugging Face directory",
            hint="give the directory that the model was saved to",
        )
    for module in ("onnxruntime_genai", "onnx_ir"):
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{ONNX} takes {module}", hint="pip install 'stillmark[onnxruntime]'")
    command = [sys.executable, "-m", BUILDER, "-i", str(source), "-o", str(target), "-p", "int4", "-e", "cpu",
               "-c", str(target) + ".cache"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (target / "genai_config.json").is_file():
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise UserError(f"ONNX Runtime GenAI's builder could not convert {source}: {said[0]}")
    sizes = [file.stat().st_size for file in target.glob("*.onnx*")]
    weights = sum(file.stat().st_size for file in source.glob("*.safetensors"))
    return Quantised(path=target, format=ONNX, file_bytes=sum(sizes), source_bytes=weights,
                     was_quantised=False, num_kept=0)  # fmt: skip
