"""The paper report's tables about hours and money: ratios of hours, implied MFU, the price of the tokens."""

from stillmark.analysis.claims import PaperClaims
from stillmark.analysis.claims_inputs import InputName
from stillmark.analysis.claims_ratios import LabelledRatio
from stillmark.published.amounts import amount_text, figure_text, ratio_text
from stillmark.report.paper_cells import (
    Cell,
    Column,
    Row,
    Table,
    constant_reference,
    evidence_references,
    input_references,
    number_cell,
    text_cell,
)

TOKEN_INPUTS: tuple[InputName, ...] = ("kept_tokens", "samples", "tokens_per_sample")


def hours_table(claims: PaperClaims) -> Table:
    """Ratios of device-hours, and those across methods where they are asked for."""
    rows = [
        _labelled_row(claims, row)
        for row in (*claims.hours, *claims.against_rl, *claims.with_logits, *claims.mixed)
    ]
    intro = "Hours become FLOPs, or the reverse, only at a stated MFU. "
    if claims.mixed:
        intro += "Rows marked `mixed` divide two numbers that were counted in different ways: asked for in "
        "the study."
    elif claims.mixed_refusal:
        intro += f"Refused: {claims.mixed_refusal}"
    return Table(
        key="hours",
        title="The same claim on device-hours",
        intro=intro,
        columns=(
            Column(key="label", title="ratio"),
            Column(key="vanilla", title="vanilla side", is_number=True),
            Column(key="distilled", title="distilled side", is_number=True),
            Column(key="unit", title="unit"),
            Column(key="ratio", title="ratio", is_number=True),
            Column(key="methods", title="methods"),
            Column(key="note", title="note"),
        ),
        rows=tuple(rows),
    )


def _labelled_row(claims: PaperClaims, row: LabelledRatio) -> Row:
    vanilla = evidence_references(claims.registry, row.vanilla.evidence)
    inputs = input_references(claims.registry, claims.headline.inputs.inputs.values())
    distilled = evidence_references(claims.registry, row.distilled.evidence) or inputs
    sides = [side.detail or side.method for side in (row.vanilla, row.distilled)]
    methods = " over ".join(sides)
    return Row(
        cells={
            "label": text_cell(row.label),
            "vanilla": number_cell(row.vanilla.amount, _side_text(row.vanilla.amount), vanilla),
            "distilled": number_cell(row.distilled.amount, _side_text(row.distilled.amount), distilled),
            "unit": text_cell(row.vanilla.unit),
            "ratio": number_cell(row.ratio, ratio_text(row.ratio), (*vanilla, *distilled)),
            "methods": text_cell(
                f"mixed: {methods}" if row.is_mixed else methods, tone="mixed" * row.is_mixed
            ),
            "note": text_cell(row.note),
        }
    )


def _side_text(amount: float) -> str:
    return f"{amount:,.0f}" if amount < 1e12 else amount_text(amount, "FLOP")


def purchases_table(claims: PaperClaims) -> Table:
    """The kept tokens at the teacher's list price."""
    rows = []
    ratios = {item.inputs.model.id: item.inputs for item in claims.ratios}
    for item in claims.purchases:
        entries = ratios[item.model.id].inputs
        inputs = input_references(
            claims.registry, [entries[name] for name in TOKEN_INPUTS if name in entries]
        )
        price = evidence_references(claims.registry, (item.price,))
        tokens = _ends(item.tokens_low, item.tokens_high, "tokens")
        dollars = _ends(item.usd_low, item.usd_high, "USD")
        rows.append(
            Row(
                cells={
                    "model": text_cell(item.model.name),
                    "tokens": number_cell(item.tokens_low, tokens, inputs),
                    "price": number_cell(item.price.figure.value, figure_text(item.price.figure), price),
                    "usd": number_cell(item.usd_low, dollars, (*inputs, *price)),
                    "usd_high": Cell(text="", value=item.usd_high),
                }
            )
        )
    return Table(
        key="purchases",
        title="The teacher's tokens at its list price",
        intro="What the kept tokens would cost from the teacher's API, the rejected ones left out.",
        columns=(
            Column(key="model", title="distilled model"),
            Column(key="tokens", title="kept tokens", is_number=True),
            Column(key="price", title="USD per 1M output tokens", is_number=True),
            Column(key="usd", title="USD", is_number=True),
        ),
        rows=tuple(rows),
    )


def _ends(low: float, high: float, unit: str) -> str:
    texts = [amount_text(float(f"{end:.4g}"), unit) for end in (low, high)]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def implied_mfu_table(claims: PaperClaims) -> Table:
    """The utilisation that published hours and 6ND imply together."""
    rows = []
    for item in claims.implied_mfu:
        flops = evidence_references(claims.registry, item.flops_evidence)
        hours = evidence_references(claims.registry, (item.hours,))
        peak = constant_reference(item.peak)
        rows.append(
            Row(
                cells={
                    "model": text_cell(item.model.name),
                    "flops": number_cell(item.flops, amount_text(item.flops, "FLOP"), flops),
                    "hours": number_cell(item.hours.figure.value, figure_text(item.hours.figure), hours),
                    "unit": text_cell(item.hours.figure.unit),
                    "peak": number_cell(item.peak.value, amount_text(item.peak.value, "FLOP/s"), [peak]),
                    "mfu": number_cell(item.mfu, f"{item.mfu:.1%}", (*flops, *hours, peak)),
                }
            )
        )
    return Table(
        key="implied_mfu",
        title="The MFU that hours and FLOPs imply together",
        intro="6ND over hours x 3,600 x peak. Where this is far below the MFU that somebody quotes, hours "
        "at that MFU "
        "overstate the FLOPs.",
        columns=(
            Column(key="model", title="model"),
            Column(key="flops", title="6ND, FLOP", is_number=True),
            Column(key="hours", title="hours", is_number=True),
            Column(key="unit", title="device"),
            Column(key="peak", title="peak, FLOP/s", is_number=True),
            Column(key="mfu", title="implied MFU", is_number=True),
        ),
        rows=tuple(rows),
    )


def distillation_hours_table(claims: PaperClaims) -> Table:
    """Published hours of distillation runs against the headline's vanilla model."""
    rows = []
    for item in claims.distillation_hours:
        hours = evidence_references(claims.registry, (item.hours,))
        yardstick = evidence_references(claims.registry, (item.yardstick,))
        rows.append(
            Row(
                cells={
                    "model": text_cell(item.model.name),
                    "hours": number_cell(item.hours.figure.value, figure_text(item.hours.figure), hours),
                    "unit": text_cell(item.hours.figure.unit),
                    "ratio": number_cell(
                        item.ratio, ratio_text(item.ratio) if item.ratio else "", (*yardstick, *hours)
                    ),
                }
            )
        )
    vanilla = claims.registry.model(claims.headline.inputs.counterpart)
    claim = claims.settings.claims.compute_ratio
    hours_value = next((item.yardstick.figure.value for item in claims.distillation_hours), None)
    needed = f"{claim:,.0f} times is {hours_value / claim:,.0f} hours. " if hours_value else ""
    return Table(
        key="distillation_hours",
        title="Published hours of distillation runs",
        intro=f"Beside the hours of {vanilla.name}, which is not the base of most: {needed}Devices are not "
        f"converted.",
        columns=(
            Column(key="model", title="distilled model"),
            Column(key="hours", title="hours", is_number=True),
            Column(key="unit", title="device"),
            Column(key="ratio", title=f"hours of {vanilla.name} over these", is_number=True),
        ),
        rows=tuple(rows),
    )
