"""Which arm for this device: what is feasible within limits, which of it is best, and why each other fell.

On a device of the table everything is predicted (compute/predictor.py): weights and KV cache (not the engine's own
work space) against 90% of its memory, and the seconds of an answer from its bandwidth and FLOP/s. The slowdown is
that of a valid profile of the same arm, engine and format on the machine of the study, where there is one; else the
roofline, which no engine beats: then too slow is sure, and fast enough is not. On "this machine", that of the
study's profiles, only what was measured counts, and only of a valid run.

    feasible    every limit that was given is known to be kept
    infeasible  one is known to be broken
    unknown     none is known to be broken and one cannot be judged: not feasible, and not passed over

The best is the most accurate of the feasible ones; of equally accurate ones the quickest. The report's device picker
works out the same in the page (tests/report/test_device_page.py holds the two together).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from stillmark.compute.predictor import (
    MEMORY_SHARE,
    Limits,
    Needs,
    Slowdown,
    answer_seconds,
)

THIS_MACHINE = "this machine"
NO_SLOWDOWN = Slowdown()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Limits; None: not asked for."""

    latency_seconds: float | None = None
    """For one answer, from the prompt to its last token."""
    memory_bytes: float | None = None
    """Beside the device's own."""
    accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One arm in one engine and format on the device."""

    arm: str
    engine: str
    format: str
    verdict: str
    reason: str
    """One sentence; empty for one that is feasible."""
    accuracy: float | None
    seconds: float | None
    memory_bytes: float | None
    method: str
    """Of seconds and memory: measured | predicted | predicted bound."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was asked and what was found."""

    device: str
    wanted: Wanted
    rows: tuple[Judged, ...]
    best: Judged | None
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def choose(conclusion: Mapping[str, Any], limits: Limits | None, wanted: Wanted) -> Choice:
    """From a conclusion's `choose` rows. `limits` None: this machine, by what was measured on it."""
    rows = tuple(judged(row, limits, wanted) for row in conclusion.get("choose", []))
    best = best_of(rows)
    device = THIS_MACHINE if limits is None else limits.name
    return Choice(
        device=device, wanted=wanted, rows=rows, best=best, sentence=sentence_of(device, rows, best)
    )


def best_of(rows: tuple[Judged, ...]) -> Judged | None:
    """The most accurate feasible one, then the quickest; one of unknown accuracy cannot be the best."""
    ranked = [row for row in rows if row.verdict == "feasible" and row.accuracy is not None]
    return min(ranked, key=lambda row: (-(row.accuracy or 0.0), _or_last(row.seconds)), default=None)


def judged(row: Mapping[str, Any], limits: Limits | None, wanted: Wanted) -> Judged:
    """One row of the conclusion against all limits."""
    seconds, memory, method, why = on_this_machine(row) if limits is None else on_device(row, limits)
    room = least(
        wanted.memory_bytes, None if limits is None else MEMORY_SHARE * (limits.memory_bytes or 0.0) or None
    )
    faults, unknown = [], []
    if limits is not None and limits.memory_bytes is None and wanted.memory_bytes is None:
        unknown.append(f"the memory of {limits.name} is not known")
    if room is not None:
        if memory is None:
            unknown.append(why["memory"])
        elif memory > room:
            faults.append(f"needs {gibibytes(memory)}, has {gibibytes(room)}")
    if wanted.latency_seconds is not None:
        if seconds is None:
            unknown.append(why["seconds"])
        elif seconds > wanted.latency_seconds:
            bound = "at least " if method == "predicted bound" else ""
            faults.append(f"takes {bound}{seconds:.3g} s an answer, may take {wanted.latency_seconds:.3g} s")
        elif method == "predicted bound":
            unknown.append(f"{seconds:.3g} s an answer is the roofline's bound, which no engine beats, and no valid "
                           "profile says how near this one comes")  # fmt: skip
    accuracy = row["accuracy"]["value"] if row["accuracy"] else None
    if wanted.accuracy is not None:
        if accuracy is None:
            unknown.append(row["accuracy_reason"])
        elif accuracy < wanted.accuracy:
            faults.append(f"is right on {100 * accuracy:.1f}%, wanted {100 * wanted.accuracy:.1f}%")
    verdict = "infeasible" if faults else "unknown" if unknown else "feasible"
    reason = "; ".join(faults) if faults else f"unknown: not judged: {'; '.join(unknown)}" if unknown else ""
    return Judged(arm=row["arm"], engine=row["engine"], format=row["format"], verdict=verdict, reason=reason,
                  accuracy=accuracy, seconds=seconds, memory_bytes=memory, method=method)  # fmt: skip


Figures = tuple[float | None, float | None, str, dict[str, str]]  # seconds, memory, method, why not


def on_this_machine(row: Mapping[str, Any]) -> Figures:
    """Measured figures; seconds of a run that broke a rule are none."""
    measured = row["measured"]
    if measured is None:
        return (
            None,
            None,
            "measured",
            dict.fromkeys(("seconds", "memory"), "it was not profiled on this machine"),
        )
    seconds, memory = (
        found["value"] if (found := measured[name]) else None for name in ("seconds", "memory_bytes")
    )
    why = {
        "seconds": f"its run is {measured['verdict']} ({measured['reason']})",
        "memory": f"its memory is not known ({measured['reason'] or 'the system does not say it'})",
    }
    return seconds if measured["verdict"] == "VALID" else None, memory, "measured", why


def on_device(row: Mapping[str, Any], limits: Limits) -> Figures:
    """Predicted figures; a bound where no profile says how far below the ceilings the engine stays."""
    needs = Needs(**row["needs"]) if row["needs"] else None
    slow = row["slowdown"]
    slowdown = NO_SLOWDOWN if slow is None else Slowdown(
        weights=slow["read"], cache=slow["read"], matmul=slow["compute"], attention=slow["compute"]
    )  # fmt: skip
    why = {
        "seconds": f"a ceiling of {limits.name} or the work of the model is not known",
        "memory": "the model's size is not known",
    }
    seconds = None if needs is None else answer_seconds(needs, limits, slowdown)
    method = "predicted bound" if slow is None else "predicted"
    return seconds, needs.memory_bytes if needs else None, method, why


def sentence_of(device: str, rows: tuple[Judged, ...], best: Judged | None) -> str:
    counts = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("infeasible", "unknown")}
    if best is None:
        return (f"Nothing is known to be feasible on {device}: of {len(rows)} candidates {counts['infeasible']} are "
                f"not, {counts['unknown']} could not be judged.")  # fmt: skip
    assert best.accuracy is not None
    took = "of unknown latency" if best.seconds is None else f"{best.seconds:.3g} s an answer ({best.method})"
    left = f" {counts['unknown']} could not be judged." if counts["unknown"] else ""
    return (f"{best.arm} ({best.engine}, {best.format}): right on {100 * best.accuracy:.1f}%, {took}, on {device}."
            f"{left}")  # fmt: skip


def least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


def gibibytes(value: float) -> str:
    return f"{value / 2**30:.3g} GiB"


def _or_last(seconds: float | None) -> float:
    return float("inf") if seconds is None else seconds
