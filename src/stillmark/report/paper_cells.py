"""Tables whose every number knows where it comes from: what the paper report shows and writes to files."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from stillmark.analysis.claims_inputs import Evidence, Input
from stillmark.published.amounts import figure_text, score_text
from stillmark.published.registry import AnswerLength, Benchmark, Constant, Model, Registry, Score, Source


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Where one number comes from. `url` is None for what is assumed: then `note` says why."""

    what: str
    value: str
    method: str
    source: str | None = None
    url: str | None = None
    where: str | None = None
    seen: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is shown, the plain value that is written to files, and the references behind it."""

    text: str
    value: float | int | str | bool | None = None
    references: tuple[Reference, ...] = ()
    tone: str = ""
    """A verdict's name, for its colour."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column; `is_number` sets it flush right."""

    key: str
    title: str
    is_number: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row; `boundary` is set where it belongs to one boundary only."""

    cells: dict[str, Cell]
    boundary: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table under a stable name."""

    key: str
    title: str
    intro: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = field(default=())


def text_cell(text: str | None, tone: str = "") -> Cell:
    """A cell of words."""
    return Cell(text=text or "", value=text, tone=tone)


def number_cell(value: float | None, text: str, references: Iterable[Reference] = ()) -> Cell:
    """A cell of a number; unknown is shown as unknown."""
    return Cell(text=text if value is not None else "unknown", value=value, references=unique(references))


def unique(references: Iterable[Reference]) -> tuple[Reference, ...]:
    """Each reference once, in order."""
    return tuple(dict.fromkeys(references))


def evidence_references(registry: Registry, evidence: Iterable[Evidence]) -> tuple[Reference, ...]:
    """The references of figures; a derived one without a source brings those that it was derived from."""
    found: list[Reference] = []
    for item in evidence:
        model, figure = registry.model(item.model_id), item.figure
        inputs = [
            Evidence(model_id=model.id, figure=other)
            for name in figure.derived_from
            for other in model.figures_named(name)
        ]
        origin = figure.source or next((other.figure.source for other in inputs if other.figure.source), None)
        notes = [f"= {figure.formula}"] if figure.formula else []
        notes += [figure.note] if figure.note else []
        found.append(
            _reference(
                what=f"{model.name}: {figure.name.replace('_', ' ')}",
                value=f"{figure_text(figure)} {figure.unit}",
                method=figure.method,
                source=origin,
                where=figure.where,
                note="; ".join(notes),
            )
        )
        found += evidence_references(registry, inputs)
    return unique(found)


def input_references(registry: Registry, inputs: Iterable[Input]) -> tuple[Reference, ...]:
    """The references of a ratio's inputs: published ones with their source, assumed ones with their basis."""
    found: list[Reference] = []
    for item in inputs:
        if item.evidence:
            found += evidence_references(registry, item.evidence)
        else:
            found.append(
                Reference(
                    what=item.name.replace("_", " "),
                    value=f"{item.low:,.6g} to {item.high:,.6g}",
                    method=item.status,
                    note=item.basis,
                )
            )
    return unique(found)


def score_references(model: Model, score: Score) -> tuple[Reference, ...]:
    """The source of a score, and the others that print the same value."""
    what = f"{model.name}: {score.printed}"
    value = score_text(score)
    first = _reference(
        what=what,
        value=value,
        method=f"published, reported by {score.reported_by}",
        source=score.source,
        where=score.where,
        note=score.note,
    )
    others = [
        _reference(what=what, value=value, method="the same value", source=source, where=None, note=None)
        for source in score.also
    ]
    return (first, *others)


def length_references(model: Model, length: AnswerLength) -> tuple[Reference, ...]:
    """The source of an answer length."""
    return (
        _reference(
            what=f"{model.name}: tokens per answer on {length.printed}",
            value=f"{length.tokens:,.0f} tokens",
            method=f"published, reported by {length.reported_by}",
            source=length.source,
            where=length.where,
            note=length.note,
        ),
    )


def constant_reference(constant: Constant) -> Reference:
    """The source of a constant."""
    return _reference(
        what=constant.name.replace("_", " "),
        value=f"{constant.value:.5g} {constant.unit}",
        method="published",
        source=constant.source,
        where=constant.where,
        note=constant.note,
    )


def limit_references(benchmark: Benchmark, reason: str) -> tuple[Reference, ...]:
    """What a tie limit rests on: the study's margin, and the number of items where it is known."""
    stated = Reference(what="tie limit", value=reason, method="stated in the study")
    if benchmark.num_items is None:
        return (stated,)
    return (
        stated,
        Reference(
            what=f"{benchmark.name}: number of items",
            value=f"{benchmark.num_items:,}",
            method="published",
            source="benchmarks.yaml",
            url=benchmark.items_source,
            note=benchmark.note,
        ),
    )


def _reference(
    *, what: str, value: str, method: str, source: Source | None, where: str | None, note: str | None
) -> Reference:
    return Reference(
        what=what,
        value=value,
        method=method,
        source=source.key if source else None,
        url=source.url if source else None,
        where=where,
        seen=source.seen if source else None,
        note=note or None,
    )
