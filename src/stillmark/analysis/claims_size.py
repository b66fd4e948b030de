"""The size claim, benchmark by benchmark: is a distilled model on par with vanilla models ten times its size?

Two scores are compared only on one test set (a benchmark key), by one metric (`accuracy` and `pass@1` both
being the mean correctness of one answer), of one variant (base with base, chat with chat) and of released
models. What else differs between the two settings is listed beside the pair. Verdicts, for the student
against the larger model:

    supported     better by more than the tie limit
    tie           within it: the stated margin or, if wider and the number of items n is known, z standard
                  errors of the difference, sqrt(p1 (1 - p1) / n + p2 (1 - p2) / n), p scores as fractions
    contradicted  worse by more than the tie limit
    unknown       no pair of scores can be compared

The binomial standard error is of the choice of items; with several answers a query it is a ceiling. Where
sources disagree every pairing is judged. The verdict is that of two scores from one source, else of the
makers' own figures, else of the first in the registry; `depends` says that another pairing gives another.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from stillmark.analysis.claims_inputs import Evidence, params_evidence
from stillmark.published.registry import Benchmark, Model, Registry, Score
from stillmark.published.settings import Claims

Verdict = Literal["supported", "tie", "contradicted", "unknown"]

VERDICT_WORDS: dict[str, str] = {
    "supported": "ahead",
    "tie": "level",
    "contradicted": "behind",
    "unknown": "not comparable",
}
"""What a verdict says of the distilled model."""

SETTINGS = {
    "source": "source",
    "reported_by": "reported by",
    "harness": "harness",
    "thinking": "thinking",
    "num_fewshot": "examples in the prompt",
    "chain_of_thought": "chain of thought asked for",
    "num_responses": "responses a query",
    "max_new_tokens": "longest answer in tokens",
    "temperature": "temperature",
    "decoding": "decoding",
}
"""Settings that may differ between the two scores of a pair, in words."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One score of the student beside one of the larger model."""

    student: Score
    comparator: Score
    tie_limit: float
    tie_reason: str
    verdict: Verdict
    differs: tuple[str, ...]

    @property
    def difference(self) -> float:
        """Student minus comparator, in the unit of the scores."""
        return self.student.value - self.comparator.value


@dataclass(frozen=True, kw_only=True)
class SizeRow:
    """One distilled model against one larger model on one benchmark; or `unknown`, with the reason."""

    student: Model
    student_size: Evidence
    comparator: Model | None
    comparator_size: Evidence | None
    benchmark: Benchmark
    size_multiple: float | None
    active_multiple: float | None
    """By active parameters, where the larger model is a mixture of experts."""
    reaches_claim: bool
    """Whether the larger model is as many times larger as the claim says."""
    verdict: Verdict
    depends: bool
    pair: Pair | None
    other_pairs: tuple[Pair, ...]
    reason: str


def size_claim(registry: Registry, model: Model, claims: Claims) -> tuple[SizeRow, ...]:
    """Comparisons of one distilled model with vanilla models of the claimed size, then what is unknown."""
    size = total_params(registry, model)
    if size is None or size.figure.value is None:
        return ()
    rows: list[SizeRow] = []
    tried: list[Model] = []
    for other in registry.of_kind("vanilla"):
        other_size = total_params(registry, other)
        if other_size is None or other_size.figure.value is None:
            continue
        if other_size.figure.value < claims.nearest_multiple * size.figure.value:
            continue
        tried.append(other)
        rows += _rows_against(model, size, other, other_size, claims)
    rows.sort(key=lambda row: (row.size_multiple or 0, row.benchmark.key))
    return (*rows, *_unknown_rows(model, size, tried, {row.benchmark.key for row in rows}))


def against_own_base(registry: Registry, model: Model, claims: Claims) -> tuple[SizeRow, ...]:
    """The same comparison with the model it was made from: what distillation raised and what it lowered."""
    base = registry.find(model.base.model_id) if model.base else None
    size = total_params(registry, model)
    base_size = total_params(registry, base) if base else None
    if base is None or size is None or base_size is None:
        return ()
    return tuple(_rows_against(model, size, base, base_size, claims))


def total_params(registry: Registry, model: Model) -> Evidence | None:
    """All parameters of a model; of one that keeps its base's architecture, the base's where it has none."""
    figure = model.figure("params_total")
    if figure:
        return Evidence(model_id=model.id, figure=figure)
    if model.base and not model.base.is_pruned:
        base = registry.find(model.base.model_id)
        return total_params(registry, base) if base else None
    return None


def judge(student: Score, comparator: Score, claims: Claims) -> Pair:
    """The verdict on one pair of scores."""
    limit, reason = tie_limit(student, comparator, claims)
    difference = student.value - comparator.value
    verdict: Verdict = "supported" if difference > 0 else "contradicted"
    if abs(difference) <= limit:
        verdict = "tie"
    return Pair(
        student=student,
        comparator=comparator,
        tie_limit=limit,
        tie_reason=reason,
        verdict=verdict,
        differs=differing_settings(student, comparator),
    )


def tie_limit(student: Score, comparator: Score, claims: Claims) -> tuple[float, str]:
    """The largest difference that counts as a tie, and why."""
    if student.unit == "rating":
        return claims.tie_margin_rating, f"stated margin of {claims.tie_margin_rating:g} rating points"
    items = student.benchmark.num_items
    margin = claims.tie_margin_points
    stated = f"stated margin of {margin:g} points"
    if items is None:
        return margin, f"{stated}; the number of items is not known, so no standard error"
    error = math.hypot(standard_error(student.value, items), standard_error(comparator.value, items))
    noise = claims.tie_z * error
    if noise > margin:
        return noise, f"{claims.tie_z:g} standard errors of a difference over {items:,} items"
    return margin, stated


def standard_error(percent: float, num_items: int) -> float:
    """Binomial standard error of a score in percentage points."""
    fraction = percent / 100
    return 100 * math.sqrt(fraction * (1 - fraction) / num_items)


def differing_settings(student: Score, comparator: Score) -> tuple[str, ...]:
    """What the two sources state differently, or state on one side only."""
    lines = []
    for name, words in SETTINGS.items():
        mine, theirs = getattr(student, name), getattr(comparator, name)
        if name == "source":
            mine, theirs = mine.key, theirs.key
        if mine != theirs:
            lines.append(f"{words}: {_stated(mine)} against {_stated(theirs)}")
    return tuple(lines)


def are_comparable(student: Score, comparator: Score) -> bool:
    """One test set that is known, one metric, one variant, released models."""
    return (
        student.benchmark.key == comparator.benchmark.key
        and student.benchmark.is_comparable
        and _metric(student) == _metric(comparator)
        and student.variant == comparator.variant
        and student.checkpoint is None
        and comparator.checkpoint is None
    )


def _rows_against(
    model: Model, size: Evidence, other: Model, other_size: Evidence, claims: Claims
) -> Iterator[SizeRow]:
    """One row for each benchmark and metric that both have."""
    pairs: dict[tuple[str, str, str], list[Pair]] = {}
    for student in model.scores:
        for comparator in other.scores:
            if are_comparable(student, comparator):
                key = (student.benchmark.key, _metric(student), student.variant)
                pairs.setdefault(key, []).append(judge(student, comparator, claims))
    assert size.figure.value is not None, "a model without a size is left out before"
    assert other_size.figure.value is not None, "a model without a size is left out before"
    multiple = other_size.figure.value / size.figure.value
    active = params_evidence(other)
    is_mixture = active is not None and active.figure.name == "params_active"
    for judged in pairs.values():
        best = min(judged, key=_distance)
        yield SizeRow(
            student=model,
            student_size=size,
            comparator=other,
            comparator_size=other_size,
            benchmark=best.student.benchmark,
            size_multiple=multiple,
            active_multiple=active.figure.value / size.figure.value
            if is_mixture and active and active.figure.value
            else None,
            reaches_claim=multiple >= claims.size_multiple,
            verdict=best.verdict,
            depends=len({pair.verdict for pair in judged}) > 1,
            pair=best,
            other_pairs=tuple(pair for pair in judged if pair is not best),
            reason="",
        )


def _distance(pair: Pair) -> tuple[bool, bool, bool]:
    """One source that prints both comes first, then the makers' own figures, then the file's order."""
    return (
        pair.student.source.key != pair.comparator.source.key,
        pair.student.reported_by != "self",
        pair.comparator.reported_by != "self",
    )


def _unknown_rows(
    model: Model, size: Evidence, tried: Iterable[Model], judged: set[str]
) -> Iterator[SizeRow]:
    """The student's benchmarks on which no larger model could be compared, each with the reason."""
    others = list(tried)
    seen: set[str] = set()
    for score in model.scores:
        key = score.benchmark.key
        if key in judged or key in seen:
            continue
        seen.add(key)
        yield SizeRow(
            student=model,
            student_size=size,
            comparator=None,
            comparator_size=None,
            benchmark=score.benchmark,
            size_multiple=None,
            active_multiple=None,
            reaches_claim=False,
            verdict="unknown",
            depends=False,
            pair=None,
            other_pairs=(),
            reason=_why_unknown(score, others),
        )


def _why_unknown(score: Score, others: list[Model]) -> str:
    """Why a score of the student found no partner."""
    if not others:
        return "no vanilla model of the claimed size is in the registry"
    if not score.benchmark.is_comparable:
        return f"the source does not say which items: {score.benchmark.name}"
    same_set = [other for model in others for other in model.scores_on(score.benchmark.key)]
    if same_set:
        metrics = sorted({f"{other.variant}, {other.metric}" for other in same_set})
        theirs = " or ".join(metrics)
        return f"scored as {score.variant}, {score.metric}; larger models have {theirs}: not compared"
    return "no larger vanilla model has a published score on this test set"


def _metric(score: Score) -> str:
    """`accuracy` and `pass@1` are both the mean correctness of one answer."""
    return "accuracy" if score.metric == "pass@1" else score.metric


def _stated(value: object) -> str:
    match value:
        case None:
            return "not stated"
        case True:
            return "yes"
        case False:
            return "no"
        case _:
            return str(value)
