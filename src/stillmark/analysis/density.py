"""Capability density: the size that a reference family would need for a model's score, over the model's true
size.

After the densing law (Xiao et al., arXiv:2412.04315; Nature Machine Intelligence 2025), rho = N_effective /
N. There the score is tied to size by way of a loss on the benchmark's reference answers; published tables
have no losses, so here the reference family's scores are fitted directly against size:

    logit((s - chance) / (100 - chance)) = a + b log10 N        least squares over the family's models

and N_effective solves it for the model's score. The interval is Fieller's for one new observation (the
inverse of a calibration line, residual degrees of freedom n - 2): it holds the error of the line and the
scatter about it, not the noise of the new score itself. Nothing is read beyond the family's own smallest and
largest model: there the answer is only `at_least` or `at_most`. A fit is refused where it has too few models,
too low an R squared, a slope that is not above zero, or a score at chance; a score above every one of the
family's is `at_least` its largest model even then.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import special

from stillmark.analysis.claims_size import total_params
from stillmark.published.registry import Benchmark, Model, Registry, Score
from stillmark.published.settings import Density

Status = Literal["value", "at_least", "at_most", "refused"]


@dataclass(frozen=True, kw_only=True)
class ReferenceFit:
    """A reference family's line of logit score against log10 parameters on one benchmark."""

    family: str
    benchmark: Benchmark
    metric: str
    variant: str
    points: tuple[tuple[str, float, Score], ...]
    """Model id, parameters, score."""
    intercept: float
    slope: float
    residual_error: float
    r_squared: float
    mean_log_size: float
    spread: float
    """Sum of squared deviations of log10 parameters."""

    @property
    def smallest(self) -> float:
        """Parameters of the family's smallest model on this benchmark."""
        return min(params for _, params, _ in self.points)

    @property
    def largest(self) -> float:
        """Parameters of the family's largest model on this benchmark."""
        return max(params for _, params, _ in self.points)

    def score_at(self, params: float) -> float:
        """The fitted score in percent of a model of this size."""
        logit = self.intercept + self.slope * math.log10(params)
        chance = self.benchmark.chance_percent
        return chance + (100 - chance) / (1 + math.exp(-logit))


@dataclass(frozen=True, kw_only=True)
class DensityRow:
    """The density of one model by one of its scores."""

    model: Model
    score: Score
    params: float
    status: Status
    effective_params: float | None
    """Where `at_least` or `at_most`: the largest or smallest model of the reference family."""
    density: float | None
    density_low: float | None
    density_high: float | None
    extrapolates: bool
    """Whether an end of the interval lies beyond the reference family's sizes."""
    fit: ReferenceFit | None
    reason: str


def reference_fit(
    registry: Registry, family: str, score: Score, rules: Density
) -> tuple[ReferenceFit | None, str]:
    """The line of a family on the test set, metric and variant of a score; or None and why."""
    points = _family_points(registry, family, score)
    if len(points) < rules.least_models:
        return None, f"{family} has {len(points)} models with this score, fewer than {rules.least_models}"
    chance = score.benchmark.chance_percent
    at_chance = [model_id for model_id, _, other in points if not chance < other.value < 100]
    if at_chance:
        return None, f"at or below chance ({chance:g}%), so no logit: {', '.join(at_chance)}"
    fit = fit_line(family, score, points)
    if fit.slope <= 0:
        return None, f"the score does not rise with size in {family}"
    if fit.r_squared < rules.least_r_squared:
        return None, f"too weak: R squared of {fit.r_squared:.2f}, below {rules.least_r_squared:g}"
    return fit, ""


def fit_line(family: str, score: Score, points: Sequence[tuple[str, float, Score]]) -> ReferenceFit:
    """Least squares of logit score on log10 parameters."""
    chance = score.benchmark.chance_percent
    xs = [math.log10(params) for _, params, _ in points]
    ys = [_logit(other.value, chance) for _, _, other in points]
    n = len(points)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    intercept = mean_y - slope * mean_x
    residual = sum((y - intercept - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    total = sum((y - mean_y) ** 2 for y in ys)
    return ReferenceFit(
        family=family,
        benchmark=score.benchmark,
        metric=score.metric,
        variant=score.variant,
        points=tuple(points),
        intercept=intercept,
        slope=slope,
        residual_error=math.sqrt(residual / (n - 2)),
        r_squared=1 - residual / total if total else 0.0,
        mean_log_size=mean_x,
        spread=spread,
    )


def density_rows(registry: Registry, model: Model, family: str, rules: Density) -> tuple[DensityRow, ...]:
    """The density of a released model by each of its percentage scores on known test sets."""
    size = total_params(registry, model)
    if size is None or size.figure.value is None:
        return ()
    rows = []
    for score in model.scores:
        single = score.metric not in ("majority@64", "pass@64")
        if score.unit == "percent" and score.benchmark.is_comparable and score.checkpoint is None and single:
            fit, reason = reference_fit(registry, family, score, rules)
            row = _row(model, score, size.figure.value, fit, reason, rules)
            rows.append(_bound_without_fit(registry, family, row) if row.status == "refused" else row)
    return tuple(rows)


def inverse_interval(fit: ReferenceFit, logit: float, confidence: float) -> tuple[float, float] | None:
    """Fieller's interval of log10 parameters for one new logit score; None where the slope is too uncertain.

    Draper and Smith, Applied Regression Analysis, section on inverse estimation.
    """
    n = len(fit.points)
    t = float(special.stdtrit(n - 2, (1 + confidence) / 2))
    scaled = t * fit.residual_error / fit.slope
    g = scaled**2 / fit.spread
    if g >= 1:
        return None
    offset = (logit - fit.intercept) / fit.slope - fit.mean_log_size
    centre = fit.mean_log_size + offset / (1 - g)
    half = scaled * math.sqrt((1 + 1 / n) * (1 - g) + offset**2 / fit.spread) / (1 - g)
    return centre - half, centre + half


def _row(
    model: Model, score: Score, params: float, fit: ReferenceFit | None, reason: str, rules: Density
) -> DensityRow:
    """One score turned into a density, a bound, or a refusal."""
    chance = score.benchmark.chance_percent
    interval = None
    if fit is not None and not chance < score.value < 100:
        reason = (
            f"its score is at or below chance ({chance:g}%)" if score.value <= chance else "its score is 100%"
        )
        fit = None
    if fit is not None:
        logit = _logit(score.value, chance)
        interval = inverse_interval(fit, logit, rules.confidence)
        if interval is None:
            reason, fit = "too weak: the slope's interval includes zero", None
    if fit is None or interval is None:
        return _without(model, score, params, reason)
    effective = 10 ** ((_logit(score.value, chance) - fit.intercept) / fit.slope)
    status: Status = "value"
    if effective > fit.largest:
        status, effective, reason = "at_least", fit.largest, "better than the fit at its largest model"
    elif effective < fit.smallest:
        status, effective, reason = "at_most", fit.smallest, "worse than the fit at its smallest model"
    is_value = status == "value"
    low, high = (10**end for end in interval)
    return DensityRow(
        model=model,
        score=score,
        params=params,
        status=status,
        effective_params=effective,
        density=effective / params,
        density_low=low / params if is_value else None,
        density_high=high / params if is_value else None,
        extrapolates=is_value and (low < fit.smallest or high > fit.largest),
        fit=fit,
        reason=reason,
    )


def _bound_without_fit(registry: Registry, family: str, row: DensityRow) -> DensityRow:
    """Where there is no fit but the score is above every score of the family: at least its largest model."""
    points = _family_points(registry, family, row.score)
    if not points or row.score.value <= max(other.value for _, _, other in points):
        return row
    largest = max(params for _, params, _ in points)
    return replace(
        row,
        status="at_least",
        effective_params=largest,
        density=largest / row.params,
        reason=f"better than every model of {family} ({len(points)} of them); no fit: {row.reason}",
    )


def _without(model: Model, score: Score, params: float, reason: str) -> DensityRow:
    return DensityRow(
        model=model,
        score=score,
        params=params,
        status="refused",
        effective_params=None,
        density=None,
        density_low=None,
        density_high=None,
        extrapolates=False,
        fit=None,
        reason=reason,
    )


def _family_points(registry: Registry, family: str, score: Score) -> list[tuple[str, float, Score]]:
    """The vanilla models of a family that have a size and a score of this kind, by the maker first."""
    points = []
    for model in registry.of_kind("vanilla"):
        size = total_params(registry, model)
        if model.family != family or size is None or size.figure.value is None:
            continue
        same = [
            other
            for other in model.scores_on(score.benchmark.key)
            if _metric(other) == _metric(score)
            and other.variant == score.variant
            and other.checkpoint is None
            and other.thinking is not True
        ]
        if same:
            best = min(same, key=lambda other: other.reported_by != "self")
            points.append((model.id, size.figure.value, best))
    return points


def _metric(score: Score) -> str:
    return "accuracy" if score.metric == "pass@1" else score.metric


def _logit(percent: float, chance: float) -> float:
    fraction = (percent - chance) / (100 - chance)
    return math.log(fraction / (1 - fraction))
