"""A study's arms through the profiling procedure: each model in each engine and format, and what was seen, as records.

All arms, formats and memory caps are measured interleaved, by the rules of procedure.py: each has a process of its own
with its model loaded for as long as the session lasts. Where they would not fit into the free memory together, they are
split over several sessions, at random, and each record says which it is from. Each repetition goes into a journal, so a
run that was killed goes on. What cannot be had ends as a record with its reason: a model that does not fit under a cap,
a format that cannot be written from it.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillmark.compute.hardware import this_device
from stillmark.errors import UserError
from stillmark.profiling.constraints import Constraints
from stillmark.profiling.definitions import DEFINITIONS
from stillmark.profiling.journal import Journal
from stillmark.profiling.machine import available_memory_bytes
from stillmark.profiling.procedure import profile
from stillmark.profiling.quantise import quantise
from stillmark.profiling.remote import EngineFailedError, RemoteEngine
from stillmark.profiling.roofline import measured_ceilings
from stillmark.profiling.session import Arm, Rules
from stillmark.profiling.summary import SettingSummary, summarise
from stillmark.profiling.workload import EngineSpec, Workload
from stillmark.records import Method, ProfileRecord, canonical

UNITS = {definition.name: definition.unit for definition in DEFINITIONS}
MEMORY_SHARE = 0.7  # of the free memory, for the engines of one session
PROCESS_BYTES = {
    "transformers": 700e6,
    "llamacpp": 200e6,
}  # of an engine with its libraries and work space, roughly
WEIGHTS_FACTOR = 2.0  # a model is read and then made
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
    """What a profile job is told of one arm."""

    name: str
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
    """One engine and format of an arm: its model, or why there is none."""

    request: ArmRequest
    engine: str
    format: str
    model: str = ""
    failure: str | None = None
    arms: dict[str, int | None] = field(default_factory=dict)
    """Label in the procedure -> memory cap."""

    @property
    def needed_bytes(self) -> float:
        """Memory that its engine may take, roughly and rather too much; a cap is a limit on it."""
        path = Path(self.model)
        files = [path] if path.is_file() else list(path.glob("*.safetensors")) if path.is_dir() else []
        weights = WEIGHTS_FACTOR * sum(file.stat().st_size for file in files)
        return len(self.arms) * (PROCESS_BYTES.get(self.engine, 0.0) + weights)


def profile_arms(
    requests: Sequence[ArmRequest],
    job_key: str,
    scratch: Path,
    journal: Journal | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[ProfileRecord]:
    """All records of the arms. Quantised files are written to `scratch`."""
    variants = [made(request, engine, format, scratch / request.name) for request in requests
                for engine, formats in request.engines.items() for format in formats]  # fmt: skip
    records = []
    for number, group in enumerate(sessions_of(variants, available_memory_bytes())):
        summaries = measured(group, journal, progress)
        for variant in group:
            for label, cap in variant.arms.items():
                records += records_of(variant, job_key, number, cap, summaries.get(label))
    return records


def sessions_of(variants: Sequence[Variant], free_bytes: int | None) -> list[list[Variant]]:
    """All in one, as long as their engines fit into the free memory together; else as few as will do, at random.

    Where the system does not say what is free, all are put into one.
    """
    room = float("inf") if free_bytes is None else MEMORY_SHARE * free_bytes
    mixed = list(variants)
    if sum(variant.needed_bytes for variant in mixed) > room:
        random.Random(0).shuffle(mixed)
    groups: list[list[Variant]] = []
    left = 0.0
    for variant in mixed:
        if not groups or variant.needed_bytes > left:
            groups.append([])
            left = room
        groups[-1].append(variant)
        left -= variant.needed_bytes
    return groups


def measured(
    variants: Sequence[Variant], journal: Journal | None, progress: Callable[[str], None]
) -> dict[str, SettingSummary]:
    """One session, by label; with utilisations against this machine's ceilings, which are probed last: their heat
    is not in the runs.
    """
    arms = [arm for variant in variants if variant.failure is None for arm in arms_of(variant)]
    if not arms:
        return {}
    one = variants[0].request
    rules = Rules(budget_seconds=one.budget_seconds, min_seconds=min(3.0, one.budget_seconds))
    session = profile(arms, [], rules, device=this_device(), journal=journal, open_engine=opened,
                      progress=progress)  # fmt: skip
    progress("roofline probe")
    ceilings = measured_ceilings(one.threads)
    return {found.arm: found for found in summarise(session, dict.fromkeys(session.facts, ceilings))}


def made(request: ArmRequest, engine: str, format: str, scratch: Path) -> Variant:
    """The model as the engine reads it. What cannot be written is a finding about the format, not the end."""
    variant = Variant(request=request, engine=engine, format=format, model=str(request.folder))
    if engine == "llamacpp":
        target = scratch / f"{format}.gguf"
        scratch.mkdir(parents=True, exist_ok=True)
        try:
            quantise(request.folder, target, format, is_by_ids=True)
        except UserError as error:
            variant.failure = f"cannot be written as {format}: {error.message}"
        variant.model = str(target)
    for cap in request.cap_bytes:
        variant.arms[f"{request.name}, {engine} {format}" + ("" if cap is None else f" within {cap}")] = cap
    return variant


def arms_of(variant: Variant) -> list[Arm]:
    request = variant.request
    spec = EngineSpec(
        engine=variant.engine,
        model=variant.model,
        threads=request.threads,
        context_tokens=request.workload.context_tokens,
        batch=request.workload.batch,
        options={"dtype": variant.format} if variant.engine == "transformers" else {},
    )
    return [Arm(spec=spec, constraints=Constraints(memory_bytes=cap), name=label, workload=request.workload)
            for label, cap in variant.arms.items()]  # fmt: skip


def opened(spec: EngineSpec, constraints: Constraints) -> RemoteEngine:
    """An engine; one that refuses its model ends its own setting and not the study."""
    try:
        return RemoteEngine(spec, constraints)
    except UserError as error:
        raise EngineFailedError(str(error)) from error


def records_of(
    variant: Variant, job_key: str, session: int, cap: int | None, summary: SettingSummary | None
) -> list[ProfileRecord]:
    """One record a figure, and one with its reason for each that is wanted and not known."""
    request, workload = variant.request, variant.request.workload
    setting = canonical(
        {
            "arm": request.name,
            "session": session,
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
