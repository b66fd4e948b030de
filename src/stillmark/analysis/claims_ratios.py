"""A ratio of two amounts with the method of both sides; one whose sides were counted in different ways says so."""

from dataclasses import dataclass

from stillmark.analysis.claims_inputs import Evidence
from stillmark.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a ratio: the amount, its unit, and how it was obtained."""

    amount: float
    unit: str
    method: str
    evidence: tuple[Evidence, ...] = ()
    detail: str = ""
    """The method in full, where a part of the amount was had in another way."""


@dataclass(frozen=True, kw_only=True)
class LabelledRatio:
    """A ratio with the method of both sides; `is_mixed` where these differ."""

    label: str
    vanilla: Side
    distilled: Side
    ratio: float
    is_mixed: bool
    note: str = ""


def ratio_of(
    label: str, vanilla: Side, distilled: Side, *, allow_mixed: bool, note: str = ""
) -> LabelledRatio:
    """One side over the other; a `UserError` where they were counted in different ways, unless asked for."""
    is_mixed = vanilla.method != distilled.method
    if vanilla.unit != distilled.unit:
        raise UserError(f"{label}: {vanilla.unit} over {distilled.unit} is not a ratio")
    if is_mixed and not allow_mixed:
        raise UserError(
            f"{label}: the sides are counted in different ways: {vanilla.method} over {distilled.method}",
            "`published: {allow_mixed_methods: true}` shows the ratio with that label",
        )
    return LabelledRatio(
        label=label,
        vanilla=vanilla,
        distilled=distilled,
        ratio=vanilla.amount / distilled.amount,
        is_mixed=is_mixed,
        note=note,
    )
