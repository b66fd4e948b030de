"""A study's arm through the profiling procedure: its model in each engine and format, and what was seen, as records.

Formats and memory caps of one arm are measured interleaved, by the rules of procedure.py. What cannot be had ends as
a record with its reason: a model that does not fit under a cap, a format that cannot be written from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillmark.compute.hardware import this_device
from stillmark.errors import UserError
from stillmark.profiling.constraints import Constraints
from stillmark.profiling.definitions import DEFINITIONS
from stillmark.profiling.procedure import profile
from stillmark.profiling.quantise import quantise
from stillmark.profiling.remote import EngineFailedError, RemoteEngine
from stillmark.profiling.roofline import measured_ceilings
from stillmark.profiling.session import Arm, Rules, Session
from stillmark.profiling.summary import SettingSummary, summarise
from stillmark.profiling.workload import EngineSpec, Workload
from stillmark.records import Method, ProfileRecord, canonical

UNITS = {definition.name: definition.unit for definition in DEFINITIONS}
NO_SOURCE = "this machine has no energy counter that can be read, and no design power is known for it"
# Asked of every setting: where one is not known, the record says why.
WANTED = {
    "ttft_seconds": "not every repetition wrote a token",
    "tpot_seconds": "not every repetition wrote two tokens",
    "end_to_end_seconds": "nothing was timed",
    "peak_memory_bytes": "the system does not say it (no /proc)",
    "model_memory_bytes": "the system does not say it (no /proc)",
    "cache_bytes": "no formula is known for this architecture",
    "file_bytes": "the size of the weight files is not known",
    "joules_per_answer": NO_SOURCE,
    "prefill_mfu": "this machine's ceiling could not be measured, or no formula is known for this architecture",
    "decode_mbu": "this machine's ceiling could not be measured, or no formula is known for this architecture",
}


@dataclass(frozen=True, kw_only=True)
class ArmRequest:
    """What one profile job is told."""

    folder: Path
    """The model's Hugging Face directory."""
    engines: dict[str, list[str]]
    workload: Workload
    lengths: str
    """Where the workload's lengths are from, in words."""
    threads: int
    cap_bytes: list[int | None]
    budget_seconds: float


@dataclass(kw_only=True)
class Variant:
    """One engine and format of the arm: its model, or why there is none."""

    engine: str
    format: str
    model: str = ""
    failure: str | None = None
    arms: dict[str, int | None] = field(default_factory=dict)
    """Label in the procedure -> memory cap."""


def profile_arm(
    request: ArmRequest, job_key: str, scratch: Path, progress: Callable[[str], None] = lambda message: None
) -> list[ProfileRecord]:
    """All records of the arm. Quantised files are written to `scratch`."""
    variants = [made(request, engine, format, scratch)
                for engine, formats in request.engines.items() for format in formats]  # fmt: skip
    arms = [arm for variant in variants if variant.failure is None for arm in arms_of(request, variant)]
    summaries: dict[str, SettingSummary] = {}
    if arms:
        rules = Rules(budget_seconds=request.budget_seconds, min_seconds=min(3.0, request.budget_seconds))
        session = profile(arms, [request.workload], rules, device=this_device(), open_engine=opened,
                          progress=progress)  # fmt: skip
        summaries = {summary.arm: summary for summary in summaries_of(session, request.threads, progress)}
    records = []
    for variant in variants:
        for label, cap in variant.arms.items():
            records += records_of(request, job_key, variant, cap, summaries.get(label))
    return records


def made(request: ArmRequest, engine: str, format: str, scratch: Path) -> Variant:
    """The model as the engine reads it. What cannot be written is a finding about the format, not the end."""
    variant = Variant(engine=engine, format=format, model=str(request.folder))
    if engine == "llamacpp":
        target = scratch / f"{format}.gguf"
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            quantise(request.folder, target, format)
        except UserError as error:
            variant.failure = f"cannot be written as {format}: {error.message}"
        variant.model = str(target)
    for cap in request.cap_bytes:
        variant.arms[f"{engine} {format}" + ("" if cap is None else f" within {cap}")] = cap
    return variant


def arms_of(request: ArmRequest, variant: Variant) -> list[Arm]:
    spec = EngineSpec(
        engine=variant.engine,
        model=variant.model,
        threads=request.threads,
        context_tokens=request.workload.context_tokens,
        batch=request.workload.batch,
        options={"dtype": variant.format} if variant.engine == "transformers" else {},
    )
    return [Arm(spec=spec, constraints=Constraints(memory_bytes=cap), name=label)
            for label, cap in variant.arms.items()]  # fmt: skip


def opened(spec: EngineSpec, constraints: Constraints) -> RemoteEngine:
    """An engine; one that refuses its model ends its own setting and not the study."""
    try:
        return RemoteEngine(spec, constraints)
    except UserError as error:
        raise EngineFailedError(str(error)) from error


def summaries_of(session: Session, threads: int, progress: Callable[[str], None]) -> list[SettingSummary]:
    """With utilisations against this machine's ceilings, which are probed last: their heat is not in the runs."""
    progress("roofline probe")
    ceilings = measured_ceilings(threads)
    return summarise(session, dict.fromkeys(session.facts, ceilings))


def records_of(
    request: ArmRequest, job_key: str, variant: Variant, cap: int | None, summary: SettingSummary | None
) -> list[ProfileRecord]:
    """One record a figure, and one with its reason for each that is wanted and not known."""
    workload = request.workload
    setting = canonical(
        {
            "threads": request.threads,
            "prompt_tokens": workload.prompt_tokens,
            "new_tokens": workload.new_tokens,
            "batch": workload.batch,
            "memory_cap_bytes": cap,
            "lengths": request.lengths,
        }
    )

    def record(metric: str, **values: Any) -> ProfileRecord:
        return ProfileRecord(job_key=job_key, engine=variant.engine, format=variant.format, setting=setting,
                             metric=metric, unit=UNITS[metric], **values)  # fmt: skip

    is_measured = summary is not None and summary.status in ("VALID", "INVALID")
    verdict = summary.status if summary else "failed"
    reasons = "; ".join(summary.reasons) if summary else (variant.failure or "")
    figures = summary.figures if summary and is_measured else {}
    rows = [
        record(name, value=figure.value, low=figure.low, high=figure.high, method=Method(figure.method),
               verdict=verdict, reason=reasons or None)
        for name, figure in figures.items()
    ]  # fmt: skip
    rows += [
        record(name, value=None, low=None, high=None, method=Method.MEASURED, verdict=verdict,
               reason=why if is_measured else reasons or "not said")
        for name, why in WANTED.items() if name not in figures
    ]  # fmt: skip
    return rows
