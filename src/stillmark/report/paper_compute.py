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
from stillmark.analysis.claims_inputs import Input, InputName
from stillmark.published.amounts import amount_text, ratio_text
from stillmark.report.paper_cells import (
    Cell,
    Column,
    Reference,
    Row,
    Table,
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
