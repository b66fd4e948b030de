"""The paper study as one self-contained page: every number opens its source, and a switch sets the boundary.

Everything that comes from the registry is escaped: text by `html.escape`, data for the script as JSON without
`<`. Without script the page shows the `student` boundary and each number still links to its first source.
"""

from html import escape

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_compute import (
    BOUNDARIES,
    BOUNDARY_WORDS,
    RatioRange,
    tokens_at_claim,
)
from stillmark.analysis.claims_size import VERDICT_WORDS
from stillmark.published.amounts import amount_text, ratio_text
from stillmark.report.paper_cells import (
    Cell,
    Row,
    Table,
    input_references,
)
from stillmark.report.paper_figures import FIRST, charted_benchmarks, curve_charts, ratio_charts
from stillmark.report.paper_links import References
from stillmark.report.paper_style import SCRIPT, STYLE

HOURS = ("hours", "implied_mfu", "distillation_hours", "purchases")
LONG = 12
"""A table has a filter from so many rows on."""


def page(claims: PaperClaims, tables: dict[str, Table]) -> str:
    """The whole page."""
    references = References()
    body = "\n".join(
        (
            _opening(claims, references),
            _switch(charted_benchmarks(claims)),
            "<main>",
            _section(tables["headline"], references),
            ratio_charts(claims, references),
            *(
                _section(tables[key], references)
                for key in ("ratios", "thresholds", "inputs", "not_computable")
            ),
            *(
                _section(tables[key], references)
                for key in ("hours", "implied_mfu", "distillation_hours", "purchases")
            ),
            *(_section(tables[key], references) for key in ("size_summary", "size", "own_base")),
            curve_charts(claims, references),
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
        f"{alone} times with the student's training alone, and {with_base} times once its own base counts. "
        f"The claim needs at most {linked(needed)} tokens seen in training, all else left out. What is counted "
        "decides; each number below opens the source that it rests on."
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
