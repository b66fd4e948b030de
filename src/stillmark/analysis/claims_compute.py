"""The compute claim: how many times more the vanilla model took than the distilled one, under each boundary.

Convention for published figures (stated wherever a ratio is shown): training is 6ND FLOPs (N parameters,
active ones of a mixture of experts; D tokens seen), writing or scoring a token is 2N, attention is left out
on both sides (Kaplan et al., arXiv:2001.08361). The vanilla side is 6ND of the student's base; where the
student keeps the base's architecture N cancels, and the ratio of the `student` boundary is one of tokens.

    student              6 N_student x tokens seen          tokens seen = samples x tokens a sample x epochs
    generation           2 N_teacher x tokens written / students that share them
                         tokens written = samples x tokens a sample x generated per kept (text);
                         tokens seen, once in each pass (logits)
    teacher_post, _pre   the teacher's own training / students that share the teacher
    base                 6 N_base x pretraining tokens
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

from stillmark.analysis.claims_inputs import InputName, RatioInputs

Stage = Literal["student", "generation", "teacher_post_training", "teacher_pretraining", "base"]
Boundary = Literal["student", "generation", "teacher_post", "teacher", "base", "everything"]

BOUNDARIES: dict[Boundary, tuple[Stage, ...]] = {
    "student": ("student",),
    "generation": ("student", "generation"),
    "teacher_post": ("student", "generation", "teacher_post_training"),
    "teacher": ("student", "generation", "teacher_post_training", "teacher_pretraining"),
    "base": ("student", "generation", "base"),
    "everything": ("student", "generation", "teacher_post_training", "teacher_pretraining", "base"),
}
"""Which stages each boundary counts."""

BOUNDARY_WORDS: dict[Boundary, str] = {
    "student": "the student's training alone",
    "generation": "and the teacher's text or logits",
    "teacher_post": "and the teacher's post-training, shared by k students",
    "teacher": "and all of the teacher's training, shared by k students",
    "base": "the student's training, the teacher's text, and the pretraining of the student's base",
    "everything": "all of these",
}

FALLS_WITH = ("samples", "tokens_per_sample", "epochs", "kept_tokens", "tokens_seen", "generated_per_kept")
"""Inputs that make the distilled side dearer: the ratio falls as they grow."""
RISES_WITH = ("base_tokens", "students_sharing_traces", "students_sharing_teacher")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """The value of one input at which a claimed ratio flips, the others anywhere in their ranges."""

    name: InputName
    low: float | None
    """With the others at their least favourable; None where no value of this input reaches the claim."""
    high: float | None
    """With the others at their most favourable."""
    holds: Literal["at most", "at least"]


@dataclass(frozen=True, kw_only=True)
class RatioRange:
    """The ratio of one model under one boundary, over all that is not published."""

    boundary: Boundary
    low: float | None
    high: float | None
    """Where `low` is None and this is not, a stage is missing and the ratio is at most this."""
    missing: tuple[str, ...]
    """Why a stage could not be counted, where one could not."""
    thresholds: tuple[Threshold, ...] = ()
    claim: float
    method: str = "6ND over 6ND, generation 2ND"

    @property
    def verdict(self) -> Literal["holds", "depends", "fails", "unknown"]:
        """Whether the claim holds over the whole range, a part of it, none of it, or cannot be tested."""
        if self.high is not None and self.high < self.claim:
            return "fails"
        if self.low is None:
            return "unknown"
        return "holds" if self.low >= self.claim else "depends"


def stage_flops(inputs: RatioInputs, values: Mapping[str, float]) -> dict[Stage, float | None]:
    """FLOPs of each stage at one value of each input; None where an input is missing."""
    kept = kept_tokens(values)
    seen = values.get("tokens_seen")
    if seen is None and kept is not None and "epochs" in values:
        seen = kept * values["epochs"]
    student, teacher = values.get("student_params"), values.get("teacher_params")
    written = seen if inputs.is_logit_distillation else _times(kept, values.get("generated_per_kept"))
    sharing_traces = 1.0 if inputs.is_logit_distillation else values.get("students_sharing_traces")
    sharing_teacher = values.get("students_sharing_teacher")
    return {
        "student": _times(6, student, seen),
        "generation": _over(_times(2, teacher, written), sharing_traces),
        "teacher_post_training": _over(values.get("teacher_post_training_flops"), sharing_teacher),
        "teacher_pretraining": _over(values.get("teacher_pretraining_flops"), sharing_teacher),
        "base": vanilla_flops(values),
    }


def tokens_at_claim(inputs: RatioInputs, claim: float) -> float:
    """The tokens seen in training at which the ratio of the `student` boundary is the claimed one."""
    values = inputs.values()
    return vanilla_flops(values) / (claim * 6 * values["student_params"])


def kept_tokens(values: Mapping[str, float]) -> float | None:
    """Tokens of the teacher that the student trains on, counted once: published, or samples x tokens each."""
    if "kept_tokens" in values:
        return values["kept_tokens"]
    return _times(values.get("samples"), values.get("tokens_per_sample"))


def vanilla_flops(values: Mapping[str, float]) -> float:
    """6ND of the vanilla counterpart, the student's base."""
    return 6 * values["base_params"] * values["base_tokens"]


def distilled_flops(
    inputs: RatioInputs, boundary: Boundary, values: Mapping[str, float], *, known_only: bool = False
) -> float | None:
    """FLOPs of the distilled side under a boundary, or None where a stage of it cannot be had.

    With `known_only` the stages that can be had are added up: a floor.
    """
    stages = stage_flops(inputs, values)
    counted = [stages[stage] for stage in BOUNDARIES[boundary]]
    known = [flops for flops in counted if flops is not None]
    return sum(known) if known_only or len(known) == len(counted) else None


def ratio_at(
    inputs: RatioInputs, boundary: Boundary, *, known_only: bool = False, **overrides: float
) -> float | None:
    """The ratio at one point: each input at the low end of its range unless overridden."""
    values = inputs.values(**overrides)
    flops = distilled_flops(inputs, boundary, values, known_only=known_only)
    return vanilla_flops(values) / flops if flops else None


def ratio_range(inputs: RatioInputs, boundary: Boundary, claim: float) -> RatioRange:
    """The lowest and highest ratio over the ranges of all inputs, and where the claim flips.

    The ratio is monotone in each input, so its extremes are at corners of the ranges. Where a stage cannot be
    counted, the rest of the cost is a floor and the ratio has a ceiling only.
    """
    missing = missing_stages(inputs, boundary)
    ratios = [ratio_at(inputs, boundary, known_only=bool(missing), **corner) for corner in corners(inputs)]
    known = [ratio for ratio in ratios if ratio is not None]
    if missing:
        return RatioRange(boundary=boundary, low=None, high=max(known), missing=missing, claim=claim)
    return RatioRange(
        boundary=boundary,
        low=min(known),
        high=max(known),
        missing=(),
        thresholds=tuple(thresholds(inputs, boundary, claim)),
        claim=claim,
    )


def corners(inputs: RatioInputs, without: str | None = None) -> Iterator[dict[str, float]]:
    """Every combination of the ends of the inputs that are ranges, one input left out if named."""
    ranged = [item for item in inputs.inputs.values() if item.is_range and item.name != without]
    for ends in product(*((item.low, item.high) for item in ranged)):
        yield {item.name: end for item, end in zip(ranged, ends, strict=True)}


def thresholds(inputs: RatioInputs, boundary: Boundary, claim: float) -> Iterator[Threshold]:
    """For each input that moves the ratio, the values at which it passes through the claim."""
    for name in inputs.inputs:
        if name not in FALLS_WITH and name not in RISES_WITH:
            continue
        flips = [_flip(inputs, boundary, claim, name, corner) for corner in corners(inputs, without=name)]
        if all(flip is _UNMOVED for flip in flips):
            continue
        known = [flip for flip in flips if isinstance(flip, float)]
        reaches_everywhere = len(known) == len(flips)
        falls = name in FALLS_WITH
        strictest, loosest = (min, max) if falls else (max, min)
        yield Threshold(
            name=name,
            low=strictest(known) if known and reaches_everywhere else None,
            high=loosest(known) if known else None,
            holds="at most" if falls else "at least",
        )


_UNMOVED = "unmoved"


def _flip(
    inputs: RatioInputs, boundary: Boundary, claim: float, name: InputName, corner: Mapping[str, float]
) -> float | str | None:
    """The value of one input at which vanilla = claim x distilled, by two evaluations.

    Distilled cost minus vanilla/claim is affine in an input (in its inverse, for the students that share).
    None where no positive value does it; `_UNMOVED` where the input does not move the ratio.
    """
    is_inverse = name.startswith("students_sharing")

    def excess(amount: float) -> float:
        values = inputs.values(**corner) | {name: 1 / amount if is_inverse else amount}
        flops = distilled_flops(inputs, boundary, values)
        assert flops is not None, "thresholds are asked only where the ratio exists"
        return claim * flops - vanilla_flops(values)

    at_one, at_two = excess(1.0), excess(2.0)
    slope = at_two - at_one
    if slope == 0 or abs(slope) < 1e-12 * abs(at_one):
        return _UNMOVED
    flip = 1.0 - at_one / slope
    if flip <= 0:
        return None
    return 1 / flip if is_inverse else flip


def missing_stages(inputs: RatioInputs, boundary: Boundary) -> tuple[str, ...]:
    """The reasons that concern the stages of a boundary."""
    stages = BOUNDARIES[boundary]
    needs: dict[Stage, tuple[InputName, ...]] = {
        "generation": ("teacher_params", "kept_tokens"),
        "teacher_post_training": ("teacher_post_training_flops",),
        "teacher_pretraining": ("teacher_pretraining_flops",),
    }
    if inputs.is_logit_distillation:
        needs["generation"] = ("teacher_params",)
    names = [name for stage in stages for name in needs.get(stage, ())]
    reasons = [inputs.missing[name] for name in names if name in inputs.missing]
    teacher_stages = {"teacher_post_training", "teacher_pretraining"} & set(stages)
    if teacher_stages and "teacher_params" in inputs.missing:
        reasons.append(f"what the teacher ({inputs.model.teacher}) took to train is not in the registry")
    return tuple(dict.fromkeys(reasons))


def _times(*factors: float | None) -> float | None:
    result = 1.0
    for factor in factors:
        if factor is None:
            return None
        result *= factor
    return result


def _over(amount: float | None, share: float | None) -> float | None:
    return amount / share if amount is not None and share else None
