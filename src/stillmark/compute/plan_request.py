"""A plan from what a user says: names and numbers in, a checked plan out.

    plan, fitted = plan_of(PlanRequest(student="llama-3.1-8b", device="h100-sxm", pretrain_tokens=1e12))

Where the user says nothing, MFU and price are assumed, and the plan's assumptions say so.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from stillmark.compute.carbon import grid_intensity
from stillmark.compute.convert import Utilisation, utilisation_of
from stillmark.compute.fit import Fit, TrainingSetup, fit
from stillmark.compute.flops import Recompute
from stillmark.compute.hardware import Device, device, this_device
from stillmark.compute.memory import Sharding, precision
from stillmark.compute.plan_costs import Hardware
from stillmark.compute.planned_model import planned_model
from stillmark.compute.planner import Plan, PlanInputs, make_plan
from stillmark.compute.prices import Prices, load_prices
from stillmark.compute.workloads import Distillation, DistillationMethod, PlannedModel
from stillmark.errors import UserError, did_you_mean

TRAIN_MFU_BASIS = "Llama 3 405B reports 38-43% on H100, smaller runs reach less"
GENERATE_MFU_BASIS = "DeepSeek's 14.8k tokens/s decoded on 8 H800 are 14%"
PRETRAIN_SEQUENCE_TOKENS = 4096

Member = TypeVar("Member", bound=StrEnum)


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """The options of `stillmark plan`, by their names; `None` is not given."""

    student: str
    device: str
    teacher: str | None = None
    samples: float | None = None
    prompt_tokens: float = 200
    answer_tokens: float = 500
    epochs: float = 1
    attempts: float = 1
    method: str = "sequence"
    teacher_api: str | None = None
    pretrain_tokens: float | None = None
    api: str | None = None
    query_prompt_tokens: float = 500
    query_answer_tokens: float = 500
    teacher_answer_tokens: float | None = None
    api_answer_tokens: float | None = None
    devices: int = 1
    dtype: str = "bf16"
    peak: float | None = None
    mfu: float = 0.4
    generate_mfu: float = 0.1
    usd_per_hour: float | None = None
    usd_per_kwh: float | None = None
    provider: str | None = None
    prices: Path | None = None
    region: str | None = None
    sequence_tokens: int | None = None
    sequences: int = 1
    precision: str = "mixed"
    sharding: str = "none"
    recompute: str = "none"


def plan_of(request: PlanRequest) -> tuple[Plan, Fit]:
    """The plan and the memory of training; a UserError for what cannot be."""
    if request.samples is None and not request.pretrain_tokens and not request.teacher and not request.api:
        raise UserError(
            "nothing to plan: only the student and the device are named",
            hint="add --samples with --teacher, --pretrain-tokens, or --api",
        )
    if request.region:
        grid_intensity(request.region)  # a wrong region is said before anything is planned
    prices = load_prices(request.prices)
    student = planned_model(request.student)
    teacher = planned_model(request.teacher) if request.teacher else None
    hardware = _hardware(request, prices)
    distillation = _distillation(request, student, teacher)
    plan = make_plan(
        PlanInputs(
            hardware=hardware,
            student=student,
            teacher=teacher,
            distillation=distillation,
            teacher_api=prices.api(request.teacher_api) if request.teacher_api else None,
            pretrain_tokens=request.pretrain_tokens,
            pretrain_sequence_tokens=request.sequence_tokens or PRETRAIN_SEQUENCE_TOKENS,
            api=prices.api(request.api) if request.api else None,
            query_prompt_tokens=request.query_prompt_tokens,
            query_answer_tokens=request.query_answer_tokens,
            teacher_answer_tokens=request.teacher_answer_tokens,
            api_answer_tokens=request.api_answer_tokens,
            region=request.region,
        )
    )
    return plan, _fit(request, student, distillation, hardware.device)


def _distillation(
    request: PlanRequest, student: PlannedModel, teacher: PlannedModel | None
) -> Distillation | None:
    if request.samples is None:
        return None
    if teacher is None and request.teacher_api is None:
        raise UserError(
            "--samples plans a distillation, which needs a teacher",
            hint="name one with --teacher, or buy its traces with --teacher-api",
        )
    return Distillation(
        student=student,
        teacher=teacher,
        samples=request.samples,
        prompt_tokens=request.prompt_tokens,
        answer_tokens=request.answer_tokens,
        epochs=request.epochs,
        attempts=request.attempts,
        method=one_of(DistillationMethod, request.method, "method"),
    )


def _hardware(request: PlanRequest, prices: Prices) -> Hardware:
    """Device, utilisations and the price of an hour: the user's, else the middle one that is known."""
    known = this_device() if request.device == "this" else device(request.device)
    if request.peak is None and known.peaks:
        utilisation_of(known, dtype=request.dtype, mfu=request.mfu, basis="")  # says which formats are known
    offer = prices.middle_gpu_hour(known.name, request.provider) if request.usd_per_hour is None else None
    offers = prices.gpu_hour(known.name, request.provider)
    spread = f"; {len(offers)} offers from ${offers[0].usd:,.2f} to ${offers[-1].usd:,.2f}" if offers else ""
    basis = "as given" if request.usd_per_hour is not None else f"{offer}{spread}" if offer else None
    return Hardware(
        device=known,
        num_devices=request.devices,
        train=_utilisation(request, known, request.mfu, TRAIN_MFU_BASIS),
        generate=_utilisation(request, known, request.generate_mfu, GENERATE_MFU_BASIS),
        usd_per_hour=request.usd_per_hour if offer is None else offer.usd,
        price_basis=basis,
        usd_per_kilowatt_hour=request.usd_per_kwh or prices.electricity_usd_per_kilowatt_hour,
    )


def _utilisation(request: PlanRequest, device: Device, mfu: float, basis: str) -> Utilisation | None:
    peak = request.peak or device.peak_flops_per_second(request.dtype)
    if peak is None:
        return None
    of = "peak as given" if request.peak else f"{request.dtype}, dense"
    return Utilisation(mfu=mfu, peak_flops_per_second=peak, basis=f"{of}; an assumption: {basis}")


def _fit(
    request: PlanRequest, student: PlannedModel, distillation: Distillation | None, device: Device
) -> Fit:
    """A live teacher sits beside the student; one whose traces or logits are on disk does not."""
    length = distillation.sample_tokens if distillation else PRETRAIN_SEQUENCE_TOKENS
    setup = TrainingSetup(
        precision=precision(request.precision),
        sequence_tokens=request.sequence_tokens or round(length),
        sequences=request.sequences,
        recompute=one_of(Recompute, request.recompute, "recompute"),
        sharding=one_of(Sharding, request.sharding, "sharding"),
        num_devices=request.devices,
    )
    is_live = distillation is not None and distillation.method in (
        DistillationMethod.LIVE_LOGITS,
        DistillationMethod.ON_POLICY,
    )
    teacher = distillation.teacher if distillation and is_live else None
    return fit(student, setup, device, teacher=teacher, teacher_logits=is_live)


def one_of(kind: type[Member], given: str, option: str) -> Member:
    """The member of an enumeration by its value; a UserError with the possible ones."""
    values = [str(member) for member in kind]
    if given not in values:
        raise UserError(
            f"unknown {option} `{given}` ({option}: {', '.join(values)})", hint=did_you_mean(given, values)
        )
    return kind(given)
