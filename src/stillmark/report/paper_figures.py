"""The paper report's figures: ratios as ranges, and score against training compute, one for each boundary."""

from html import escape

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_compute import BOUNDARIES, BOUNDARY_WORDS, Boundary
from stillmark.analysis.claims_curves import TrainingPoint
from stillmark.published.amounts import amount_text, ratio_text, score_text
from stillmark.published.registry import Model
from stillmark.report.paper_cells import evidence_references, input_references, score_references
from stillmark.report.paper_chart import MARKS, Bar, Mark, range_bars, scatter
from stillmark.report.paper_links import References

FIRST: Boundary = "student"
"""The boundary that is shown before anybody chooses."""
LEAST_POINTS = 12
"""A benchmark has a chart from so many models on."""


def ratio_charts(claims: PaperClaims, references: References) -> str:
    """One chart of ranges for each boundary."""
    figures = []
    for boundary in BOUNDARIES:
        bars = []
        for item in claims.ratios:
            span = item.ranges[boundary]
            inputs = input_references(claims.registry, item.inputs.inputs.values())
            reach = f"{ratio_text(span.low)} to " if span.low is not None else "at most "
            reach += ratio_text(span.high) if span.high is not None else "unknown"
            bars.append(
                Bar(
                    label=item.inputs.model.name,
                    low=span.low,
                    high=span.high,
                    tone=span.verdict,
                    title=f"{item.inputs.model.name}: {reach} times",
                    link=references.attributes(inputs),
                )
            )
        caption = f"Ratio of compute, vanilla over distilled, counting {BOUNDARY_WORDS[boundary]}"
        chart = range_bars(bars, claims.settings.claims.compute_ratio, "times", caption)
        figures.append(_figure(chart, caption, boundary, None, is_shown=boundary == FIRST))
    return "".join(figures)


def charted_benchmarks(claims: PaperClaims) -> list[tuple[str, str]]:
    """The benchmarks with enough points for a chart: key with variant, and name."""
    models: dict[tuple[str, str], set[str]] = {}
    names: dict[str, str] = {}
    for point in claims.training[FIRST]:
        score = point.score
        names[score.benchmark.key] = score.benchmark.name
        if _is_charted_metric(point):
            models.setdefault((score.benchmark.key, score.variant), set()).add(point.model.id)
    return [
        (f"{key} {variant}", f"{names[key]}{' (base models)' if variant == 'base' else ''}")
        for (key, variant), found in models.items()
        if len(found) >= LEAST_POINTS
    ]


def _is_charted_metric(point: TrainingPoint) -> bool:
    """One metric a benchmark: votes, looser or unstated ways to score do not share an axis with it."""
    return point.score.metric in ("accuracy", "pass@1", "prompt_strict", "rating")


def curve_charts(claims: PaperClaims, references: References) -> str:
    """Score against training compute, one chart for each benchmark and boundary."""
    charted = charted_benchmarks(claims)
    key = "".join(
        f"<span>{_key_mark(kind)} {escape(kind)}</span>"
        for kind in MARKS
        if kind in ("distilled", "vanilla", "proprietary")
    )
    figures = []
    for identity, name in charted:
        for boundary in BOUNDARIES:
            marks = _marks(claims, references, identity, boundary)
            is_shown = boundary == FIRST and identity == charted[0][0]
            caption = f"{name} against training compute, counting {BOUNDARY_WORDS[boundary]}"
            chart = scatter(marks, "training FLOP", name, caption)
            figures.append(_figure(chart, caption, boundary, identity, is_shown=is_shown))
    return (
        "<section><h2>Score against training compute</h2><p>A vanilla model stands at its own 6ND; a "
        "distilled one at "
        "what the boundary counts, a line being the range over what is not published and an arrow a floor; a "
        "proprietary one at an outsider's estimate. Families are joined. Vertical lines join the values of "
        "sources "
        f'that disagree.</p><p class="key">{key}</p>{"".join(figures)}</section>'
    )


def _key_mark(kind: str) -> str:
    shapes = {
        "distilled": '<circle cx="7" cy="7" r="5"/>',
        "vanilla": '<rect x="2" y="2" width="10" height="10"/>',
    }
    shape = shapes.get(kind, '<path d="M7 1l6 6l-6 6l-6 -6z"/>')
    return f'<svg viewBox="0 0 14 14" aria-hidden="true"><g class="mark {kind}">{shape}</g></svg>'


def _marks(claims: PaperClaims, references: References, identity: str, boundary: Boundary) -> list[Mark]:
    """One mark for each model and mode of thinking, its other published values as a vertical line."""
    groups: dict[tuple[str, bool | None], list[TrainingPoint]] = {}
    for point in claims.training[boundary]:
        if f"{point.score.benchmark.key} {point.score.variant}" == identity and _is_charted_metric(point):
            groups.setdefault((point.model.id, point.score.thinking), []).append(point)
    marks = []
    for (_, thinking), points in groups.items():
        first = min(points, key=lambda point: point.score.reported_by != "self")
        values = [point.score.value for point in points]
        model = first.model
        root = _root_family(claims, model)
        mode = {True: ", thinking", False: ", not thinking", None: ""}[thinking]
        sources = [found for point in points for found in score_references(model, point.score)]
        compute = evidence_references(claims.registry, first.evidence)
        low, high = first.train_flops_low, first.train_flops_high
        flops = amount_text(low, "FLOP") + (f" to {amount_text(high, 'FLOP')}" if high > low else "")
        marks.append(
            Mark(
                kind=model.kind,
                series=f"{model.family} {root} {model.kind} {thinking}",
                label=model.family + (f" on {root}" if root != model.family else "") + mode,
                x_low=low,
                x_high=high,
                y=first.score.value,
                y_low=min(values),
                y_high=max(values),
                is_floor=first.is_floor,
                title=f"{model.name}{mode}: {score_text(first.score)} at "
                f"{'at least ' if first.is_floor else ''}{flops} FLOP ({first.method})",
                link=references.attributes([*sources, *compute]),
            )
        )
    return marks


def _root_family(claims: PaperClaims, model: Model) -> str:
    """The family of the model that all began with: sizes of one recipe on two of them are two lines."""
    while model.base is not None:
        base = claims.registry.find(model.base.model_id)
        if base is None:
            return model.base.printed
        model = base
    return model.family


def _figure(chart: str, caption: str, boundary: str, identity: str | None, *, is_shown: bool) -> str:
    benchmark = f' data-m="{escape(identity)}"' if identity is not None else ""
    hidden = "" if is_shown else " hidden"
    return (
        f'<figure data-b="{escape(boundary)}"{benchmark}{hidden}>{chart}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
