"""`stillmark plan`: what it would cost to distil, pretrain, serve the teacher, or buy the answers."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

# To mount: app.command("plan", epilog=PLAN_EPILOG)(plan_command)
PLAN_EPILOG = """\b
Examples:
  stillmark plan --student llama-3.1-8b --teacher deepseek-r1 --samples 1e5 --device h100-sxm
  stillmark plan --student ./config.json --pretrain-tokens 1e9 --device rtx-4090 --api gpt-5-mini
  stillmark plan --student 1.5b --samples 2e4 --attempts 4 --teacher-api deepseek-chat --device a10 --dtype fp32
  stillmark plan --student 135m --pretrain-tokens 1e9 --device this --peak 1.6e11 --usd-per-kwh 0.3 --json
"""

Number = float | None


def plan_command(
    student: Annotated[str, typer.Option(help="The model to make: config.json, published id, or 8b.")],
    device: Annotated[str, typer.Option(help="What it runs on: h100-sxm, ...; `this` machine.")],
    teacher: Annotated[str | None, typer.Option(help="The model it learns from: as the student.")] = None,
    samples: Annotated[Number, typer.Option(help="Samples kept for distillation.")] = None,
    prompt_tokens: Annotated[float, typer.Option(help="Prompt tokens of a sample.")] = 200,
    answer_tokens: Annotated[float, typer.Option(help="Answer tokens of a sample.")] = 500,
    epochs: Annotated[float, typer.Option(help="Passes over the samples.")] = 1,
    attempts: Annotated[float, typer.Option(help="Traces generated for each kept one (1/yield).")] = 1,
    method: Annotated[
        str, typer.Option(help="sequence, live-logits, cached-logits or on-policy.")
    ] = "sequence",
    teacher_api: Annotated[str | None, typer.Option(help="Buy the traces: an API model.")] = None,
    pretrain_tokens: Annotated[Number, typer.Option(help="Plan pretraining on as many.")] = None,
    api: Annotated[str | None, typer.Option(help="Buy the answers: an API model.")] = None,
    queries: Annotated[Number, typer.Option(help="Add each choice's total at as many.")] = None,
    query_prompt_tokens: Annotated[float, typer.Option(help="Prompt tokens of a query.")] = 500,
    query_answer_tokens: Annotated[float, typer.Option(help="Tokens that the student answers.")] = 500,
    teacher_answer_tokens: Annotated[Number, typer.Option(help="Tokens that the teacher answers.")] = None,
    api_answer_tokens: Annotated[
        Number, typer.Option(help="Tokens that the API answers, hidden reasoning included.")
    ] = None,
    devices: Annotated[int, typer.Option(help="How many of the device.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="Format that the peak is taken in.")] = "bf16",
    peak: Annotated[Number, typer.Option(help="Dense FLOP/s, where ours is unknown.")] = None,
    mfu: Annotated[float, typer.Option(help="Share of the peak in training and scoring.")] = 0.4,
    generate_mfu: Annotated[float, typer.Option(help="Share of the peak in writing answers.")] = 0.1,
    usd_per_hour: Annotated[Number, typer.Option(help="Your price of a device-hour.")] = None,
    usd_per_kwh: Annotated[Number, typer.Option(help="Electricity, for a device of your own.")] = None,
    provider: Annotated[str | None, typer.Option(help="Whose listed price to take.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Your price file; else STILLMARK_PRICES.")] = None,
    region: Annotated[str | None, typer.Option(help="Grid for carbon: FRA, US-CA, WORLD.")] = None,
    sequence_tokens: Annotated[
        int | None, typer.Option(help="Of a training sequence; a whole sample if not given.", min=1)
    ] = None,
    sequences: Annotated[int, typer.Option(help="Sequences that a device holds at once.", min=1)] = 1,
    precision: Annotated[str, typer.Option(help="mixed, autocast, fp32 or bf16.")] = "mixed",
    sharding: Annotated[str, typer.Option(help="none, optimizer, gradients or full (FSDP).")] = "none",
    recompute: Annotated[str, typer.Option(help="none, attention or layers.")] = "none",
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Plan before spending: FLOPs, memory, hours, money, energy, and when each choice pays.

    Choices: distil the student, pretrain it, serve the teacher, buy the answers from an API.
    """
    given = dict(locals())
    from stillmark.cli.plan_tables import print_plan
    from stillmark.compute.plan_report import plan_as_dict
    from stillmark.compute.plan_request import PlanRequest, plan_of

    del given["queries"], given["as_json"]
    plan, fitted = plan_of(PlanRequest(**given))
    if as_json:
        json.dump(plan_as_dict(plan, fitted, queries), sys.stdout, indent=2, allow_nan=False)
        print()
    else:
        print_plan(plan, fitted, queries)
