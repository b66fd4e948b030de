"""A text study's curves as a picture: bits per byte and KL to the teacher against compute, SVG, PNG and PDF.

The teacher is a level: what its making took is not known. Compute counts the teacher's work (boundary generation).
"""

from collections.abc import Mapping
from typing import Any

import altair as alt

from stillmark.report.figures import FONT, GRID, HEIGHT, INK, MUTED, PANEL_WIDTH, scales
from stillmark.report.style import ArmStyle, styles_of
from stillmark.report.text_words import TITLES

BOUNDARY = "generation"


def text_chart(conclusion: Mapping[str, Any]) -> alt.HConcatChart | None:
    """None where no arm's compute is known."""
    styles = styles_of(conclusion)
    measures = [m for m in ("bits_per_byte", "kl_per_token") if points_of(conclusion, m)]
    if not measures:
        return None
    panels = [panel(conclusion, styles, m, is_last=m == measures[-1]) for m in measures]
    seeds = len(conclusion["seeds"])
    heading = alt.TitleParams(
        text=f"{conclusion['name']}: held-out text against training compute",
        subtitle=f"Mean of {f'{seeds} seeds' if seeds > 1 else 'one seed'}; 95% bands over sequences and seeds; "
        "compute counts the teacher's work (boundary generation); less is better",
        fontSize=16, subtitleFontSize=12.5, subtitleColor=MUTED, offset=12,
    )  # fmt: skip
    return (
        alt.hconcat(*panels, spacing=30)
        .resolve_scale(color="independent", shape="independent")  # shared ones would take the panels' missing legends
        .resolve_legend(color="independent", shape="independent")
        .properties(title=heading, background="#ffffff", padding=14)
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(labelColor=MUTED, titleColor=INK, gridColor=GRID, domainColor=MUTED, tickColor=MUTED,
                        labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelFontSize=12.5, labelColor=INK, title=None, symbolSize=80, symbolOpacity=1)
        .configure_title(anchor="start", color=INK)
    )  # fmt: skip


def points_of(conclusion: Mapping[str, Any], measure: str) -> list[dict[str, Any]]:
    return [
        {"arm": arm["arm"], "flops": point["flops"][BOUNDARY], "value": point[measure]["value"],
         "low": point[measure]["low"], "high": point[measure]["high"]}
        for arm in conclusion["arms"]
        for point in arm["curve"]
        if point["flops"][BOUNDARY] is not None and point[measure] is not None
    ]  # fmt: skip


def panel(
    conclusion: Mapping[str, Any], styles: Mapping[str, ArmStyle], measure: str, *, is_last: bool
) -> alt.LayerChart:
    points = points_of(conclusion, measure)
    color_scale, shape_scale = scales(styles)
    legend = alt.Legend(orient="right") if is_last else None
    flops = [point["flops"] for point in points]
    x = alt.X("flops:Q", scale=alt.Scale(type="log", domain=[min(flops) / 1.2, max(flops) * 1.2], nice=False),
              axis=alt.Axis(title="compute, FLOPs (log scale)", values=ticks(min(flops) / 1.2, max(flops) * 1.2),
                            labelExpr="format(datum.value, '.1~e')"))  # fmt: skip
    y = alt.Y("value:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=TITLES[measure]))
    color = alt.Color("arm:N", scale=color_scale, legend=legend)
    shape = alt.Shape("arm:N", scale=shape_scale, legend=legend)
    dashed = [name for name, style in styles.items() if style.is_dashed]
    dash = alt.condition(alt.FieldOneOfPredicate("arm", dashed), alt.value([5, 3]), alt.value([1, 0]))
    base = alt.Chart(alt.Data(values=points))
    layers = [
        base.mark_area(opacity=0.13).encode(x=x, y=alt.Y("low:Q").title(TITLES[measure]), y2="high:Q", color=color),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=color, strokeDash=dash),
        base.mark_point(filled=True, size=62, opacity=1, stroke="#ffffff", strokeWidth=0.7).encode(
            x=x, y=y, color=color, shape=shape),
    ]  # fmt: skip
    levels = [{"arm": arm["arm"], "value": arm["scores"][measure]["value"]} for arm in conclusion["arms"]
              if arm["flops"][BOUNDARY] is None and arm["scores"][measure]]  # fmt: skip
    if levels and measure != "kl_per_token":
        rules = alt.Chart(alt.Data(values=levels))
        layers.append(rules.mark_rule(strokeDash=[2, 3], strokeWidth=1.5).encode(y="value:Q", color=color))
    return alt.layer(*layers).properties(width=PANEL_WIDTH, height=HEIGHT)


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
