"""What a check of records says, and whom it is about."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from stillmark.plan import Job

Outcome = Literal["agrees", "differs", "not checked"]
MAX_SHOWN = 5  # differences named one by one


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was worked out again, on how many cases, and where it came out otherwise."""

    name: str
    outcome: Outcome
    num_checked: int
    details: tuple[str, ...] = ()
    is_expected: bool = False  # of "not checked": no archive can hold what this would need


def checked(name: str, num_checked: int, differences: Iterable[str]) -> Check:
    """`agrees` where there is no difference; the first few are named."""
    found = list(differences)
    shown = found[:MAX_SHOWN] + ([f"and {len(found) - MAX_SHOWN:,} more"] if len(found) > MAX_SHOWN else [])
    outcome: Outcome = "differs" if found else "agrees"
    return Check(name=name, outcome=outcome, num_checked=num_checked, details=tuple(shown))


def label(job: Job) -> str:
    at = "" if job.checkpoint is None else f" checkpoint {job.checkpoint}"
    return f"{job.stage} {job.arm} seed {job.seed}{at}"
