"""`stillmark profile`: how fast, how large and how hungry a model is on this machine, under which limits."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

# To mount: app.command("profile", epilog=PROFILE_EPILOG)(profile_command)
PROFILE_EPILOG = """\b
Examples:
  stillmark profile --model student.gguf
  stillmark profile --model student.gguf --model teacher.gguf --threads 1,2 --memory-cap 1G
  stillmark profile --model ./student --engine transformers --prompt-tokens 128,1024 --batch 1,4
  stillmark profile --model ./student --quantise torchao-int8
  stillmark profile --model http://127.0.0.1:8080/v1 --model-name student --json
  stillmark profile --model student.gguf --lengths-from runs/eval --answers 50
  stillmark profile --model student.gguf --scenario single-stream --seconds 600
  stillmark profile --model student.gguf --scenario server --rate 2 --latency-bound 3 --batch 4
"""


def profile_command(
    model: Annotated[
        list[str], typer.Option(help="A .gguf, a directory or hub id, or a server's URL; again for more.")
    ],
    engine: Annotated[
        str | None,
        typer.Option(help="llamacpp, transformers, onnxruntime, openvino or endpoint; found from the model."),
    ] = None,
    threads: Annotated[str | None, typer.Option(help="Threads, such as 1,2; all cores if not given.")] = None,
    prompt_tokens: Annotated[str, typer.Option(help="Prompt lengths, such as 128,512.")] = "256",
    new_tokens: Annotated[int, typer.Option(help="Tokens written after each prompt.", min=2)] = 64,
    batch: Annotated[str, typer.Option(help="Requests at once, such as 1,4.")] = "1",
    context: Annotated[
        int | None, typer.Option(help="Context that is reserved; what is needed if not given.")
    ] = None,
    cores: Annotated[str | None, typer.Option(help="Only these cores, such as 0,1.")] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory-cap", "--memory", help="Cap of the engine's process, such as 512M."),
    ] = None,
    power_cap: Annotated[
        float | None, typer.Option(help="Watts of the CPU package, where RAPL can be set.", min=1)
    ] = None,
    gpu_power_cap: Annotated[
        float | None, typer.Option(help="Watts of each NVIDIA GPU, where NVML can set it.", min=1)
    ] = None,
    quantise: Annotated[
        str | None,
        typer.Option(help="Also with weights rounded in transformers: torchao-int8, torchao-int4."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="Real prompts, one a line: answers at their own length.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(help="The longest real answer.")] = 256,
    lengths_from: Annotated[
        str | None,
        typer.Option(help="FOLDER or FOLDER#LABEL of `stillmark eval`: time answers of the lengths in it."),
    ] = None,
    answers: Annotated[int, typer.Option(help="How many of those lengths, drawn at random.", min=1)] = 30,
    scenario: Annotated[
        str | None, typer.Option(help="single-stream, offline or server, by MLCommons LoadGen.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of a scenario; under 600 it is a smoke run.", min=1)] = 60,
    rate: Annotated[float | None, typer.Option(help="Queries a second of the server scenario.")] = None,
    latency_bound: Annotated[float, typer.Option(help="Seconds for 99% of its answers.")] = 10,
    budget: Annotated[float, typer.Option(help="Timed seconds for one arm at one setting.")] = 22,
    model_name: Annotated[str | None, typer.Option(help="The model's name at an endpoint.")] = None,
    journal: Annotated[
        Path | None, typer.Option(help="Keep each run here; stopped, it goes on from it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Measure latency, throughput, memory and energy on this machine. A minute for one model."""
    given = dict(locals())
    from stillmark.cli.profile_request import ProfileRequest, run_request
    from stillmark.cli.profile_scenario import print_scenarios, run_scenarios, scenarios_as_dict
    from stillmark.cli.profile_tables import print_profile
    from stillmark.profiling.summary import as_dict

    del given["as_json"]
    request = ProfileRequest(**given)

    def progress(message: str) -> None:
        print(f"  {message}", file=sys.stderr)

    if scenario is not None:
        rows = run_scenarios(request, progress)
        write_json(scenarios_as_dict(rows)) if as_json else print_scenarios(rows)
        return
    session, summaries, ceilings = run_request(request, progress)
    if as_json:
        write_json(as_dict(session, summaries, ceilings))
    else:
        print_profile(session, summaries, ceilings)


def write_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, allow_nan=False)
    print()
