"""`stillmark predict`: arguments only."""

import json
import sys
from typing import Annotated

import typer

PREDICT_EPILOG = """\b
Examples:
  stillmark predict --model student.gguf --device raspberry-pi-5,apple-m4
  stillmark predict --model student.gguf --device raspberry-pi-5 --prompt-tokens 128,1024 --new-tokens 256
  stillmark predict --model student.gguf --device raspberry-pi-5 --fitted-here --json
Everything printed is predicted, not measured. Without --fitted-here it is the roofline: no engine is faster
  there. With it, this machine runs the model first (a minute), and the engine is assumed to come as near to the
  device's ceilings as it came to this machine's. benchmarks/predictor.md has the error of both.
"""


def predict_command(
    model: Annotated[str, typer.Option(help="A .gguf, or a directory with a config.json.")],
    device: Annotated[str, typer.Option(help="Names of the device table, with commas between.")],
    prompt_tokens: Annotated[str, typer.Option(help="Prompt lengths, such as 128,512.")] = "256",
    new_tokens: Annotated[int, typer.Option(help="Tokens written after each prompt.", min=2)] = 64,
    batch: Annotated[str, typer.Option(help="Requests at once, such as 1,4.")] = "1",
    dtype: Annotated[
        str, typer.Option(help="Format of a directory's weights: float32, float16, bfloat16.")
    ] = "float16",
    fitted_here: Annotated[
        bool,
        typer.Option("--fitted-here", help="Measure the engine here first, and take its slowdowns over."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads of that measurement; all cores if not given.", min=1)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Predict time to first token, decode rate and whether it fits, on a device that is not at hand."""
    from stillmark.cli.predict_request import PredictRequest, predicted_rows, print_predicted

    request = PredictRequest(model=model, devices=tuple(filter(None, device.split(","))), new_tokens=new_tokens,
                             prompt_tokens=prompt_tokens, batch=batch, dtype=dtype, fitted_here=fitted_here,
                             threads=threads)  # fmt: skip
    rows = predicted_rows(request, lambda message: print(f"  {message}", file=sys.stderr))
    if as_json:
        json.dump(rows, sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        print_predicted(model, rows)
