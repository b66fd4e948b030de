"""`stillmark choose`: which arm of a study for a device, and why not the others."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from stillmark.errors import UserError

CHOOSE_EPILOG = (
    "Example: stillmark choose runs/quickstart --device jetson-orin-nano-8gb --latency 2 --memory 1G"
)


def choose_command(
    folder: Annotated[
        Path, typer.Argument(help="The study's folder, such as runs/quickstart.", metavar="FOLDER")
    ],
    device: Annotated[
        str | None, typer.Option(help="A device of the table, such as jetson-orin-nano-8gb.")
    ] = None,
    this_machine: Annotated[
        bool, typer.Option("--this-machine", help="By what the study's profiles measured.")
    ] = False,
    latency: Annotated[float | None, typer.Option(help="Seconds that an answer may take.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory that it may need, such as 512M or 1G.")] = None,
    accuracy: Annotated[float | None, typer.Option(help="Share that must be right, from 0 to 1.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Which arms are feasible on a device within limits, which is best, and why the others fell. Needs no torch."""
    from stillmark.analysis.choose import Wanted, choose
    from stillmark.compute.hardware import device as device_named
    from stillmark.compute.predictor import Limits
    from stillmark.report.write import conclusion_of
    from stillmark.study.amounts import bytes_of

    if (device is None) == (not this_machine):
        raise UserError(
            "name one: --device NAME or --this-machine", hint="for example --device jetson-orin-nano-8gb"
        )
    if latency is not None and not latency > 0:
        raise UserError(f"--latency {latency}: seconds must be more than 0")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise UserError(f"--accuracy {accuracy}: is a share from 0 to 1", hint="90% is 0.9")
    limits = None if device is None else Limits.of_device(device_named(device))
    wanted = Wanted(
        latency_seconds=latency, memory_bytes=bytes_of(memory) if memory else None, accuracy=accuracy
    )
    conclusion = conclusion_of(folder)
    if this_machine:
        say_where_measured(conclusion)
    choice = choose(conclusion, limits, wanted)
    if as_json:
        json.dump(choice.as_dict(), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
        print()
        return
    from stillmark.report.device import print_choice

    print_choice(choice)


def say_where_measured(conclusion: Mapping[str, Any]) -> None:
    """The profiles may be of another machine than this one."""
    from stillmark.provenance import provenance

    machines = {row["machine"] or "an unknown CPU" for row in conclusion["profiles"]}
    here = provenance()["cpu"]
    for machine in sorted(machines - {here}):
        print(f"measured on {machine}; this is {here or 'an unknown CPU'}", file=sys.stderr)
