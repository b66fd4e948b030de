"""From the options of `stillmark predict` to a table of predictions."""

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from stillmark.cli.profile_request import numbers
from stillmark.compute.hardware import device
from stillmark.compute.predictor import Limits, Observation, Slowdown, fitted, predict
from stillmark.errors import UserError
from stillmark.profiling.describe import described
from stillmark.profiling.engines import checked_engine
from stillmark.profiling.procedure import profile
from stillmark.profiling.roofline import measured_ceilings
from stillmark.profiling.session import Arm, Rules
from stillmark.profiling.summary import summarise
from stillmark.profiling.workload import EngineSpec, Workload
from stillmark.provenance import num_cores

UNKNOWN = "unknown"
FIT_LENGTHS = (64, 512)  # two, so that weights and cache, matrices and attention can be told apart
FIT_SECONDS = 12.0


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The options, as given."""

    model: str
    devices: tuple[str, ...]
    prompt_tokens: str = "256"
    new_tokens: int = 64
    batch: str = "1"
    dtype: str = "float16"
    fitted_here: bool = False
    threads: int | None = None


def predicted_rows(request: PredictRequest, progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """One row a device and workload, each labelled with how it was obtained."""
    limits = [Limits.of_device(device(name)) for name in request.devices]
    if not limits:
        raise UserError("no device to predict for", hint="for example --device raspberry-pi-5")
    lengths = numbers(request.prompt_tokens, "--prompt-tokens")
    workloads = [
        Workload(prompt_tokens=length, new_tokens=request.new_tokens, batch=size)
        for length, size in itertools.product(lengths, numbers(request.batch, "--batch"))
    ]
    facts = described(request.model, request.dtype)
    slowdown = slowdown_here(request, progress) if request.fitted_here else None
    rows = []
    for limit, workload in itertools.product(limits, workloads):
        guess = predict(facts, workload, limit, slowdown)
        rows.append(
            asdict(guess)
            | {
                "workload": workload.label,
                "is_bound": slowdown is None,
                "weight_format": facts.weight_format,
                "slowdown": asdict(slowdown) if slowdown else None,
            }
        )
    return rows


def slowdown_here(request: PredictRequest, progress: Callable[[str], None]) -> Slowdown:
    """How far the engine stays below this machine's ceilings with this model."""
    threads = request.threads or num_cores()
    workloads = [Workload(prompt_tokens=length, new_tokens=32) for length in FIT_LENGTHS]
    spec = EngineSpec(engine=checked_engine(None, request.model), model=request.model, threads=threads,
                      context_tokens=max(FIT_LENGTHS) + 32)  # fmt: skip
    session = profile([Arm(spec=spec)], workloads, Rules(budget_seconds=FIT_SECONDS), progress=progress)
    summaries = summarise(session, {})
    broken = [reason for summary in summaries if summary.status != "VALID" for reason in summary.reasons]
    for reason in broken:
        progress(f"the measurement here is not valid: {reason}")
    seen = [
        Observation(
            facts=session.facts[summary.arm],
            workload=workload,
            ttft_seconds=summary.figures["ttft_seconds"].value,
            tpot_seconds=summary.figures["tpot_seconds"].value,
        )
        for workload, summary in zip(workloads, summaries, strict=True)
        if "tpot_seconds" in summary.figures
    ]
    progress("roofline probe")
    source = f"fitted to {spec.label} here" + (" (NOT a valid measurement)" if broken else "")
    found = fitted(seen, measured_ceilings(threads).limits, source)
    if found is None:
        raise UserError("no slowdown could be fitted here", hint="leave --fitted-here out for the roofline")
    return found


def print_predicted(model: str, rows: list[dict[str, Any]]) -> None:
    """Bounds are printed as bounds."""
    console = Console(highlight=False)
    table = Table(title=f"PREDICTED, not measured: {model}", title_justify="left")
    for heading in ("device", "in + out", "TTFT, s", "decode, tok/s", "memory, MB", "fits"):
        table.add_column(heading, justify="left" if heading == "device" else "right")
    for row in rows:
        low, high = ("≥ ", "≤ ") if row["is_bound"] else ("", "")
        fits = row["does_fit"]
        table.add_row(
            row["device"],
            row["workload"],
            shown(row["ttft_seconds"], low),
            shown(row["decode_tokens_per_second"], high),
            shown(row["memory_bytes"] and row["memory_bytes"] / 1e6, ""),
            UNKNOWN if fits is None else "yes" if fits else "no",
        )
    console.print(table)
    if any(row["is_bound"] for row in rows):
        console.print("- ≥ and ≤: bounds, not expectations", style="dim")
    for assumption in dict.fromkeys(row["assumption"] for row in rows):
        console.print(f"- {assumption}", style="dim", soft_wrap=True)
    console.print(
        "- memory: weights and KV cache, without the engine's own work space", style="dim", soft_wrap=True
    )


def shown(value: float | None, word: str) -> str:
    return UNKNOWN if value is None else f"{word}{value:,.3g}" if value < 1000 else f"{word}{value:,.0f}"
