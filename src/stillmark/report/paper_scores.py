"""The paper report's tables about performance: the size claim, the curves, density, disagreements."""

from collections import Counter

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_compute import BOUNDARIES
from stillmark.analysis.claims_size import Pair, SizeRow, Verdict, total_params
from stillmark.analysis.density import DensityRow
from stillmark.published.amounts import amount_text, score_text
from stillmark.report.paper_cells import (
    Cell,
    Column,
    Row,
    Table,
    evidence_references,
    length_references,
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
        f"{claims.settings.claims.nearest_multiple:g} times are shown too and marked.",
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


def curve_table(claims: PaperClaims) -> Table:
    """Every score beside the compute that its model took, under each boundary."""
    rows = []
    for boundary in BOUNDARIES:
        for point in claims.training[boundary]:
            flops = evidence_references(claims.registry, point.evidence)
            rows.append(
                Row(
                    boundary=boundary,
                    cells={
                        "model": text_cell(point.model.name),
                        "kind": text_cell(point.model.kind),
                        "family": text_cell(point.model.family),
                        "boundary": text_cell(boundary),
                        "benchmark": text_cell(point.score.benchmark.key),
                        "metric": text_cell(point.score.metric),
                        "variant": text_cell(point.score.variant),
                        "thinking": Cell(text=str(point.score.thinking), value=point.score.thinking),
                        "score": number_cell(
                            point.score.value,
                            score_text(point.score),
                            score_references(point.model, point.score),
                        ),
                        "flops_low": number_cell(
                            point.train_flops_low, amount_text(point.train_flops_low, "FLOP"), flops
                        ),
                        "flops_high": number_cell(
                            point.train_flops_high, amount_text(point.train_flops_high, "FLOP"), flops
                        ),
                        "is_floor": Cell(text="at least" if point.is_floor else "", value=point.is_floor),
                        "method": text_cell(point.method),
                        "note": text_cell(point.note),
                    },
                )
            )
    names = ("model", "kind", "family", "boundary", "benchmark", "metric", "variant", "thinking")
    numbers = ("score", "flops_low", "flops_high")
    return Table(
        key="curve",
        title="Score against training compute",
        intro="A vanilla model's own 6ND; of a distilled one what the boundary counts; of a proprietary "
        "one an "
        "outsider's estimate, where there is one.",
        columns=(
            *(Column(key=name, title=name) for name in names),
            *(Column(key=name, title=name.replace("_", " "), is_number=True) for name in numbers),
            Column(key="is_floor", title="floor"),
            Column(key="method", title="method"),
            Column(key="note", title="note"),
        ),
        rows=tuple(rows),
    )


def answers_table(claims: PaperClaims) -> Table:
    """Score against the compute of one answer, where answer lengths are published."""
    rows = []
    for point in claims.answers:
        size = evidence_references(claims.registry, (point.size,))
        length = length_references(point.model, point.length)
        thinking = {True: "thinking", False: "not thinking", None: "not stated"}[point.length.thinking]
        rows.append(
            Row(
                cells={
                    "model": text_cell(point.model.name),
                    "kind": text_cell(point.model.kind),
                    "benchmark": text_cell(point.length.benchmark.name),
                    "mode": text_cell(thinking),
                    "score": number_cell(point.length.score, f"{point.length.score:g}", length),
                    "tokens": number_cell(point.length.tokens, f"{point.length.tokens:,.0f}", length),
                    "params": number_cell(
                        point.size.figure.value, amount_text(point.size.figure.value or 0, "parameters"), size
                    ),
                    "flops": number_cell(
                        point.flops_per_answer, amount_text(point.flops_per_answer, "FLOP"), (*length, *size)
                    ),
                }
            )
        )
    return Table(
        key="answers",
        title="Score against the compute of one answer",
        intro="2N FLOPs a token written, N being active parameters; the prompt and attention left out. "
        "Only models whose "
        "mean answer length was found with the score of the same run: no distilled model is among them so "
        "far.",
        columns=(
            Column(key="model", title="model"),
            Column(key="kind", title="kind"),
            Column(key="benchmark", title="benchmark"),
            Column(key="mode", title="mode"),
            Column(key="score", title="score", is_number=True),
            Column(key="tokens", title="tokens an answer", is_number=True),
            Column(key="params", title="active parameters", is_number=True),
            Column(key="flops", title="FLOP an answer", is_number=True),
        ),
        rows=tuple(rows),
    )


def density_table(claims: PaperClaims) -> Table:
    """Capability density of each distilled model by each of its scores."""
    family, rules = claims.settings.reference_family, claims.settings.density
    return Table(
        key="density",
        title="Capability density",
        intro=f"The size that the reference family ({family}, vanilla) would need for the score, over the "
        f"true size; with "
        f"a {rules.confidence:.0%} interval of the fit. Nothing is read beyond the family's own sizes, and "
        f"a fit with "
        f"R squared below {rules.least_r_squared:g} or fewer than {rules.least_models} models is refused. "
        f"After the "
        "densing law (arXiv:2412.04315), fitted on scores where the law goes by way of a loss.",
        columns=(
            Column(key="model", title="distilled model"),
            Column(key="benchmark", title="benchmark"),
            Column(key="score", title="score", is_number=True),
            Column(key="params", title="true size", is_number=True),
            Column(key="effective", title="effective size", is_number=True),
            Column(key="density", title="density", is_number=True),
            Column(key="interval", title="interval"),
            Column(key="status", title="status"),
            Column(key="note", title="fit, or why refused"),
        ),
        rows=tuple(_density_row(claims, row) for row in claims.density),
    )


def _density_row(claims: PaperClaims, row: DensityRow) -> Row:
    score = score_references(row.model, row.score)
    fit = [
        reference
        for model_id, _, other in (row.fit.points if row.fit else ())
        for reference in score_references(claims.registry.model(model_id), other)
    ]
    evidence = total_params(claims.registry, row.model)
    size = evidence_references(claims.registry, (evidence,)) if evidence else ()
    sign = {"at_least": "at least ", "at_most": "at most "}.get(row.status, "")
    effective = amount_text(row.effective_params, "parameters") if row.effective_params else ""
    note = row.reason
    if row.fit and row.status == "value":
        note = f"R squared {row.fit.r_squared:.2f} over {len(row.fit.points)} models"
    return Row(
        cells={
            "model": text_cell(row.model.name),
            "benchmark": text_cell(f"{row.score.benchmark.name} ({row.score.variant})"),
            "score": number_cell(row.score.value, score_text(row.score), score),
            "params": number_cell(row.params, amount_text(row.params, "parameters"), size),
            "effective": number_cell(row.effective_params, sign + effective, (*score, *fit)),
            "density": number_cell(
                row.density, f"{sign}{row.density:.2f}" if row.density else "", (*score, *fit)
            ),
            "interval": text_cell(interval_words(row)),
            "status": text_cell(row.status.replace("_", " "), tone=row.status),
            "note": text_cell(note),
        }
    )


def interval_words(row: DensityRow) -> str:
    """The interval of a density, an end beyond the family's sizes being named and not given."""
    if row.fit is None or row.density_low is None or row.density_high is None:
        return ""
    smallest, largest = row.fit.smallest / row.params, row.fit.largest / row.params
    low = f"{row.density_low:.2f}" if row.density_low >= smallest else f"below {smallest:.2f}"
    high = f"{row.density_high:.2f}" if row.density_high <= largest else f"above {largest:.2f}"
    return f"{low} to {high}"


def disagreements_table(claims: PaperClaims) -> Table:
    """Scores for which sources give different values."""
    rows = []
    for model, benchmark, scores in claims.disagreements:
        references = [reference for score in scores for reference in score_references(model, score)]
        values = ", ".join(f"{score_text(score)} ({score.source.key})" for score in scores)
        spread = max(score.value for score in scores) - min(score.value for score in scores)
        rows.append(
            Row(
                cells={
                    "model": text_cell(model.name),
                    "benchmark": text_cell(claims.registry.benchmarks[benchmark].name),
                    "metric": text_cell(scores[0].metric),
                    "values": Cell(text=values, value=values, references=tuple(references)),
                    "spread": Cell(
                        text=f"{spread:.1f}", value=round(spread, 6), references=tuple(references)
                    ),
                }
            )
        )
    return Table(
        key="disagreements",
        title="Where sources disagree",
        intro="One model, one test set, equal settings as far as stated. All values are kept.",
        columns=(
            Column(key="model", title="model"),
            Column(key="benchmark", title="benchmark"),
            Column(key="metric", title="metric"),
            Column(key="values", title="values"),
            Column(key="spread", title="spread", is_number=True),
        ),
        rows=tuple(rows),
    )
