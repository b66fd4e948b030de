"""Adds up compute within a boundary, and divides it only where both sides were obtained in the same way.

What a model took has four parts, and a boundary says which of them count:
  student     training the model itself, from the weights that it starts from: its pruning and the replies that it
              writes to learn from (on-policy) included
  generation  what the teacher did for it: traces written (rejected ones too) and logits computed
  teacher     the teacher's own making, shared by k students
  base        the making of the weights that it started from
Work that stands behind both teacher and base, as where a student is pruned from its teacher, was done once, and
counts once within `everything`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from stillmark.errors import UserError
from stillmark.records import LedgerEntry, Method


class Part(StrEnum):
    STUDENT = "student"
    GENERATION = "generation"
    TEACHER = "teacher"
    BASE = "base"


class Boundary(StrEnum):
    STUDENT = "student"
    GENERATION = "generation"
    TEACHER = "teacher"
    BASE = "base"
    EVERYTHING = "everything"


PARTS_WITHIN: dict[Boundary, tuple[Part, ...]] = {
    Boundary.STUDENT: (Part.STUDENT,),
    Boundary.GENERATION: (Part.STUDENT, Part.GENERATION),
    Boundary.TEACHER: (Part.STUDENT, Part.GENERATION, Part.TEACHER),
    Boundary.BASE: (Part.STUDENT, Part.GENERATION, Part.BASE),
    Boundary.EVERYTHING: tuple(Part),
}

BOUNDARY_WORDS = {
    Boundary.STUDENT: "training the model itself, pruning and its own replies to learn from included",
    Boundary.GENERATION: "and the teacher's work for it: traces, rejected ones too, and logits",
    Boundary.TEACHER: "and the making of the teacher, shared by k students",
    Boundary.BASE: "training, the teacher's work for it, and the making of the weights it started from",
    Boundary.EVERYTHING: "all of these",
}


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Compute of one or more entries. A sum with an unknown part is unknown."""

    flops: float | None
    seconds: float | None  # wall, of one process
    cpu_seconds: float | None
    tokens: int | None
    methods: frozenset[Method]  # by which the FLOPs were obtained
    joules: float | None = None

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            flops=added(self.flops, other.flops),
            seconds=added(self.seconds, other.seconds),
            cpu_seconds=added(self.cpu_seconds, other.cpu_seconds),
            tokens=None if self.tokens is None or other.tokens is None else self.tokens + other.tokens,
            methods=self.methods | other.methods,
            joules=added(self.joules, other.joules),
        )

    def share(self, share: float) -> "Amount":
        """The part that falls to one of several that use it; the tokens are not divided."""

        def part(value: float | None) -> float | None:
            return None if value is None else value * share

        return Amount(flops=part(self.flops), seconds=part(self.seconds), cpu_seconds=part(self.cpu_seconds),
                      tokens=self.tokens, methods=self.methods, joules=part(self.joules))  # fmt: skip


NOTHING = Amount(flops=0, seconds=0.0, cpu_seconds=0.0, tokens=0, methods=frozenset(), joules=0.0)


def added(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second


def total(entries: Iterable[LedgerEntry]) -> Amount:
    """The sum of ledger entries."""
    amount = NOTHING
    for entry in entries:
        amount += Amount(flops=entry.flops, seconds=entry.seconds, cpu_seconds=entry.cpu_seconds,
                         tokens=entry.tokens, methods=frozenset({entry.flops_method}),
                         joules=entry.joules)  # fmt: skip
    return amount


def within(boundary: Boundary, parts: Mapping[Part, Amount]) -> Amount:
    """What a boundary takes in. A part that is not there took nothing."""
    amount = NOTHING
    for part in PARTS_WITHIN[boundary]:
        amount += parts.get(part, NOTHING)
    return amount


@dataclass(frozen=True, kw_only=True)
class ComputeRatio:
    """A ratio of two amounts, never without its boundary and methods."""

    value: float
    boundary: Boundary
    methods: tuple[frozenset[Method], frozenset[Method]]

    @property
    def label(self) -> str:
        above, below = (" and ".join(sorted(methods)) for methods in self.methods)
        how = above if above == below else f"MIXED METHODS: {above} over {below}"
        return f"{self.value:,.4g}x ({self.boundary}; {how})"


def ratio(
    above: Amount, below: Amount, boundary: Boundary, *, allow_mixed: bool = False
) -> ComputeRatio | None:
    """above / below in FLOPs; None where a side is unknown or nothing.

    Raises UserError where the sides' methods differ, unless asked for with `allow_mixed`; the label then says so.
    """
    if above.methods != below.methods and not allow_mixed:
        sides = " over ".join(" and ".join(sorted(side.methods)) or "nothing" for side in (above, below))
        raise UserError(
            f"this ratio would be of {sides}: two ways of counting, whose difference it would hold too",
            hint="obtain both sides in one way, or ask for the mixed ratio, which is then labelled",
        )
    if above.flops is None or not below.flops:
        return None
    return ComputeRatio(
        value=above.flops / below.flops, boundary=boundary, methods=(above.methods, below.methods)
    )
