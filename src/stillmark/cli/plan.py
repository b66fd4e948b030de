"""`stillmark plan`: what it would cost to distil, pretrain, serve the teacher, or buy the answers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from stillmark.cli.plan_tables import print_plan
from stillmark.compute.carbon import grid_intensity
from stillmark.compute.convert import Utilisation, utilisation_of
from stillmark.compute.fit import Fit, TrainingSetup, fit
from stillmark.compute.flops import Recompute
from stillmark.compute.hardware import Device, device, this_device
from stillmark.compute.memory import Sharding, precision
from stillmark.compute.plan_costs import Hardware
from stillmark.compute.plan_report import plan_as_dict
from stillmark.compute.planned_model import planned_model
from stillmark.compute.planner import PlanInputs, make_plan
from stillmark.compute.prices import Prices, load_prices
from stillmark.compute.workloads import Distillation, Method, PlannedModel
from stillmark.errors import UserError

TRAIN_MFU_BASIS = "assumed; Llama 3 405B reports 38-43% on H100, smaller runs reach less"
GENERATE_MFU_BASIS = "assumed; DeepSeek's 14.8k tokens/s decoded on 8 H800 are 14%"

EXAMPLES = """
What would it cost? FLOPs, memory, device-hours, money and energy of each way to get answers, and the
number of queries after which one pays against another.

A model is a config.json (or its folder), a published model (`stillmark published list`), or a size: 8b,
671b-a37b.

Examples:

  stillmark plan --student llama-3.1-8b --teacher deepseek-r1 --samples 1e5 --device h100-sxm

  stillmark plan --student ./config.json --pretrain-tokens 1e9 --device rtx-4090 --api gpt-5-mini

  stillmark plan --student 1.5b --samples 2e4 --attempts 4 --teacher-api deepseek-chat --device this --json
"""


def plan_command(
    student: Annotated[str, typer.Option(help="The model to make: config.json, published id or size.")],
    device_name: Annotated[str, typer.Option("--device", help="What it runs on: h100-sxm, ...; `this`.")],
    teacher: Annotated[str | None, typer.Option(help="The model it learns from.")] = None,
    samples: Annotated[float | None, typer.Option(help="Samples kept for distillation.")] = None,
    prompt_tokens: Annotated[float, typer.Option(help="Prompt tokens of a sample.")] = 200,
    answer_tokens: Annotated[float, typer.Option(help="Answer tokens of a sample.")] = 500,
    epochs: Annotated[float, typer.Option(help="Passes over the samples.")] = 1,
    attempts: Annotated[float, typer.Option(help="Traces generated for each kept one (1/yield).")] = 1,
    method: Annotated[Method, typer.Option(help="What the teacher hands over.")] = Method.SEQUENCE,
    teacher_api: Annotated[str | None, typer.Option(help="Buy the traces: an API model.")] = None,
    pretrain_tokens: Annotated[float | None, typer.Option(help="Plan pretraining on as many.")] = None,
    api: Annotated[str | None, typer.Option(help="Buy the answers: an API model.")] = None,
    queries: Annotated[float | None, typer.Option(help="Add each choice's total at as many.")] = None,
    query_prompt_tokens: Annotated[float, typer.Option(help="Prompt tokens of a query.")] = 500,
    query_answer_tokens: Annotated[float, typer.Option(help="Tokens the student answers.")] = 500,
    teacher_answer_tokens: Annotated[float | None, typer.Option(help="... the teacher.")] = None,
    api_answer_tokens: Annotated[
        float | None, typer.Option(help="... the API, hidden reasoning included.")
    ] = None,
    devices: Annotated[int, typer.Option(help="How many of the device.", min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="Format that the peak is taken in.")] = "bf16",
    peak: Annotated[float | None, typer.Option(help="Dense FLOP/s, where ours is unknown.")] = None,
    mfu: Annotated[float, typer.Option(help="Share of the peak in training and scoring.")] = 0.4,
    generate_mfu: Annotated[float, typer.Option(help="Share of the peak in writing.")] = 0.1,
    usd_per_hour: Annotated[float | None, typer.Option(help="Your price of a device-hour.")] = None,
    usd_per_kwh: Annotated[float | None, typer.Option(help="Electricity of your own device.")] = None,
    provider: Annotated[str | None, typer.Option(help="Whose listed price to take.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Your price file.")] = None,
    region: Annotated[str | None, typer.Option(help="Grid for carbon: FRA, US-CA, WORLD.")] = None,
    sequence_tokens: Annotated[
        int | None, typer.Option(help="Of a training sequence; default: a whole sample.", min=1)
    ] = None,
    sequences: Annotated[int, typer.Option(help="Sequences a device holds at once.", min=1)] = 1,
    precision_name: Annotated[
        str, typer.Option("--precision", help="mixed, autocast, fp32 or bf16.")
    ] = "mixed",
    sharding: Annotated[Sharding, typer.Option(help="ZeRO stage; full is FSDP.")] = Sharding.NONE,
    recompute: Annotated[Recompute, typer.Option(help="What is not kept.")] = Recompute.NONE,
    as_json: Annotated[bool, typer.Option("--json", help="Data instead of tables.")] = False,
) -> None:
    if samples is None and not pretrain_tokens and not teacher and not api:
        raise UserError(
            "nothing to plan: only the student and the device are named",
            hint="add --samples with --teacher, --pretrain-tokens, or --api",
        )
    known = load_prices(prices)
    if region:
        grid_intensity(region)  # a wrong region is said before anything is planned
    student_model = planned_model(student)
    teacher_model = planned_model(teacher) if teacher else None
    asked = this_device() if device_name == "this" else device(device_name)
    hardware = replace(
        _hardware(asked, dtype, peak, mfu, generate_mfu, usd_per_hour, provider, known),
        num_devices=devices,
        usd_per_kilowatt_hour=usd_per_kwh or known.electricity_usd_per_kilowatt_hour,
    )
    distillation = None
    if samples is not None:
        if teacher_model is None and teacher_api is None:
            raise UserError(
                "--samples plans a distillation, which needs a teacher",
                hint="name one with --teacher, or buy its traces with --teacher-api",
            )
        distillation = Distillation(
            student=student_model,
            teacher=teacher_model,
            samples=samples,
            prompt_tokens=prompt_tokens,
            answer_tokens=answer_tokens,
            epochs=epochs,
            attempts=attempts,
            method=method,
        )
    length = sequence_tokens or round(prompt_tokens + answer_tokens if distillation else 4096)
    plan = make_plan(
        PlanInputs(
            hardware=hardware,
            student=student_model,
            teacher=teacher_model,
            distillation=distillation,
            teacher_api=known.api(teacher_api) if teacher_api else None,
            pretrain_tokens=pretrain_tokens,
            pretrain_sequence_tokens=sequence_tokens or 4096,
            api=known.api(api) if api else None,
            query_prompt_tokens=query_prompt_tokens,
            query_answer_tokens=query_answer_tokens,
            teacher_answer_tokens=teacher_answer_tokens,
            api_answer_tokens=api_answer_tokens,
            region=region,
        )
    )
    setup = TrainingSetup(
        precision=precision(precision_name),
        sequence_tokens=length,
        sequences=sequences,
        recompute=recompute,
        sharding=sharding,
        num_devices=devices,
    )
    fitted = _fit(setup, student_model, teacher_model, method if distillation else None, hardware.device)
    if as_json:
        typer.echo(json.dumps(plan_as_dict(plan, fitted, queries), indent=2))
    else:
        print_plan(plan, fitted, queries)


plan_command.__doc__ = EXAMPLES


def _hardware(
    device: Device,
    dtype: str,
    peak: float | None,
    mfu: float,
    generate_mfu: float,
    usd_per_hour: float | None,
    provider: str | None,
    prices: Prices,
) -> Hardware:
    """Device, utilisations and the price of an hour: the user's, else the middle one that is known."""
    if peak is None and device.peaks:
        utilisation_of(device, dtype=dtype, mfu=mfu, basis="")  # says which formats are known
    known_peak = peak or device.peak_flops_per_second(dtype)
    given = " (peak as given)" if peak else f" ({dtype}, dense)"
    offer = prices.middle_gpu_hour(device.name, provider) if usd_per_hour is None else None
    offers = prices.gpu_hour(device.name, provider)
    spread = f"; {len(offers)} offers from ${offers[0].usd:,.2f} to ${offers[-1].usd:,.2f}" if offers else ""
    return Hardware(
        device=device,
        train=Utilisation(mfu=mfu, peak_flops_per_second=known_peak, basis=TRAIN_MFU_BASIS + given)
        if known_peak
        else None,
        generate=Utilisation(
            mfu=generate_mfu, peak_flops_per_second=known_peak, basis=GENERATE_MFU_BASIS + given
        )
        if known_peak
        else None,
        usd_per_hour=usd_per_hour if offer is None else offer.usd,
        price_basis="as given" if usd_per_hour is not None else f"{offer}{spread}" if offer else None,
    )


def _fit(
    setup: TrainingSetup,
    student: PlannedModel,
    teacher: PlannedModel | None,
    method: Method | None,
    device: Device,
) -> Fit:
    """A live teacher sits beside the student; one whose traces or logits are on disk does not."""
    is_live = method in (Method.LIVE_LOGITS, Method.ON_POLICY)
    return fit(student, setup, device, teacher=teacher if is_live else None, teacher_logits=is_live)
