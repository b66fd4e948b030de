"""The paper study as one self-contained page: every number opens its source, and a switch sets the boundary.

Everything that comes from the registry is escaped: text by `html.escape`, data for the script as JSON without
`<`. Without script the page shows the `student` boundary and each number still links to its first source.
"""

import json
from collections.abc import Iterable
from html import escape

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_compute import (
    BOUNDARIES,
    BOUNDARY_WORDS,
    Boundary,
    RatioRange,
    tokens_at_claim,
)
from stillmark.analysis.claims_curves import TrainingPoint
from stillmark.analysis.claims_size import VERDICT_WORDS
from stillmark.published.amounts import amount_text, ratio_text, score_text
from stillmark.published.registry import Model
from stillmark.report.paper_cells import (
    Cell,
    Reference,
    Row,
    Table,
    evidence_references,
    input_references,
    score_references,
)
from stillmark.report.paper_chart import MARKS, Bar, Mark, range_bars, scatter
from stillmark.report.paper_style import SCRIPT, STYLE

FIRST: Boundary = "student"
LEAST_POINTS = 12
"""A benchmark has a chart from so many models on."""
HOURS = ("hours", "implied_mfu", "distillation_hours", "purchases")
LONG = 12
"""A table has a filter from so many rows on."""


class References:
    """The page's references, each once; a number names its own by position."""

    def __init__(self) -> None:
        self.known: dict[Reference, int] = {}

    def attributes(self, references: Iterable[Reference]) -> str:
        """The attributes of a link that opens these references; empty where there is none."""
        found = list(references)
        ids = [str(self.known.setdefault(reference, len(self.known))) for reference in found]
        if not ids:
            return ""
        url = next((reference.url for reference in found if reference.url), None)
        href = f'href="{escape(url)}" target="_blank" rel="noopener"' if url else 'href="#table-inputs"'
        return f'{href} data-r="{" ".join(ids)}"'

    def script_data(self) -> str:
        """All references as JSON that can stand inside a script element."""
        rows = [
            [item.what, item.value, item.method, item.source, item.url, item.where, item.seen, item.note]
            for item in self.known
        ]
        return json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c")


def page(claims: PaperClaims, tables: dict[str, Table]) -> str:
    """The whole page."""
    references = References()
    body = "\n".join(
        (
            _opening(claims, references),
            _switch(_charted(claims)),
            "<main>",
            _section(tables["headline"], references),
            _ratio_charts(claims, references),
            *(
                _section(tables[key], references)
                for key in ("ratios", "thresholds", "inputs", "not_computable")
            ),
            *(
                _section(tables[key], references)
                for key in ("hours", "implied_mfu", "distillation_hours", "purchases")
            ),
            *(_section(tables[key], references) for key in ("size_summary", "size", "own_base")),
            _curves(claims, references),
            *(_section(tables[key], references) for key in ("answers", "density", "disagreements")),
            _convention(),
            "</main>",
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The paper study: Stillmark</title><style>{STYLE}</style></head>\n<body>\n{body}\n"
        '<aside id="source" hidden aria-live="polite" aria-label="source of the chosen number"></aside>\n'
        f'<script type="application/json" id="references">{references.script_data()}</script>\n'
        f"<script>{SCRIPT}</script>\n</body></html>\n"
    )


def _opening(claims: PaperClaims, references: References) -> str:
    """The title and what the tables say in a few lines."""
    tiles = []
    for boundary in BOUNDARIES:
        verdicts = [item.ranges[boundary].verdict for item in claims.ratios]
        parts = [
            f"{verdicts.count(name)} {name}" for name in ("depends", "fails", "unknown") if name in verdicts
        ]
        tiles.append(
            f'<div class="tile"><b><a class="n" href="#table-ratios">{verdicts.count("holds")} of '
            f"{len(verdicts)}</a></b>hold under <i>{escape(boundary)}</i><br>"
            f"<span>{', '.join(parts)}</span></div>"
        )
    lines = [_compute_line(claims, references), _size_line(claims)]
    paragraphs = "".join(f"<p>{line}</p>" for line in lines)
    return (
        f"<h1>What the claims about distilled language models rest on</h1>{paragraphs}"
        f'<p class="soft">{len(claims.registry.models)} models, {claims.registry.num_figures} figures and '
        f"{claims.registry.num_scores} scores that others published; nothing here was run. The tables lie "
        "beside this page as JSON, CSV and Markdown.</p>"
        f'<div class="tiles" aria-label="models whose ratio holds the claim">{"".join(tiles)}</div>'
    )


def _compute_line(claims: PaperClaims, references: References) -> str:
    """The compute claim for the headline model in a few sentences."""
    head, claim = claims.headline, claims.settings.claims.compute_ratio
    inputs = references.attributes(input_references(claims.registry, head.inputs.inputs.values()))
    needed = amount_text(tokens_at_claim(head.inputs, claim), "tokens")

    def linked(text: str) -> str:
        return f'<a class="n" {inputs}>{escape(text)}</a>'

    alone, with_base = (linked(_span(head.ranges[key])) for key in ("student", "base"))
    name = escape(head.inputs.model.name)
    return (
        f"Does distillation take over {claim:,.0f} times less compute? For {name} the published figures give "
        f"{alone} times with the student's training alone, and {with_base} times once its own base is "
        f"counted too. The claim needs at most {linked(needed)} tokens seen in training, all else left out. What is "
        "counted decides; each number below opens the source that it rests on."
    )


def _span(span: RatioRange) -> str:
    if span.high is None:
        return "an unknown number of"
    last = ratio_text(span.high)
    if span.low is None:
        return f"at most {last}"
    first = ratio_text(span.low)
    return first if first == last else f"{first} to {last}"


def _size_line(claims: PaperClaims) -> str:
    """The size claim for the headline model in one sentence, by area."""
    model = claims.headline.inputs.model
    by_verdict: dict[str, list[str]] = {}
    for row in claims.size_rows:
        if row.student.id == model.id and row.comparator:
            words = f"{row.benchmark.name} against {row.comparator.name}"
            by_verdict.setdefault(row.verdict, []).append(words)
    multiple = claims.settings.claims.size_multiple
    counts = ", ".join(f"{VERDICT_WORDS[key]} in {len(found)}" for key, found in by_verdict.items())
    worse = "; ".join(by_verdict.get("contradicted", []))
    line = f"Is it on par with models about {multiple:g} times its size? Of its comparisons it is {counts}."
    line += f" Behind on: {worse}." if worse else ""
    return f'{escape(line)} <a href="#table-size">Each comparison.</a>'


def _switch(benchmarks: list[tuple[str, str]]) -> str:
    """The boundary switch and the choice of benchmark."""
    choices = "".join(
        f'<label title="{escape(BOUNDARY_WORDS[name])}">'
        f'<input type="radio" name="boundary" value="{name}"'
        f"{' checked' if name == FIRST else ''}> {escape(name.replace('_', ' '))}</label>"
        for name in BOUNDARIES
    )
    options = "".join(f'<option value="{escape(key)}">{escape(name)}</option>' for key, name in benchmarks)
    words = "".join(
        f'<p class="soft" data-b="{name}"{"" if name == FIRST else " hidden"}>'
        f"Boundary <b>{escape(name)}</b>: {escape(text)}.</p>"
        for name, text in BOUNDARY_WORDS.items()
    )
    return (
        f'<nav aria-label="boundary"><b>Count:</b>{choices}'
        f'<label>curve of <select id="benchmark">{options}</select></label></nav>{words}'
    )


def _section(table: Table, references: References) -> str:
    """A table with its title, its words and, where it is long, a filter."""
    head = "".join(
        f'<th{" class=num" if column.is_number else ""} scope="col">{escape(column.title)}</th>'
        for column in table.columns
    )
    rows = "".join(_row(table, row, references) for row in table.rows)
    identity = f"table-{table.key}"
    filtering = ""
    if len(table.rows) >= LONG:
        filtering = (
            f'<p><input type="search" data-for="{identity}" placeholder="filter these rows" '
            f'aria-label="filter {escape(table.title)}"></p>'
        )
    return (
        f"<section><h2>{escape(table.title)}</h2><p>{escape(table.intro)}</p>{filtering}"
        f'<div class="scroll"><table id="{identity}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _row(table: Table, row: Row, references: References) -> str:
    cells = "".join(
        f"<td{' class=num' if column.is_number else ''}>{_cell(row.cells.get(column.key), references)}</td>"
        for column in table.columns
    )
    mark = ""
    if row.boundary is not None:
        mark = f' data-b="{escape(row.boundary)}"' + ("" if row.boundary == FIRST else " hidden")
    return f"<tr{mark}>{cells}</tr>"


def _cell(cell: Cell | None, references: References) -> str:
    if cell is None or cell.text == "":
        return ""
    text = escape(cell.text)
    attributes = references.attributes(cell.references)
    if attributes:
        text = f'<a class="n" {attributes}>{text}</a>'
    return f'<span class="{escape(cell.tone)}">{text}</span>' if cell.tone else text


def _ratio_charts(claims: PaperClaims, references: References) -> str:
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


def _charted(claims: PaperClaims) -> list[tuple[str, str]]:
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


def _curves(claims: PaperClaims, references: References) -> str:
    """Score against training compute, one chart for each benchmark and boundary."""
    charted = _charted(claims)
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


def _convention() -> str:
    return (
        "<section><h2>How it was counted</h2><p>Published figures allow one convention for both sides: 6ND "
        "FLOPs to "
        "train (N parameters, active ones of a mixture of experts; D tokens seen), 2N a token to write or "
        "score, "
        "attention and embeddings not told apart (arXiv:2001.08361). The vanilla counterpart is the model "
        "that the "
        "student was made from. A student that keeps its base's architecture has its base's parameters. No "
        "ratio "
        "across methods is shown without that label.</p></section>"
    )
