"""The performance-to-compute curve as a picture: SVG, PNG and PDF, made offline by vl-convert.

Two panels show the same arms under the narrowest and the widest boundary, since the boundary is what a ratio of
compute rests on. Both share the accuracy axis, so one column of labels names the lines of both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from stillmark.report.style import ArmStyle, styles_of

TOP = 1.04  # of the accuracy axis: room for the points at 100%
PANEL_WIDTH, HEIGHT, LABEL_WIDTH = 372, 380, 150  # pixels
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
INK, MUTED, GRID = "#1b1f24", "#57606a", "#e4e7eb"
LABEL_GAP = 15.0  # pixels between two labels
PANELS = {
    "student": "Counting the training alone",
    "generation": "Counting the teacher's work for it too",
    "teacher": "Counting the making of the teacher too",
    "base": "Counting the teacher's work and its starting weights too",
    "everything": "Counting everything: teacher and starting weights too",
}
PANELS_SHOWN = ("student", "everything")
DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹"


def curve_chart(conclusion: Mapping[str, Any], boundaries: Sequence[str] = PANELS_SHOWN) -> alt.HConcatChart:
    """Log compute against accuracy for all arms, with 95% bands, under each of the boundaries.

    Its points are the data sets of the boundaries' names, which are put in where it is drawn.
    """
    styles = styles_of(conclusion)
    panels = [
        panel(conclusion, styles, boundary, is_first=index == 0) for index, boundary in enumerate(boundaries)
    ]
    chart = alt.hconcat(*panels, labels_panel(conclusion, styles), spacing=14)
    return (
        chart.properties(title=title(conclusion), background="#ffffff", padding=14)
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(labelColor=MUTED, titleColor=INK, gridColor=GRID, domainColor=MUTED, tickColor=MUTED,
                        labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_title(anchor="start", color=INK)
    )  # fmt: skip


def title(conclusion: Mapping[str, Any]) -> alt.TitleParams:
    seeds = len(conclusion["seeds"])
    many = f"{seeds} seeds" if seeds > 1 else "one seed"
    return alt.TitleParams(
        text=f"{conclusion['name']}: accuracy against training compute",
        subtitle=f"Mean of {many} on the {conclusion['evaluated_on']} items, 95% bands over items and seeds",
        fontSize=16, subtitleFontSize=12.5, subtitleColor=MUTED, offset=12,
    )  # fmt: skip


def superscript() -> str:
    """Vega expression for the exponent of a power of ten."""
    expression = "format(log(datum.value) / log(10), 'd')"
    for digit, raised in enumerate(DIGITS):
        expression = f"replace({expression}, regexp('{digit}', 'g'), '{raised}')"
    return expression


def points_of(conclusion: Mapping[str, Any], boundary: str) -> list[dict[str, Any]]:
    return [{"arm": arm["arm"], **point} for arm in conclusion["arms"] for point in arm["curve"][boundary]]


def decades(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """A little room on both sides of the data."""
    flops = [point["flops"] for point in points]
    return min(flops) / 1.4, max(flops) * 1.4


def scales(styles: Mapping[str, ArmStyle]) -> tuple[alt.Scale, alt.Scale]:
    names = list(styles)
    color = alt.Scale(domain=names, range=[style.light for style in styles.values()])
    shapes = {"triangle": "triangle-up"}
    shape = alt.Scale(domain=names, range=[shapes.get(style.shape, style.shape) for style in styles.values()])
    return color, shape


def panel(
    conclusion: Mapping[str, Any], styles: Mapping[str, ArmStyle], boundary: str, *, is_first: bool
) -> alt.LayerChart:
    points = points_of(conclusion, boundary)
    color_scale, shape_scale = scales(styles)
    x = alt.X("flops:Q", scale=alt.Scale(type="log", domain=list(decades(points)), nice=False),
              axis=alt.Axis(title="training compute, FLOPs (log scale)", grid=True,
                            values=[10.0**power for power in range(0, 33)],
                            labelExpr=f"'10' + {superscript()}"))  # fmt: skip
    y_axis = alt.Axis(title="accuracy" if is_first else None, format="%", labels=is_first, ticks=is_first,
                      domain=is_first, values=[0, 0.2, 0.4, 0.6, 0.8, 1])  # fmt: skip
    y = alt.Y("accuracy:Q", scale=alt.Scale(domain=[0, TOP], nice=False), axis=y_axis)
    color = alt.Color("arm:N", scale=color_scale, legend=None)
    dashed = [name for name, style in styles.items() if style.is_dashed]
    dash = alt.condition(alt.FieldOneOfPredicate("arm", dashed), alt.value([5, 3]), alt.value([1, 0]))
    base = alt.Chart(
        alt.NamedData(name=boundary)
    )  # held beside the chart: altair copies and checks what is within
    band = base.mark_area(opacity=0.13).encode(
        x=x, y=alt.Y("low:Q").title("accuracy" if is_first else None), y2="high:Q", color=color
    )
    line = base.mark_line(strokeWidth=2).encode(x=x, y=y, color=color, strokeDash=dash)
    dots = base.mark_point(filled=True, size=62, opacity=1, stroke="#ffffff", strokeWidth=0.7).encode(
        x=x, y=y, color=color, shape=alt.Shape("arm:N", scale=shape_scale, legend=None)
    )
    layers = [*chance_layers(conclusion, points), band, line, dots]
    heading = alt.TitleParams(text=PANELS[boundary], subtitle=f"boundary: {boundary}", fontSize=13, fontWeight="bold",
                              subtitleFontSize=11.5, subtitleColor=MUTED, offset=8, frame="group")  # fmt: skip
    return alt.layer(*layers).properties(width=PANEL_WIDTH, height=HEIGHT, title=heading)


def chance_layers(conclusion: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> list[alt.Chart]:
    """A dotted line for each task whose chance is known."""
    _, end = decades(points)
    rows = [{"accuracy": task["chance"], "flops": end, "label": "chance"}
            for task in conclusion["tasks"].values() if task["chance"] is not None]  # fmt: skip
    if not rows:
        return []
    base = alt.Chart(alt.Data(values=rows))
    rule = base.mark_rule(strokeDash=[2, 3], color=MUTED).encode(y="accuracy:Q")
    text = base.mark_text(align="right", dx=-4, dy=8, color=MUTED, fontSize=11).encode(
        x=alt.X("flops:Q"), y="accuracy:Q", text="label:N"
    )
    return [rule, text]


def labels_panel(conclusion: Mapping[str, Any], styles: Mapping[str, ArmStyle]) -> alt.LayerChart:
    """Names of the lines at the height of their ends, moved apart where they would overlap."""
    ends = {
        arm["arm"]: arm["curve"]["student"][-1]["accuracy"]
        for arm in conclusion["arms"]
        if arm["curve"]["student"]
    }
    heights = spread({name: (1 - end / TOP) * HEIGHT for name, end in ends.items()}, LABEL_GAP, HEIGHT)
    rows = [{"arm": name, "end": (1 - ends[name] / TOP) * HEIGHT, "at": heights[name], "x0": 0, "x1": 22, "x2": 32,
             "label": name} for name in ends]  # fmt: skip
    color_scale, shape_scale = scales(styles)
    base = alt.Chart(alt.Data(values=rows))
    x_scale, y_scale = (
        alt.Scale(domain=[0, LABEL_WIDTH], nice=False),
        alt.Scale(domain=[HEIGHT, 0], nice=False),
    )
    color = alt.Color("arm:N", scale=color_scale, legend=None)

    def x(field: str) -> alt.X:
        return alt.X(f"{field}:Q", scale=x_scale, axis=None)

    def y(field: str) -> alt.Y:
        return alt.Y(f"{field}:Q", scale=y_scale, axis=None)

    leader = base.mark_rule(strokeWidth=1, opacity=0.6).encode(
        x=x("x0"), x2="x1:Q", y=y("end"), y2="at:Q", color=color
    )
    mark = base.mark_point(filled=True, size=62, opacity=1).encode(
        x=x("x1"), y=y("at"), color=color, shape=alt.Shape("arm:N", scale=shape_scale, legend=None)
    )
    text = base.mark_text(align="left", baseline="middle", fontSize=12.5, color=INK).encode(
        x=x("x2"), y=y("at"), text="label:N"
    )
    return alt.layer(leader, mark, text).properties(width=LABEL_WIDTH, height=HEIGHT)


def spread(wanted: Mapping[str, float], gap: float, end: float) -> dict[str, float]:
    """Heights at least `gap` apart and within 0 to `end` where there is room, each near the one wanted.

    Pool adjacent violators: labels that would overlap are set as a block around the mean of what they want.
    """
    blocks: list[tuple[list[str], float]] = []  # names from above, and the height of the block's centre
    for name, height in sorted(wanted.items(), key=lambda pair: pair[1]):
        blocks.append(([name], height))
        while len(blocks) > 1 and overlap(blocks[-2], blocks[-1], gap):
            (above, upper), (below, lower) = blocks[-2:]
            names = above + below
            centre = (upper * len(above) + lower * len(below)) / len(names)
            half = gap * (len(names) - 1) / 2
            blocks[-2:] = [(names, max(half, min(centre, end - half)))]
    heights = {}
    for names, centre in blocks:
        top = centre - gap * (len(names) - 1) / 2
        heights.update({name: top + gap * index for index, name in enumerate(names)})
    return heights


def overlap(above: tuple[list[str], float], below: tuple[list[str], float], gap: float) -> bool:
    bottom = above[1] + gap * (len(above[0]) - 1) / 2
    top = below[1] - gap * (len(below[0]) - 1) / 2
    return top - bottom < gap


def picture_files(conclusion: Mapping[str, Any]) -> dict[str, bytes]:
    """The curve as files: none where no arm is recorded whole."""
    import vl_convert

    if not conclusion["arms"]:
        return {}
    spec = curve_chart(conclusion).to_dict()
    spec.setdefault("datasets", {}).update(
        {boundary: points_of(conclusion, boundary) for boundary in PANELS_SHOWN}
    )
    svg = vl_convert.vegalite_to_svg(spec)
    return {
        "curve.svg": svg.encode(),
        "curve.png": vl_convert.svg_to_png(svg, scale=2),
        "curve.pdf": vl_convert.svg_to_pdf(svg),
    }
