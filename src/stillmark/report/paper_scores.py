"""The paper report's tables about performance: the curves, density, disagreements."""

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_compute import BOUNDARIES
from stillmark.analysis.claims_size import total_params
from stillmark.analysis.density import DensityRow
from stillmark.published.amounts import amount_text, score_text
from stillmark.report.paper_cells import (
    Cell,
    Column,
    Row,
    Table,
    evidence_references,
    length_references,
    number_cell,
    score_references,
    text_cell,
)


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
        "densing law (arXiv:2412.04315), fitted on scores where the law goes by way of a loss. A reasoning model "
        "writes many times the tokens of the reference family, so this is not density at equal compute of an answer.",
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
