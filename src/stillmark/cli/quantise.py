"""`stillmark quantise`: arguments only."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

QUANTISE_EPILOG = """\b
Examples:
  stillmark quantise --model ./student --out student.q8_0.gguf --type Q8_0
  stillmark quantise --model student.gguf --out variants/ --type Q8_0,Q4_K_M,Q4_0
  stillmark quantise --model ./student --out student-int4 --type onnx-int4
Types: F32 F16 BF16 Q8_0 Q5_1 Q5_0 Q4_1 Q4_0 (numpy); Q6_K Q5_K_M Q5_K_S Q4_K_M Q4_K_S Q3_K_L Q3_K_M Q3_K_S Q2_K
  (llama.cpp's quantiser, extra llamacpp); onnx-int4 (ONNX Runtime GenAI's builder, extra onnxruntime);
  torchao-int8, torchao-int4 (no files: see `stillmark profile --quantise`).
"""


def quantise_command(
    model: Annotated[str, typer.Option(help="A .gguf, or a directory with safetensors.")],
    out: Annotated[
        Path, typer.Option(help="The file (a folder for several types, and for onnx-int4) to write.")
    ],
    type: Annotated[str, typer.Option("--type", help="Format, or several with commas between.")],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Write a model in a smaller number format, as an arm to profile or to evaluate."""
    from stillmark.profiling.variants import make_variants

    made = make_variants(model, out, [name for name in type.split(",") if name])
    if as_json:
        json.dump([asdict(one) | {"path": str(one.path)} for one in made], sys.stdout, indent=2)
        print()
        return
    for one in made:
        print(f"{one.path}: {one.format}, {one.file_bytes / 1e6:,.1f} MB ({one.ratio:.0%} of the source)")
        if one.was_quantised:
            print("  the source was quantised already: what that lost stays lost", file=sys.stderr)
