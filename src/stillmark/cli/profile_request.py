"""From the options of `stillmark profile` to arms, workloads and rules."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillmark.compute.hardware import this_device
from stillmark.errors import UserError
from stillmark.profiling.constraints import Constraints, bytes_of, check_constraints
from stillmark.profiling.engines import checked_engine
from stillmark.profiling.journal import Journal
from stillmark.profiling.pace import PaceProbe
from stillmark.profiling.power_cap import gpu_power_capped, power_capped
from stillmark.profiling.procedure import profile
from stillmark.profiling.recorded import recorded_lengths
from stillmark.profiling.roofline import Ceilings, measured_ceilings
from stillmark.profiling.session import Arm, Rules, Session
from stillmark.profiling.summary import SettingSummary, summarise
from stillmark.profiling.workload import EngineSpec, Workload
from stillmark.provenance import num_cores


@dataclass(frozen=True, kw_only=True)
class ProfileRequest:
    """The options, as given."""

    model: list[str]
    engine: str | None = None
    threads: str | None = None
    prompt_tokens: str = "256"
    new_tokens: int = 64
    batch: str = "1"
    context: int | None = None
    cores: str | None = None
    memory: str | None = None
    quantise: str | None = None
    prompts: Path | None = None
    max_new_tokens: int = 256
    budget: float = 22
    model_name: str | None = None
    journal: Path | None = None
    lengths_from: str | None = None
    answers: int = 30
    scenario: str | None = None
    seconds: float = 60
    rate: float | None = None
    latency_bound: float = 10
    power_cap: float | None = None
    gpu_power_cap: float | None = None


def run_request(
    request: ProfileRequest, progress: Callable[[str], None]
) -> tuple[Session, list[SettingSummary], dict[str, Ceilings]]:
    """Measure what was asked; the ceilings last, so that their heat is not in the runs."""
    workloads = workloads_of(request)
    prompts = read_prompts(request.prompts) if request.prompts else []
    lengths = lengths_of(request, progress)
    arms = arms_of(request, [*workloads, *lengths], prompts)
    with power_capped(request.power_cap), gpu_power_capped(request.gpu_power_cap):
        session = profile(
            arms,
            workloads,
            Rules(budget_seconds=request.budget),
            device=this_device(),
            prompts=prompts,
            max_new_tokens=request.max_new_tokens,
            lengths=lengths,
            open_probe=None if request.power_cap else PaceProbe,  # what a cap does is no drift
            journal=Journal(request.journal) if request.journal else None,
            progress=progress,
        )
    ceilings = {}
    for arm in arms:
        if arm.spec.engine != "endpoint" and arm.label in session.facts:
            progress("roofline probe")
            ceilings[arm.label] = measured_ceilings(arm.spec.threads or num_cores())
    return session, summarise(session, ceilings), ceilings


def workloads_of(request: ProfileRequest) -> list[Workload]:
    lengths, batches = numbers(request.prompt_tokens, "--prompt-tokens"), numbers(request.batch, "--batch")
    return [
        Workload(prompt_tokens=length, new_tokens=request.new_tokens, batch=size)
        for length, size in itertools.product(lengths, batches)
    ]


def lengths_of(request: ProfileRequest, progress: Callable[[str], None]) -> list[Workload]:
    """Lengths of answers that an evaluation recorded; none where none are asked for."""
    if request.lengths_from is None:
        return []
    recorded = recorded_lengths(request.lengths_from)
    progress(str(recorded))
    return recorded.drawn(request.answers)


def arms_of(request: ProfileRequest, workloads: list[Workload], prompts: Sequence[str]) -> list[Arm]:
    """Models times thread counts times formats (as given, then each of `--quantise`), each with a name of its own."""
    limits = Constraints(
        cores=tuple(numbers(request.cores, "--cores", least=0)) if request.cores else None,
        memory_bytes=bytes_of(request.memory) if request.memory else None,
    )
    needed = max(workload.context_tokens for workload in workloads)
    context = request.context or max(needed, request.max_new_tokens + 1024 if prompts else 0)
    if context < needed:
        raise UserError(
            f"a context of {context} tokens does not hold {needed}", hint=f"use --context {needed}"
        )
    default_threads = [len(limits.cores) if limits.cores else num_cores()]
    counts = numbers(request.threads, "--threads") if request.threads else default_threads
    arms = []
    formats = [None, *(request.quantise.split(",") if request.quantise else [])]
    for model, count, format in itertools.product(request.model, counts, formats):
        engine = checked_engine(request.engine, model)
        if format is not None and engine != "transformers":
            raise UserError(f"--quantise {format}: rounds a model in transformers, and `{model}` goes to {engine}",
                            hint="`stillmark quantise` writes a file for other engines")  # fmt: skip
        options = {"model_name": request.model_name} if request.model_name else {}
        options |= {"quantise": format} if format else {}
        spec = EngineSpec(
            engine=engine,
            model=model,
            threads=None if engine == "endpoint" else count,
            context_tokens=context,
            batch=max(workload.batch for workload in workloads),
            options=options,
        )
        check_constraints(limits, threads=spec.threads)
        name = f"{Path(model).name or model}, {spec.label}" if len(request.model) > 1 else None
        name = f"{name or spec.label}, {format}" if format else name
        arms.append(Arm(spec=spec, constraints=limits, name=name))
    return arms


def read_prompts(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"no file of prompts at {path}")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def numbers(text: str, option: str, least: int = 1) -> list[int]:
    """`1,2` is [1, 2]."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UserError(
            f"{option} {text} is not a list of numbers", hint=f"for example {option} 1,2"
        ) from error
    if min(values) < least:
        raise UserError(f"{option} {text}: {least} is the least that is possible")
    return list(dict.fromkeys(values))
