"""The paper report's tables about size: the claim benchmark by benchmark, by area, and against the own base."""

from collections import Counter

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_size import Pair, SizeRow, Verdict
from stillmark.published.amounts import score_text
from stillmark.report.paper_cells import (
    Cell,
    Column,
    Row,
    Table,
    evidence_references,
    limit_references,
    number_cell,
    score_references,
    text_cell,
)

VERDICTS: tuple[Verdict, ...] = ("supported", "tie", "contradicted", "unknown")


def size_table(claims: PaperClaims) -> Table:
    """The size claim, one row for each comparison."""
    multiple = claims.settings.claims.size_multiple
    return Table(
        key="size",
        title=f"On par with models {multiple:g} times the size? Benchmark by benchmark",
        intro=f"Scores stand beside each other only on one test set, by one metric, of one variant. A tie "
        f"is a "
        f"difference of at most {claims.settings.claims.tie_margin_points:g} points or "
        f"{claims.settings.claims.tie_z:g} standard errors, whichever is more. Comparators from "
        f"{claims.settings.claims.nearest_multiple:g} times are shown too and marked. A distilled "
        f"reasoning model writes many times the tokens of a "
        "vanilla one: equal size is not equal compute of an answer.",
        columns=_size_columns(),
        rows=tuple(_size_row(claims, row) for row in claims.size_rows),
    )


def own_base_table(claims: PaperClaims) -> Table:
    """Each distilled model against the model that it was made from."""
    return Table(
        key="own_base",
        title="Against the model it was made from",
        intro="What distillation raised and what it lowered: `supported` is above the base, `contradicted` "
        "below.",
        columns=_size_columns(),
        rows=tuple(_size_row(claims, row) for row in claims.own_base_rows),
    )


def _size_columns() -> tuple[Column, ...]:
    return (
        Column(key="student", title="distilled model"),
        Column(key="comparator", title="larger model"),
        Column(key="multiple", title="times the size", is_number=True),
        Column(key="area", title="area"),
        Column(key="benchmark", title="benchmark"),
        Column(key="student_score", title="distilled", is_number=True),
        Column(key="comparator_score", title="larger", is_number=True),
        Column(key="limit", title="tie within", is_number=True),
        Column(key="verdict", title="verdict"),
        Column(key="differs", title="what differs, or why unknown"),
    )


def _size_row(claims: PaperClaims, row: SizeRow) -> Row:
    cells = {
        "student": text_cell(row.student.name),
        "comparator": text_cell(row.comparator.name if row.comparator else None),
        "area": text_cell(row.benchmark.area.replace("_", " ")),
        "benchmark": text_cell(row.benchmark.name),
    }
    if row.pair is None or row.comparator is None or row.size_multiple is None or row.comparator_size is None:
        return Row(
            cells=cells | {"verdict": text_cell("unknown", tone="unknown"), "differs": text_cell(row.reason)}
        )
    sizes = evidence_references(claims.registry, (row.student_size, row.comparator_size))
    times = f"{row.size_multiple:.1f}"
    if row.active_multiple is not None:
        times += f" ({row.active_multiple:.1f} active)"
    if not row.reaches_claim:
        times += " (below the claim)" if row.size_multiple > 2 else ""
    pair = row.pair
    return Row(
        cells=cells
        | {
            "multiple": number_cell(row.size_multiple, times, sizes),
            "student_score": _score_cell(claims, pair, row.other_pairs, is_student=True),
            "comparator_score": _score_cell(claims, pair, row.other_pairs, is_student=False),
            "limit": Cell(
                text=f"{pair.tie_limit:.1f}",
                value=pair.tie_limit,
                references=limit_references(row.benchmark, pair.tie_reason),
            ),
            "verdict": text_cell(_verdict_words(row), tone=pair.verdict),
            "differs": text_cell("; ".join((f"tie: {pair.tie_reason}", *pair.differs))),
        }
    )


def _verdict_words(row: SizeRow) -> str:
    """The verdict, and on how many pairings of the published values it rests where they disagree."""
    if not row.depends or row.pair is None:
        return row.verdict
    counts = Counter(pair.verdict for pair in (row.pair, *row.other_pairs))
    parts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"{row.verdict}; depends on which value ({parts})"


def _score_cell(claims: PaperClaims, pair: Pair, others: tuple[Pair, ...], *, is_student: bool) -> Cell:
    """The score of the judged pair first, then the other published values of it."""
    scores = [pair.student if is_student else pair.comparator]
    for other in others:
        score = other.student if is_student else other.comparator
        if score not in scores:
            scores.append(score)
    model = claims.registry.model(scores[0].model_id)
    text = score_text(scores[0])
    rest = [score_text(score) for score in scores[1:]]
    return Cell(
        text=f"{text} (also {', '.join(rest)})" if rest else text,
        value=scores[0].value,
        references=tuple(reference for score in scores for reference in score_references(model, score)),
    )


def size_summary_table(claims: PaperClaims) -> Table:
    """How many comparisons came out how, by area, with comparators of the claimed size only."""
    found: dict[tuple[str, str], dict[Verdict, list[SizeRow]]] = {}
    for row in claims.size_rows:
        if row.reaches_claim:
            key = (row.student.name, row.benchmark.area.replace("_", " "))
            found.setdefault(key, {verdict: [] for verdict in VERDICTS})[row.verdict].append(row)
    rows = [
        Row(
            cells={
                "student": text_cell(student),
                "area": text_cell(area),
                **{verdict: _count_cell(claims, judged[verdict]) for verdict in VERDICTS[:3]},
            }
        )
        for (student, area), judged in found.items()
    ]
    multiple = claims.settings.claims.size_multiple
    return Table(
        key="size_summary",
        title="The size claim by area",
        intro=f"Comparisons with vanilla models of at least {multiple:g} times the size; the table after "
        f"this one has each.",
        columns=(
            Column(key="student", title="distilled model"),
            Column(key="area", title="area"),
            *(Column(key=verdict, title=verdict, is_number=True) for verdict in VERDICTS[:3]),
        ),
        rows=tuple(rows),
    )


def _count_cell(claims: PaperClaims, rows: list[SizeRow]) -> Cell:
    """How many comparisons, with the scores of each behind the number."""
    references = [
        reference
        for row in rows
        if row.pair
        for score in (row.pair.student, row.pair.comparator)
        for reference in score_references(claims.registry.model(score.model_id), score)
    ]
    return number_cell(len(rows), str(len(rows)), references)
