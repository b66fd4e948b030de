"""The registry: the entries that the package ships, and a user's own files beside them.

Loading takes about 0.3 s and happens once a process. What comes out is in `entries.py` and can be imported from here.
"""

from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path

from stillmark.published.check import Known, parse_benchmarks, parse_registry
from stillmark.published.entries import (
    AnswerLength,
    Benchmark,
    Constant,
    Figure,
    Lineage,
    Model,
    Registry,
    Score,
    Source,
)
from stillmark.published.read import read_text
from stillmark.published.schema import (
    BaseEntry,
    ConstantEntry,
    FigureEntry,
    ModelEntry,
    RangeEntry,
    RegistryFile,
    ScoreEntry,
)

__all__ = [
    "AnswerLength",
    "Benchmark",
    "Constant",
    "Figure",
    "Lineage",
    "Model",
    "Registry",
    "Score",
    "Source",
    "check_file",
    "load_registry",
    "load_with",
]


@cache
def load_registry() -> Registry:
    """The registry that the package ships, read once."""
    folder = resources.files("stillmark.published")
    benchmarks = parse_benchmarks((folder / "benchmarks.yaml").read_text("utf-8"), "benchmarks.yaml")
    text = (folder / "models.yaml").read_text("utf-8")
    file = parse_registry(text, "models.yaml", Known(benchmarks=benchmarks))
    tests = {key: Benchmark(key=key, **entry.model_dump()) for key, entry in benchmarks.items()}
    return _assemble(Registry((), {}, tests, ()), file)


def load_with(paths: Iterable[Path]) -> Registry:
    """The shipped registry with the entries of a user's files added to it."""
    registry = load_registry()
    for path in paths:
        registry = _assemble(registry, check_file(path, registry))
    return registry


def check_file(path: Path, registry: Registry | None = None) -> RegistryFile:
    """A contributor's file, checked against the registry; a `UserError` names every fault."""
    registry = registry or load_registry()
    folder = resources.files("stillmark.published")
    benchmarks = parse_benchmarks((folder / "benchmarks.yaml").read_text("utf-8"), "benchmarks.yaml")
    known = Known(
        source_keys=frozenset(registry.sources),
        model_ids=frozenset(model.id for model in registry.models),
        benchmarks=benchmarks,
    )
    return parse_registry(read_text(path), str(path), known)


def _assemble(registry: Registry, file: RegistryFile) -> Registry:
    """A registry with a file's entries added, each key of a source turned into the source."""
    sources = dict(registry.sources)
    for key, entry in file.sources.items():
        sources[key] = Source(key=key, url=entry.url, kind=entry.kind, seen=entry.seen)
    models = tuple(_model(entry, sources, registry.benchmarks) for entry in file.models)
    constants = tuple(_constant(entry, sources) for entry in file.constants)
    return Registry(
        (*registry.models, *models), sources, registry.benchmarks, (*registry.constants, *constants)
    )


def _model(entry: ModelEntry, sources: dict[str, Source], benchmarks: dict[str, Benchmark]) -> Model:
    return Model(
        id=entry.id,
        name=entry.name,
        kind=entry.kind,
        family=entry.family,
        base=_lineage(entry.base) if entry.base else None,
        teacher=entry.teacher.printed if entry.teacher else None,
        teacher_ids=entry.teacher.ids if entry.teacher else (),
        teacher_signal=entry.teacher_signal,
        distillation=entry.method,
        figures=tuple(_figure(figure, sources) for figure in entry.figures),
        scores=tuple(_score(entry.id, score, sources, benchmarks) for score in entry.scores),
        answer_lengths=tuple(
            AnswerLength(
                model_id=entry.id,
                benchmark=benchmarks[length.benchmark],
                source=sources[length.source],
                **length.model_dump(exclude={"benchmark", "source"}),
            )
            for length in entry.answer_lengths
        ),
    )


def _lineage(entry: BaseEntry) -> Lineage:
    return Lineage(
        printed=entry.printed,
        model_id=entry.id,
        variant=entry.variant,
        is_pruned=entry.relation == "pruned",
    )


def _figure(entry: FigureEntry, sources: dict[str, Source]) -> Figure:
    value = entry.value
    low: float | None
    high: float | None
    if isinstance(value, RangeEntry):
        low, high, text = value.low, value.high, None
    elif isinstance(value, str):
        low, high, text = None, None, value
    else:
        low, high, text = value, value, None
    return Figure(
        name=entry.name,
        unit=entry.unit,
        method=entry.method,
        low=low,
        high=high,
        text=text,
        printed=entry.printed,
        source=sources[entry.source] if entry.source else None,
        where=entry.where,
        formula=entry.formula,
        derived_from=entry.derived_from,
        note=entry.note,
    )


def _score(
    model_id: str, entry: ScoreEntry, sources: dict[str, Source], benchmarks: dict[str, Benchmark]
) -> Score:
    settings = entry.model_dump(exclude={"benchmark", "source", "also"})
    return Score(
        model_id=model_id,
        benchmark=benchmarks[entry.benchmark],
        source=sources[entry.source],
        also=tuple(sources[key] for key in entry.also),
        **settings,
    )


def _constant(entry: ConstantEntry, sources: dict[str, Source]) -> Constant:
    return Constant(
        name=entry.name,
        value=entry.value,
        unit=entry.unit,
        source=sources[entry.source],
        where=entry.where,
        note=entry.note,
    )
