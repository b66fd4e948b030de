"""The registry in memory: frozen models, figures and scores, each with the source it came from.

Several values of one figure stay side by side (`figures_named`); nothing here picks a winner. A figure that
no source gives is `None`. Loading takes about 0.3 s and happens once a process.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from stillmark.errors import UserError, did_you_mean
from stillmark.published.schema import (
    Area,
    Kind,
    Method,
    Metric,
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
