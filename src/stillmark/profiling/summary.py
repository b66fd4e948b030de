"""A session as figures: each with its interval, the bound beside it, and the verdict on the setting."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from stillmark.compute.inference import work_of
from stillmark.profiling import metrics, power
from stillmark.profiling.pace import PaceRange
from stillmark.profiling.quantiles import median_interval, outliers, quantile, upper_bound
from stillmark.profiling.roofline import Ceilings
from stillmark.profiling.session import Session, Setting
from stillmark.profiling.validity import broken_rules, foreign_cores
from stillmark.profiling.workload import ModelFacts, all_of
from stillmark.provenance import provenance


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One metric of one setting; the interval is None for counted and single numbers.

    It begins as the interval of the session's median (95% from six repetitions on), and is widened by how far this
    machine's pace moved from earlier sessions to this one (`PaceRange`). Bounds of percentiles are not.
    """

    value: float
    low: float | None = None
    high: float | None = None
    num_samples: int = 1
    num_outliers: int = 0
    method: str = "measured"


@dataclass(frozen=True, kw_only=True)
class SettingSummary:
    """One row of the table."""

    arm: str
    workload: str
    status: str
    """VALID, INVALID, does not fit, failed."""
    reasons: tuple[str, ...]
    failure_detail: str
    ended_because: str | None
    num_warmups: int
    num_repetitions: int
    num_resumed: int
    foreign_cores: float | None
    figures: dict[str, Figure]
    """By the name in definitions.METRICS; a metric that is not known is not there."""
    samples: dict[str, list[float]]
    """Each repetition's value, outliers and all."""
    pace: PaceRange | None
    """What the intervals were widened by; None: of this session alone."""
    energy: power.Energy
    engine_ratio: dict[str, float]
    """Our prefill and decode seconds over the engine's own, where it states them."""


def summarise(session: Session, ceilings: dict[str, Ceilings]) -> list[SettingSummary]:
    """One summary a setting, in the order of arms and workloads."""
    return [summary_of(setting, session, ceilings.get(setting.arm.label)) for setting in session.settings]


def summary_of(setting: Setting, session: Session, ceilings: Ceilings | None) -> SettingSummary:
    label = setting.arm.label
    samples = metrics.values_of(setting.batches) if setting.repetitions else {}
    reasons = broken_rules(setting, session, os.cpu_count() or 1)
    status = setting.ended_because if setting.failure is not None else ("INVALID" if reasons else "VALID")
    energy = power.total([repetition.energy for repetition in setting.repetitions], session.idle_watts)
    pace = session.pace_of(setting)
    figures = {name: timed_figure(name, values, pace) for name, values in samples.items()}
    figures |= gap_figures(setting) | energy_figures(setting, energy) | memory_figures(setting, session)
    facts = session.facts.get(label)
    if facts is not None:
        figures |= bound_figures(setting, facts, ceilings, figures)
    return SettingSummary(
        arm=label,
        workload=setting.workload.label,
        status=status or "failed",
        reasons=tuple(reasons),
        failure_detail=setting.failure_detail,
        ended_because=setting.ended_because,
        num_warmups=len(setting.warmups),
        num_repetitions=len(setting.repetitions),
        num_resumed=setting.num_resumed,
        foreign_cores=foreign_cores(setting),
        figures=figures,
        samples=samples,
        pace=pace,
        energy=energy,
        engine_ratio=engine_ratio(setting),
    )


def timed_figure(name: str, values: list[float], pace: PaceRange | None) -> Figure:
    interval = median_interval(values)
    assert interval is not None
    low, high = interval.low, interval.high
    if pace is not None:
        low, high = pace.widened(interval, is_rate=name.endswith("_per_second"))
    return Figure(value=interval.value, low=low, high=high, num_samples=len(values),
                  num_outliers=len(outliers(values)))  # fmt: skip


def gap_figures(setting: Setting) -> dict[str, Figure]:
    """Percentiles of the time between tokens; a high one only where there are samples enough to bound it."""
    gaps = [gap for line in all_of(setting.batches) for gap in metrics.gaps_seconds(line)]
    values = {
        "tpot_p50_seconds": quantile(gaps, 0.5),
        "tpot_p90_seconds": upper_bound(gaps, 0.90),
        "tpot_p99_seconds": upper_bound(gaps, 0.99),
    }
    return {
        name: Figure(value=value, num_samples=len(gaps))
        for name, value in values.items()
        if value is not None
    }


def energy_figures(setting: Setting, energy: power.Energy) -> dict[str, Figure]:
    lines = all_of(setting.batches)
    tokens = sum(line.new_tokens for line in lines)
    if energy.joules is None or not tokens:
        return {}
    method = energy.method or "estimated"
    found = {
        "joules_per_token": Figure(value=energy.joules / tokens, method=method),
        "joules_per_answer": Figure(value=energy.joules / len(lines), method=method),
    }
    if energy.net_joules is not None:
        found["net_joules_per_token"] = Figure(value=energy.net_joules / tokens, method=method)
    return found


def memory_figures(setting: Setting, session: Session) -> dict[str, Figure]:
    label = setting.arm.label
    facts, memory = session.facts.get(label), session.memory.get(label)
    spec = setting.arm.spec
    if spec.engine == "endpoint":
        return {}  # the server's memory is its own; the client's would pass for it
    values = {
        "load_seconds": (session.load_seconds.get(label), "measured"),
        "peak_memory_bytes": (memory.peak_bytes if memory else None, "measured"),
        "model_memory_bytes": (memory.added_bytes if memory else None, "measured"),
        "cache_bytes": (facts.cache_bytes(spec.context_tokens, spec.batch) if facts else None, "counted"),
        "file_bytes": (facts.file_bytes if facts else None, "measured"),
    }
    return {
        name: Figure(value=float(value), method=method)
        for name, (value, method) in values.items()
        if value is not None
    }


def bound_figures(
    setting: Setting, facts: ModelFacts, ceilings: Ceilings | None, figures: dict[str, Figure]
) -> dict[str, Figure]:
    """What the roofline allows, how much of it was reached, and the FLOPs by formula."""
    workload, work = setting.workload, work_of(facts, setting.workload)
    prompt_tokens, batch = workload.prompt_tokens * workload.batch, workload.batch
    found: dict[str, tuple[float, str]] = {}
    if work.prefill_flops is not None:
        found["prefill_flops_per_token"] = (work.prefill_flops / prompt_tokens, "counted")
    if work.decode_flops_per_step is not None:
        found["decode_flops_per_token"] = (work.decode_flops_per_step / batch, "counted")
    if ceilings is not None:
        prefill = ceilings.bound_seconds(work.prefill_flops, work.prefill_bytes)
        decode = ceilings.bound_seconds(work.decode_flops_per_step, work.decode_bytes_per_step)
        if prefill:
            found["prefill_bound_tokens_per_second"] = (prompt_tokens / prefill, "estimated")
        if decode:
            found["decode_bound_tokens_per_second"] = (batch / decode, "estimated")
        ttft, rate = figures.get("ttft_seconds"), figures.get("decode_tokens_per_second")
        if ttft and work.prefill_flops and ceilings.flops_per_second:
            found["prefill_mfu"] = (work.prefill_flops / ttft.value / ceilings.flops_per_second, "measured")
        if rate and work.decode_bytes_per_step and ceilings.bytes_per_second:
            read = work.decode_bytes_per_step * rate.value / batch
            found["decode_mbu"] = (read / ceilings.bytes_per_second, "measured")
    return {name: Figure(value=value, method=method) for name, (value, method) in found.items()}


def engine_ratio(setting: Setting) -> dict[str, float]:
    """Medians of our time over the engine's own for the same work: near 1, or the harness is in the way."""
    prefill, decode = [], []
    for line in all_of(setting.batches):
        if line.engine_prefill_seconds and line.token_seconds:
            prefill.append(line.token_seconds[0] / line.engine_prefill_seconds)
        if line.engine_decode_seconds and line.new_tokens > 1:
            decode.append((line.token_seconds[-1] - line.token_seconds[0]) / line.engine_decode_seconds)
    medians = {"prefill": quantile(prefill, 0.5), "decode": quantile(decode, 0.5)}
    return {name: value for name, value in medians.items() if value is not None}


def as_dict(
    session: Session, summaries: list[SettingSummary], ceilings: dict[str, Ceilings]
) -> dict[str, Any]:
    """All of it for JSON: samples, machine, rules, provenance."""
    return {
        "began_at": session.began_at,
        "provenance": provenance(),
        "device": session.device.name if session.device else None,
        "rules": asdict(session.rules),
        "before": asdict(session.before),
        "after": asdict(session.after),
        "idle_watts": session.idle_watts,
        "ceilings": {label: asdict(ceiling) for label, ceiling in ceilings.items()},
        "models": {label: asdict(facts) for label, facts in session.facts.items()},
        "arms": {
            s.arm.label: {
                "spec": asdict(s.arm.spec),
                "constraints": s.arm.constraints.as_dict(),
                "memory_cap_kind": s.arm.constraints.memory_cap_kind,
            }
            for s in session.settings
        },
        "settings": [
            asdict(summary) | {"energy": asdict(summary.energy) | {"tier": summary.energy.tier}}
            for summary in summaries
        ],
        "answers": {label: [asdict(line) for line in lines] for label, lines in session.answers.items()},
        "at_lengths": {
            label: [asdict(line) for line in lines] for label, lines in session.at_lengths.items()
        },
    }
