"""The paper report's tables about compute: ratios, inputs, thresholds, hours, implied MFU."""

from stillmark.analysis.claims import ModelRatios, PaperClaims
from stillmark.analysis.claims_compute import (
    BOUNDARIES,
    Boundary,
    RatioRange,
    Threshold,
    ratio_at,
    tokens_at_claim,
)
from stillmark.analysis.claims_hours import LabelledRatio
from stillmark.analysis.claims_inputs import Input, InputName
from stillmark.published.amounts import amount_text, figure_text, ratio_text
from stillmark.report.paper_cells import (
    Cell,
    Column,
    Reference,
    Row,
    Table,
    constant_reference,
    evidence_references,
    input_references,
    number_cell,
    text_cell,
)

INPUT_UNITS = {
    "student_params": "parameters",
    "base_params": "parameters",
    "base_tokens": "tokens",
    "samples": "samples",
    "tokens_per_sample": "tokens a sample",
    "epochs": "epochs",
    "kept_tokens": "tokens",
    "tokens_seen": "tokens",
    "teacher_params": "parameters",
    "generated_per_kept": "generated per kept",
    "students_sharing_traces": "students",
    "teacher_post_training_flops": "FLOP",
    "teacher_pretraining_flops": "FLOP",
    "students_sharing_teacher": "students",
}

TOKEN_INPUTS: tuple[InputName, ...] = ("kept_tokens", "samples", "tokens_per_sample")

VARIANTS: tuple[tuple[str, Boundary, dict[InputName, float]], ...] = (
    ("the student's training alone", "student", {}),
    ("and the teacher's writing of the kept tokens", "generation", {}),
    ("the same, shared by all students", "generation", {"students_sharing_traces": 0}),
    ("four tokens written for one kept", "generation", {"generated_per_kept": 4}),
    ("eight", "generation", {"generated_per_kept": 8}),
    ("sixteen", "generation", {"generated_per_kept": 16}),
    (
        "and the teacher's post-training, shared by all students",
        "teacher_post",
        {"students_sharing_teacher": 0},
    ),
    ("and the teacher's pretraining too, shared by all students", "teacher", {"students_sharing_teacher": 0}),
    ("the student's training, the writing, and the pretraining of its own base", "base", {}),
    ("everything", "everything", {"students_sharing_teacher": 0}),
)
"""The headline model's rows: words, boundary, what differs from one student that pays for all that it kept. A
0 stands for the highest number of sharing students."""


def headline_table(claims: PaperClaims) -> Table:
    """The headline model's ratio, line by line, at one epoch and at the published ends."""
    inputs = claims.headline.inputs
    epochs = inputs.inputs.get("epochs")
    at = sorted({1.0, epochs.low, epochs.high}) if epochs else []
    references = input_references(claims.registry, inputs.inputs.values())
    rows = []
    for words, boundary, changes in VARIANTS:
        point: dict[str, float] = {
            name: inputs.inputs[name].high if amount == 0 else amount
            for name, amount in changes.items()
            if name in inputs.inputs
        }
        columns: list[dict[str, float]] = [{"epochs": count} for count in at] or [{}]
        ratios = [ratio_at(inputs, boundary, known_only=False, **point, **column) for column in columns]
        if all(ratio is None for ratio in ratios):
            continue
        cells = {"counted": text_cell(words), "boundary": text_cell(boundary)}
        for column, ratio in zip(columns, ratios, strict=True):
            key = f"epochs_{column['epochs']:g}" if column else "ratio"
            cells[key] = number_cell(ratio, ratio_text(ratio) if ratio else "", references)
        rows.append(Row(cells=cells))
    titles = [(f"epochs_{count:g}", f"{count:g} epoch{'s' if count != 1 else ''}") for count in at]
    counterpart = claims.registry.model(inputs.counterpart)
    tokens = tokens_at_claim(inputs, claims.settings.claims.compute_ratio)
    return Table(
        key="headline",
        title=f"{inputs.model.name}: how many times the compute of {counterpart.name}",
        intro=f"6ND of the vanilla model's pretraining over what is counted of the distilled one (6ND to "
        f"train, 2N a "
        f"token to write). {claims.settings.claims.compute_ratio:,.0f} times needs at most "
        f"{amount_text(tokens, 'tokens')} tokens seen in training, all else left out.",
        columns=(
            Column(key="counted", title="what is counted of the distilled model"),
            Column(key="boundary", title="boundary"),
            *(Column(key=key, title=title, is_number=True) for key, title in titles or [("ratio", "ratio")]),
        ),
        rows=tuple(rows),
    )


def ratios_table(claims: PaperClaims) -> Table:
    """Every computable model under every boundary."""
    rows = [
        Row(cells=_ratio_cells(claims, item, span), boundary=boundary)
        for boundary in BOUNDARIES
        for item in claims.ratios
        for span in (item.ranges[boundary],)
    ]
    claim = claims.settings.claims.compute_ratio
    return Table(
        key="ratios",
        title="The ratio of every distilled model that can be computed",
        intro=f"Lowest to highest over all that is not published. The claim of {claim:,.0f} times holds "
        f"over the "
        "whole range, depends on where in it the truth lies, or fails in all of it. Where a stage cannot be "
        "counted, the ratio is at most what is shown.",
        columns=(
            Column(key="model", title="distilled model"),
            Column(key="counterpart", title="vanilla counterpart"),
            Column(key="boundary", title="boundary"),
            Column(key="low", title="lowest", is_number=True),
            Column(key="high", title="highest", is_number=True),
            Column(key="verdict", title=f"{claim:,.0f} times"),
            Column(key="note", title="what is missing"),
        ),
        rows=tuple(rows),
    )


def _ratio_cells(claims: PaperClaims, item: ModelRatios, span: RatioRange) -> dict[str, Cell]:
    inputs = item.inputs
    references = input_references(claims.registry, inputs.inputs.values())
    is_ceiling = span.low is None and span.high is not None
    high = ratio_text(span.high) if span.high is not None else ""
    return {
        "model": text_cell(inputs.model.name),
        "counterpart": text_cell(claims.registry.model(inputs.counterpart).name),
        "boundary": text_cell(span.boundary),
        "low": number_cell(span.low, ratio_text(span.low) if span.low is not None else "", references),
        "high": number_cell(span.high, f"at most {high}" if is_ceiling else high, references),
        "verdict": text_cell(span.verdict, tone=span.verdict),
        "note": text_cell("; ".join(span.missing)),
    }


def thresholds_table(claims: PaperClaims) -> Table:
    """For each model, boundary and input, the value at which the claim flips."""
    rows = [
        Row(cells=_threshold_cells(claims, item, boundary, threshold), boundary=boundary)
        for boundary in BOUNDARIES
        for item in claims.ratios
        for threshold in item.ranges[boundary].thresholds
    ]
    return Table(
        key="thresholds",
        title="Where the claim flips",
        intro="The value of each input at which the ratio passes through the claim: with the other inputs "
        "at their "
        "least favourable (always) and at their most favourable (at best). `never`: no value does it.",
        columns=(
            Column(key="model", title="distilled model"),
            Column(key="boundary", title="boundary"),
            Column(key="input", title="input"),
            Column(key="value", title="its value", is_number=True),
            Column(key="status", title=""),
            Column(key="holds", title="the claim holds with"),
            Column(key="always", title="always", is_number=True),
            Column(key="at_best", title="at best", is_number=True),
        ),
        rows=tuple(rows),
    )


def _threshold_cells(
    claims: PaperClaims, item: ModelRatios, boundary: Boundary, threshold: Threshold
) -> dict[str, Cell]:
    entry = item.inputs.inputs[threshold.name]
    unit = INPUT_UNITS[threshold.name]
    references = input_references(claims.registry, [entry])
    everything = input_references(claims.registry, item.inputs.inputs.values())
    return {
        "model": text_cell(item.inputs.model.name),
        "boundary": text_cell(boundary),
        "input": text_cell(threshold.name.replace("_", " ")),
        "value": Cell(text=input_text(entry), value=input_text(entry), references=references),
        "status": text_cell(entry.status),
        "holds": text_cell(threshold.holds),
        "always": _flip_cell(threshold.low, unit, everything),
        "at_best": _flip_cell(threshold.high, unit, everything),
    }


def _flip_cell(value: float | None, unit: str, references: tuple[Reference, ...]) -> Cell:
    if value is None:
        return Cell(text="never", value=None, references=references)
    return Cell(text=amount_text(float(f"{value:.4g}"), unit), value=value, references=references)


def inputs_table(claims: PaperClaims) -> Table:
    """Every input of every ratio: published or assumed, its range, its source."""
    rows = [
        Row(
            cells={
                "model": text_cell(item.inputs.model.name),
                "input": text_cell(entry.name.replace("_", " ")),
                "low": number_cell(entry.low, input_text(entry), input_references(claims.registry, [entry])),
                "high": Cell(text="", value=entry.high),
                "unit": text_cell(INPUT_UNITS[entry.name]),
                "status": text_cell(entry.status, tone=entry.status),
                "basis": text_cell(entry.basis),
            }
        )
        for item in claims.ratios
        for entry in item.inputs.inputs.values()
    ]
    return Table(
        key="inputs",
        title="What the ratios are worked out from",
        intro="A published figure goes before an assumption. An assumed range is the study file's, with "
        "its basis.",
        columns=(
            Column(key="model", title="distilled model"),
            Column(key="input", title="input"),
            Column(key="low", title="value", is_number=True),
            Column(key="unit", title="unit"),
            Column(key="status", title="status"),
            Column(key="basis", title="basis or note"),
        ),
        rows=tuple(rows),
    )


def input_text(entry: Input) -> str:
    """An input's value or range, without its unit."""
    unit = INPUT_UNITS[entry.name]
    low, high = amount_text(entry.low, unit), amount_text(entry.high, unit)
    return low if entry.low == entry.high else f"{low} to {high}"


def not_computable_table(claims: PaperClaims) -> Table:
    """Distilled models without a ratio, with the reason."""
    return Table(
        key="not_computable",
        title="Distilled models for which no ratio can be computed",
        intro="Unknown is left unknown.",
        columns=(Column(key="model", title="distilled model"), Column(key="reason", title="why")),
        rows=tuple(
            Row(cells={"model": text_cell(item.model.name), "reason": text_cell(item.reason)})
            for item in claims.not_computable
        ),
    )


def hours_table(claims: PaperClaims) -> Table:
    """Ratios of device-hours, and those across methods where they are asked for."""
    rows = [_labelled_row(claims, row) for row in (*claims.hours, *claims.against_rl, *claims.mixed)]
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
    methods = f"{row.vanilla.method} over {row.distilled.method}"
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
