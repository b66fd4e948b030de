"""The performance-to-compute curves: score against training compute under each boundary, and against the
compute of one answer.

Training: a vanilla model has its own 6ND whatever the boundary; a distilled one what the boundary counts, as
a range where an input is one. Where a stage cannot be counted the point is a floor: the model took at least
that. A proprietary model has an estimate by an outsider or no place on the axis. Answering: 2N FLOPs a token
written (N active parameters), attention and the prompt left out, where a mean answer length is published.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from stillmark.analysis.claims_compute import BOUNDARIES, Boundary, corners, distilled_flops, missing_stages
from stillmark.analysis.claims_inputs import (
    Evidence,
    RatioInputs,
    gather,
    params_evidence,
    student_params,
)
from stillmark.published.registry import AnswerLength, Model, Registry, Score
from stillmark.published.settings import PublishedSettings

Method = Literal["6ND", "estimated", "6ND and 2ND"]


@dataclass(frozen=True, kw_only=True)
class TrainingPoint:
    """One score of one model beside what it took to make, under one boundary."""

    model: Model
    score: Score
    boundary: Boundary
    train_flops_low: float
    train_flops_high: float
    is_floor: bool
    method: Method
    evidence: tuple[Evidence, ...]
    note: str


@dataclass(frozen=True, kw_only=True)
class AnswerPoint:
    """One score of one model beside the FLOPs of writing one answer."""

    model: Model
    length: AnswerLength
    flops_per_answer: float
    size: Evidence


@dataclass(frozen=True, kw_only=True)
class TrainingCompute:
    """What a model took to make under one boundary."""

    low: float
    high: float
    is_floor: bool
    method: Method
    evidence: tuple[Evidence, ...]
    note: str


def training_points(
    registry: Registry, settings: PublishedSettings, boundary: Boundary
) -> tuple[TrainingPoint, ...]:
    """Every score of every released model whose training compute can be had under a boundary."""
    points: list[TrainingPoint] = []
    for model in registry.models:
        compute = training_compute(registry, model, settings, boundary)
        if compute is None:
            continue
        points += (
            TrainingPoint(
                model=model,
                score=score,
                boundary=boundary,
                train_flops_low=compute.low,
                train_flops_high=compute.high,
                is_floor=compute.is_floor,
                method=compute.method,
                evidence=compute.evidence,
                note=compute.note,
            )
            for score in model.scores
            if score.checkpoint is None and score.benchmark.is_comparable
        )
    return tuple(points)


def training_compute(
    registry: Registry, model: Model, settings: PublishedSettings, boundary: Boundary
) -> TrainingCompute | None:
    """FLOPs that a model took to make under a boundary, or None where nothing is published."""
    if model.kind == "proprietary":
        return _estimate(model)
    if model.kind == "distilled":
        inputs = gather(registry, model, settings)
        if isinstance(inputs, RatioInputs):
            return _distilled(inputs, boundary)
        return None if model.base else _pretrained(registry, model, is_distilled=True, boundary=boundary)
    if model.kind == "vanilla" and model.base is None:
        return _pretrained(registry, model, is_distilled=False, boundary=boundary)
    return None


def answer_points(registry: Registry) -> tuple[AnswerPoint, ...]:
    """Every published answer length with the score of its run and the parameters of its model."""
    return tuple(_answers(registry))


def _answers(registry: Registry) -> Iterator[AnswerPoint]:
    for model in registry.models:
        size = student_params(registry, model)
        if size is None or size.figure.value is None:
            continue
        for length in model.answer_lengths:
            if length.score is not None:
                yield AnswerPoint(
                    model=model,
                    length=length,
                    flops_per_answer=2 * size.figure.value * length.tokens,
                    size=size,
                )


def _distilled(inputs: RatioInputs, boundary: Boundary) -> TrainingCompute:
    """The stages that a boundary counts, over the ranges of all inputs."""
    missing = missing_stages(inputs, boundary)
    amounts = [
        distilled_flops(inputs, boundary, inputs.values(**corner), known_only=bool(missing))
        for corner in corners(inputs)
    ]
    known = [flops for flops in amounts if flops is not None]
    evidence = tuple(item for entry in inputs.inputs.values() for item in entry.evidence)
    note = "; ".join((f"counts: {', '.join(BOUNDARIES[boundary])}", *missing))
    return TrainingCompute(
        low=min(known),
        high=max(known),
        is_floor=bool(missing),
        method="6ND" if boundary == "student" else "6ND and 2ND",
        evidence=evidence,
        note=note,
    )


def _pretrained(
    registry: Registry, model: Model, *, is_distilled: bool, boundary: Boundary
) -> TrainingCompute | None:
    """6ND of a model's own pretraining; a floor where a teacher had a part in it that is not published."""
    size, tokens = params_evidence(model), model.figure("pretraining_tokens")
    if size is None or size.figure.value is None or tokens is None or tokens.value is None:
        return None
    flops = 6 * size.figure.value * tokens.value
    is_floor = is_distilled and boundary not in ("student", "base")
    note = tokens.note or ""
    if is_distilled:
        note = f"distilled in or after its own pretraining; what the teacher took is not counted. {note}"
    return TrainingCompute(
        low=flops,
        high=flops,
        is_floor=is_floor,
        method="6ND",
        evidence=(size, Evidence(model_id=model.id, figure=tokens)),
        note=note.strip(),
    )


def _estimate(model: Model) -> TrainingCompute | None:
    """An outsider's estimate of a proprietary model's training."""
    figure = model.figure("training_flop_estimate")
    if figure is None or figure.value is None:
        return None
    return TrainingCompute(
        low=figure.value,
        high=figure.value,
        is_floor=False,
        method="estimated",
        evidence=(Evidence(model_id=model.id, figure=figure),),
        note=figure.note or "",
    )
