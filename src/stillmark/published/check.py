"""Every fault of a registry file, one clear line each: the schema's, and those that the whole file shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from stillmark.errors import UserError, did_you_mean
from stillmark.published.problems import Problem, joined, problem_line, schema_problems
from stillmark.published.read import KeyPath, load_yaml
from stillmark.published.schema import (
    FIGURES,
    AnswerLengthEntry,
    BenchmarkEntry,
    BenchmarkFile,
    ConstantEntry,
    FigureEntry,
    ModelEntry,
    RangeEntry,
    RegistryFile,
    ScoreEntry,
)

GUIDE = "docs/guide/add-a-model.md shows an entry that is right"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a contributor's file may lean on: the entries that the package ships."""

    source_keys: frozenset[str] = frozenset()
    model_ids: frozenset[str] = frozenset()
    benchmarks: Mapping[str, BenchmarkEntry] = field(default_factory=dict)


def parse_registry(text: str, name: str, known: Known) -> RegistryFile:
    """The checked entries of a registry file, or a `UserError` that names every fault."""
    data = load_yaml(text, name)
    if not isinstance(data, dict):
        raise UserError(f"{name}: a registry file is a mapping with `schema`, `sources` and `models`", GUIDE)
    try:
        file = RegistryFile.model_validate(data)
    except ValidationError as error:
        problems = list(schema_problems(error, data))
    else:
        problems = list(find_problems(file, known))
    if problems:
        raise UserError("\n".join(problem_line(problem, text, name, data) for problem in problems), GUIDE)
    return file


def parse_benchmarks(text: str, name: str) -> Mapping[str, BenchmarkEntry]:
    """The checked test sets of benchmarks.yaml."""
    data = load_yaml(text, name)
    try:
        return BenchmarkFile.model_validate(data).benchmarks
    except ValidationError as error:
        problems = schema_problems(error, data)
        raise UserError("\n".join(problem_line(problem, text, name, data) for problem in problems)) from None


def find_problems(file: RegistryFile, known: Known) -> Iterator[Problem]:
    """Faults that the schema cannot see: unknown sources and models, wrong units, duplicates, odd values."""
    sources = set(file.sources) | known.source_keys
    model_ids = {model.id for model in file.models} | known.model_ids
    for key in file.sources:
        if key in known.source_keys:
            yield Problem(
                path=("sources", key), message=f"duplicate: source `{key}` is in the registry already"
            )
    for index, constant in enumerate(file.constants):
        yield from _source_problems(("constants", index), constant, sources)
    seen: set[str] = set()
    for index, model in enumerate(file.models):
        path = ("models", index)
        if model.id in seen:
            yield Problem(
                path=(*path, "id"), message=f"duplicate: model `{model.id}` stands twice in this file"
            )
        if model.id in known.model_ids:
            yield Problem(
                path=(*path, "id"), message=f"duplicate: model `{model.id}` is in the registry already"
            )
        seen.add(model.id)
        yield from _lineage_problems(path, model, model_ids)
        yield from _figures_problems(path, model, sources)
        yield from _scores_problems(path, model, sources, known.benchmarks)
        yield from _lengths_problems(path, model, sources, known.benchmarks)


def _lineage_problems(path: KeyPath, model: ModelEntry, model_ids: set[str]) -> Iterator[Problem]:
    """Base and teachers must be in the registry where an id is given, and a model is not its own base."""
    named = [((*path, "base", "id"), model.base.id)] if model.base and model.base.id else []
    if model.teacher:
        named += [((*path, "teacher", "ids"), teacher) for teacher in model.teacher.ids]
    for where, other in named:
        if other not in model_ids:
            hint = did_you_mean(other, model_ids)
            yield Problem(path=where, message=joined(f"no model `{other}` in the registry", hint))
    if model.base and model.base.id == model.id:
        yield Problem(path=(*path, "base"), message="a model cannot be its own base")


def _figures_problems(path: KeyPath, model: ModelEntry, sources: set[str]) -> Iterator[Problem]:
    """Name, unit, source, value and duplicates of each figure."""
    names = {figure.name for figure in model.figures}
    seen: set[tuple[object, ...]] = set()
    for index, figure in enumerate(model.figures):
        here = (*path, "figures", index)
        yield from _figure_problems(here, figure, sources)
        for other in figure.derived_from:
            if other not in names:
                yield Problem(
                    path=(*here, "derived_from"), message=f"this model has no figure `{other}` to derive from"
                )
        key = (figure.name, figure.source, figure.where, figure.formula)
        if key in seen:
            yield Problem(
                path=here,
                message=f"duplicate: `{figure.name}` from the same place stands twice; "
                "give `where` if one source prints two values",
            )
        seen.add(key)


def _figure_problems(here: KeyPath, figure: FigureEntry, sources: set[str]) -> Iterator[Problem]:
    """One figure by itself."""
    units = FIGURES.get(figure.name)
    if units is None:
        message = joined(f"unknown figure `{figure.name}`", did_you_mean(figure.name, FIGURES))
        yield Problem(path=(*here, "name"), message=message)
    elif figure.unit not in units:
        yield Problem(
            path=(*here, "unit"),
            message=f"wrong unit: `{figure.name}` is in {' or '.join(units)}, not {figure.unit}",
        )
    if figure.source is not None or figure.method != "derived":
        yield from _source_problems(here, figure, sources)
    elif not figure.derived_from:
        yield Problem(
            path=here, message="missing `source`: a derived figure needs `source` or `derived_from`"
        )
    if figure.method == "derived" and figure.formula is None:
        yield Problem(path=here, message="missing `formula`: a derived figure says how it was worked out")
    yield from _value_problems((*here, "value"), figure)


def _value_problems(here: KeyPath, figure: FigureEntry) -> Iterator[Problem]:
    """Text where a number belongs, negative amounts, ranges upside down."""
    value = figure.value
    if isinstance(value, str) != (figure.unit == "text"):
        message = f"a number is needed in {figure.unit}, not the text `{value}`"
        if not isinstance(value, str):
            message = f"unit `text` needs text, not {value}"
        yield Problem(path=here, message=message)
    elif isinstance(value, RangeEntry):
        if not 0 <= value.low < value.high:
            yield Problem(
                path=here, message=f"a range needs 0 <= low < high, not {value.low} and {value.high}"
            )
    elif not isinstance(value, str) and value < 0:
        yield Problem(path=here, message=f"a figure cannot be negative, as {value} is")
    top = value.high if isinstance(value, RangeEntry) else value
    if figure.unit == "fraction" and isinstance(top, int | float) and top > 1:
        yield Problem(path=here, message=f"a fraction is at most 1, not {top}: is this in percent?")


def _scores_problems(
    path: KeyPath, model: ModelEntry, sources: set[str], benchmarks: Mapping[str, BenchmarkEntry]
) -> Iterator[Problem]:
    """Benchmark, metric, source, value and duplicates of each score."""
    seen: set[tuple[object, ...]] = set()
    for index, score in enumerate(model.scores):
        here = (*path, "scores", index)
        benchmark = benchmarks.get(score.benchmark)
        if benchmark is None:
            message = joined(
                f"unknown benchmark `{score.benchmark}`", did_you_mean(score.benchmark, benchmarks)
            )
            yield Problem(path=(*here, "benchmark"), message=message)
        elif score.metric not in benchmark.metrics:
            possible = ", ".join(benchmark.metrics)
            yield Problem(
                path=(*here, "metric"),
                message=f"`{score.benchmark}` is not scored by {score.metric}; possible: {possible}",
            )
        if (score.unit == "rating") != (score.metric == "rating"):
            yield Problem(path=(*here, "unit"), message=f"wrong unit: {score.metric} is not in {score.unit}")
        elif score.unit == "percent" and not 0 <= score.value <= 100:
            yield Problem(path=(*here, "value"), message=f"a percentage is from 0 to 100, not {score.value}")
        yield from _source_problems(here, score, sources)
        for other in score.also:
            if other not in sources:
                yield Problem(path=(*here, "also"), message=f"no source `{other}` in `sources`")
        key = score.model_copy(update={"value": 0, "note": None, "reported_by": "self", "also": ()})
        identity = tuple(key.model_dump().values())
        if identity in seen:
            yield Problem(
                path=here,
                message=f"duplicate: `{score.printed}` with these settings from this place stands twice",
            )
        seen.add(identity)


def _lengths_problems(
    path: KeyPath, model: ModelEntry, sources: set[str], benchmarks: Mapping[str, BenchmarkEntry]
) -> Iterator[Problem]:
    """Benchmark, source and duplicates of each answer length."""
    seen: set[tuple[object, ...]] = set()
    for index, length in enumerate(model.answer_lengths):
        here = (*path, "answer_lengths", index)
        if length.benchmark not in benchmarks:
            hint = did_you_mean(length.benchmark, benchmarks)
            message = joined(f"unknown benchmark `{length.benchmark}`", hint)
            yield Problem(path=(*here, "benchmark"), message=message)
        yield from _source_problems(here, length, sources)
        identity = (length.benchmark, length.thinking, length.source, length.where)
        if identity in seen:
            yield Problem(path=here, message=f"duplicate: `{length.printed}` from this place stands twice")
        seen.add(identity)


def _source_problems(
    here: KeyPath,
    entry: FigureEntry | ScoreEntry | ConstantEntry | AnswerLengthEntry,
    sources: set[str],
) -> Iterator[Problem]:
    """Each figure says where it was seen, and the place is described once under `sources`."""
    if entry.source is None:
        yield Problem(path=here, message="missing `source`: every figure says where it was seen")
    elif entry.source not in sources:
        hint = did_you_mean(entry.source, sources)
        message = joined(f"no source `{entry.source}`: describe it under `sources`", hint)
        yield Problem(path=(*here, "source"), message=message)
