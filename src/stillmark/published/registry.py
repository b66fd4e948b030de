"""The registry in memory: frozen models, figures and scores, each with the source it came from.

Several values of one figure stay side by side (`figures_named`); nothing here picks a winner. A figure that
no source gives is `None`. Loading takes about 0.3 s and happens once a process.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from stillmark.errors import UserError, did_you_mean
from stillmark.published.check import Known, parse_benchmarks, parse_registry
from stillmark.published.read import read_text
from stillmark.published.schema import (
    Area,
    BaseEntry,
    ConstantEntry,
    FigureEntry,
    Kind,
    Method,
    Metric,
    ModelEntry,
    RangeEntry,
    RegistryFile,
    ScoreEntry,
    ScoreUnit,
    TeacherSignal,
    Unit,
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where figures were seen."""

    key: str
    url: str
    kind: str
    seen: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure from one source; `low` and `high` differ where the source gives a range."""

    name: str
    unit: Unit
    method: Method
    low: float | None
    high: float | None
    text: str | None
    printed: str | None
    source: Source | None
    where: str | None
    formula: str | None
    derived_from: tuple[str, ...]
    note: str | None

    @property
    def value(self) -> float | None:
        """The number, or None where the figure is a range or text."""
        return self.low if self.low == self.high else None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One test set: the items that a score is on."""

    key: str
    name: str
    family: str
    area: Area
    metrics: tuple[Metric, ...]
    is_comparable: bool
    num_items: int | None
    items_source: str | None
    chance_percent: float
    note: str | None


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of one model, with the settings that its source states; None is not stated."""

    model_id: str
    benchmark: Benchmark
    printed: str
    value: float
    unit: ScoreUnit
    metric: Metric
    variant: str
    source: Source
    also: tuple[Source, ...]
    reported_by: str
    where: str | None
    note: str | None
    thinking: bool | None
    checkpoint: str | None
    num_fewshot: int | None
    chain_of_thought: bool | None
    num_responses: int | None
    max_new_tokens: int | None
    temperature: float | None
    decoding: str | None
    harness: str | None


@dataclass(frozen=True, kw_only=True)
class AnswerLength:
    """Mean tokens per answer of one model on one test set, with its score (percent) in that run."""

    model_id: str
    benchmark: Benchmark
    printed: str
    tokens: float
    score: float | None
    thinking: bool | None
    source: Source
    reported_by: str
    where: str | None
    note: str | None


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What a model started from."""

    printed: str
    model_id: str | None
    variant: str | None
    is_pruned: bool


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model with everything that others have published about it."""

    id: str
    name: str
    kind: Kind
    family: str
    base: Lineage | None
    teacher: str | None
    teacher_ids: tuple[str, ...]
    teacher_signal: TeacherSignal | None
    distillation: str | None
    """How it was distilled, in words."""
    figures: tuple[Figure, ...]
    scores: tuple[Score, ...]
    answer_lengths: tuple[AnswerLength, ...]

    def figures_named(self, name: str) -> tuple[Figure, ...]:
        """Every value of one figure, in the file's order: disagreements stay side by side."""
        return tuple(figure for figure in self.figures if figure.name == name)

    def figure(self, name: str) -> Figure | None:
        """The first value of a figure in the file's order, or None where no source gives it."""
        return next(iter(self.figures_named(name)), None)

    def scores_on(self, benchmark: str) -> tuple[Score, ...]:
        """Every score on one test set."""
        return tuple(score for score in self.scores if score.benchmark.key == benchmark)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A figure that belongs to no model."""

    name: str
    value: float
    unit: Unit
    source: Source
    where: str | None
    note: str | None


@dataclass(frozen=True)
class Registry:
    """All of it, with look-ups."""

    models: tuple[Model, ...]
    sources: dict[str, Source]
    benchmarks: dict[str, Benchmark]
    constants: tuple[Constant, ...]

    def model(self, model_id: str) -> Model:
        """A model by its id, or by its name in any case; a `UserError` where there is none."""
        wanted = model_id.casefold()
        for model in self.models:
            if wanted in (model.id.casefold(), model.name.casefold()):
                return model
        ids = [model.id for model in self.models]
        message = f"no model `{model_id}` among the {len(ids)} published ones"
        raise UserError(message, did_you_mean(wanted, ids) or "`stillmark published list` shows them")

    def find(self, model_id: str | None) -> Model | None:
        """A model by its id, or None."""
        return next((model for model in self.models if model.id == model_id), None)

    def of_kind(self, *kinds: Kind) -> tuple[Model, ...]:
        """The models of these kinds, in the file's order."""
        return tuple(model for model in self.models if model.kind in kinds)

    @property
    def num_figures(self) -> int:
        """How many figures, over all models."""
        return sum(len(model.figures) for model in self.models)

    @property
    def num_scores(self) -> int:
        """How many scores, over all models."""
        return sum(len(model.scores) for model in self.models)

    def disagreements(self) -> Iterator[tuple[Model, str, tuple[Score, ...]]]:
        """Scores of one model on one test set, with equal stated settings, that sources put differently."""
        for model in self.models:
            groups: dict[tuple[object, ...], list[Score]] = {}
            for score in model.scores:
                metric = "accuracy" if score.metric == "pass@1" else score.metric
                shots = (score.num_fewshot, score.chain_of_thought, score.decoding)
                key = (score.benchmark.key, metric, score.variant, score.thinking, score.checkpoint, *shots)
                groups.setdefault(key, []).append(score)
            for scores in groups.values():
                if len({score.value for score in scores}) > 1:
                    yield model, scores[0].benchmark.key, tuple(scores)


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
