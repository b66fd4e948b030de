"""A text study's curves as a picture, SVG, PNG and PDF: bits per byte, KL to the teacher and accuracy against compute.

The teacher is a level: what its making took is not known. Compute counts the teacher's work (boundary generation).
"""

from collections.abc import Mapping
from typing import Any

import altair as alt

from stillmark.report.benchmarks import benchmark_measures, charted, others_of
from stillmark.report.figures import FONT, GRID, HEIGHT, INK, MUTED, PANEL_WIDTH, scales
from stillmark.report.style import ArmStyle, styles_of
from stillmark.report.text_words import COMPARED, TITLES

BOUNDARY = "generation"
PANELS_A_ROW = 2


def text_chart(conclusion: Mapping[str, Any]) -> alt.HConcatChart | alt.VConcatChart | None:
    """None where no arm's compute is known."""
    styles, accuracies = styles_of(conclusion), benchmark_measures(conclusion)
    titles = {m: TITLES[m] for m in COMPARED} | accuracies
    measures = [m for m in titles if points_of(conclusion, m)]
    if not measures:
        return None
    rows = [measures[start : start + PANELS_A_ROW] for start in range(0, len(measures), PANELS_A_ROW)]
    panels = [
        alone(alt.hconcat(
            *(panel(conclusion, styles, m, titles[m], has_legend=m == rows[0][-1]) for m in row), spacing=30))
        for row in rows
    ]  # fmt: skip
    seeds, better = len(conclusion["seeds"]), "less is better" + (", of accuracy more" if accuracies else "")
    heading = alt.TitleParams(
        text=f"{conclusion['name']}: held-out text{' and benchmarks' * bool(accuracies)} against training compute",
        subtitle=f"Mean of {f'{seeds} seeds' if seeds > 1 else 'one seed'}; 95% bands over sequences and seeds; "
        f"compute counts the teacher's work (boundary generation); {better}",
        fontSize=16, subtitleFontSize=12.5, subtitleColor=MUTED, offset=12,
    )  # fmt: skip
    return (
        (panels[0] if len(panels) == 1 else alone(alt.vconcat(*panels, spacing=30)))
        .properties(title=heading, background="#ffffff", padding=14)
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(labelColor=MUTED, titleColor=INK, gridColor=GRID, domainColor=MUTED, tickColor=MUTED,
                        labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelFontSize=12.5, labelColor=INK, title=None, symbolSize=80, symbolOpacity=1)
        .configure_title(anchor="start", color=INK)
    )  # fmt: skip


def alone(chart: Any) -> Any:
    """The chart, none of whose panels shares a legend: shared ones would take other panels' missing ones."""
    independent = {"color": "independent", "shape": "independent"}
    return chart.resolve_scale(**independent).resolve_legend(**independent)


def points_of(conclusion: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    return [
        {"arm": arm["arm"], "flops": point["flops"][BOUNDARY], "value": point[measure]["value"],
         "low": point[measure]["low"], "high": point[measure]["high"]}
        for arm in conclusion["arms"]
        for point in charted(conclusion, arm)["curve"]
        if point["flops"][BOUNDARY] is not None and point.get(measure) is not None
    ]  # fmt: skip


def panel(
    conclusion: Mapping[str, Any],
    styles: Mapping[str, ArmStyle],
    measure: str,
    title: str,
    *,
    has_legend: bool,
) -> alt.LayerChart:
    points = points_of(conclusion, measure)
    color_scale, shape_scale = scales(styles)
    legend = alt.Legend(orient="right") if has_legend else None
    flops = [point["flops"] for point in points]
    x = alt.X("flops:Q", scale=alt.Scale(type="log", domain=[min(flops) / 1.2, max(flops) * 1.2], nice=False),
              axis=alt.Axis(title="compute, FLOPs (log scale)", values=ticks(min(flops) / 1.2, max(flops) * 1.2),
                            labelExpr="format(datum.value, '.1~e')"))  # fmt: skip
    labels = {"format": "%"} if measure not in TITLES else {}
    y = alt.Y("value:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=title, **labels))
    color = alt.Color("arm:N", scale=color_scale, legend=legend)
    shape = alt.Shape("arm:N", scale=shape_scale, legend=legend)
    dashed = [name for name, style in styles.items() if style.is_dashed]
    dash = alt.condition(alt.FieldOneOfPredicate("arm", dashed), alt.value([5, 3]), alt.value([1, 0]))
    base = alt.Chart(alt.Data(values=points))
    layers = [
        base.mark_area(opacity=0.13).encode(x=x, y=alt.Y("low:Q").title(title), y2="high:Q", color=color),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=color, strokeDash=dash),
        base.mark_point(filled=True, size=62, opacity=1, stroke="#ffffff", strokeWidth=0.7).encode(
            x=x, y=y, color=color, shape=shape),
    ]  # fmt: skip
    if levels := given_levels(conclusion, measure):
        rules = alt.Chart(alt.Data(values=levels))
        layers.append(rules.mark_rule(strokeDash=[2, 3], strokeWidth=1.5).encode(y="value:Q", color=color))
    if others := [other for other in others_of(conclusion) if other["measure"] == measure]:
        beside = alt.Chart(alt.Data(values=others)).encode(y="value:Q")
        layers.append(beside.mark_rule(strokeDash=[2, 3], strokeWidth=1.5, color=MUTED))
        layers.append(beside.mark_text(align="left", baseline="bottom", dx=4, color=MUTED).encode(
            x=alt.value(0), text="name:N"))  # fmt: skip
    return alt.layer(*layers).properties(width=PANEL_WIDTH, height=HEIGHT)


def given_levels(conclusion: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    """What models reach whose making is not recorded; the teacher's divergence from itself is no news."""
    if measure == "kl_per_token":
        return []
    scores = {arm["arm"]: charted(conclusion, arm)["scores"].get(measure) for arm in conclusion["arms"]
              if arm["flops"][BOUNDARY] is None}  # fmt: skip
    return [{"arm": arm, "value": score["value"]} for arm, score in scores.items() if score]


def ticks(low: float, high: float) -> list[float]:
    return [
        step * 10.0**power
        for power in range(0, 33)
        for step in (1, 2, 5)
        if low <= step * 10.0**power <= high
    ]


def text_picture_files(conclusion: Mapping[str, Any]) -> dict[str, bytes]:
    """The curves as files: none where there is nothing to draw."""
    import vl_convert

    chart = text_chart(conclusion)
    if chart is None:
        return {}
    svg = vl_convert.vegalite_to_svg(chart.to_json())
    return {
        "curve.svg": svg.encode(),
        "curve.png": vl_convert.svg_to_png(svg, scale=2),
        "curve.pdf": vl_convert.svg_to_pdf(svg),
    }
