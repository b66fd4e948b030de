"""The `published:` section of a study: which claims are tested, and what is assumed where nothing is
published.

Every assumed range has a `basis` in words: it stands beside the number wherever the number is shown.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """Frozen, and a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AssumedRange(Section):
    """A range for an input that nobody published, and why this one."""

    low: Positive
    high: Positive
    basis: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low is over high: {self.low} and {self.high}")
        return self


class Claims(Section):
    """The headline claims as numbers."""

    compute_ratio: Positive = 2000
    """`over 2,000 times`: pretraining of the vanilla counterpart over the making of the distilled model."""
    size_multiple: Positive = 10
    """`on par with models ten times its size`."""
    nearest_multiple: Positive = 8.5
    """Comparators from here up are shown too, marked as below `size_multiple`."""
    tie_margin_points: Annotated[float, Field(ge=0)] = 2.0
    """A difference of at most so many percentage points is a tie."""
    tie_margin_rating: Annotated[float, Field(ge=0)] = 50.0
    """The same for a rating, in rating points."""
    tie_z: Annotated[float, Field(ge=0)] = 1.96
    """Where the number of items is known, so many standard errors of the difference are a tie too."""


class Assumptions(Section):
    """Ranges for what is not published; a published figure always goes before."""

    tokens_per_sample: AssumedRange = AssumedRange(
        low=1419.8,
        high=7435.7,
        basis="the lowest and highest mean of a domain in DeepSeek-R1's SFT data: general 1,419.8, "
        "code 7,435.7 (r1_v2 Supp. Table 5)",
    )
    epochs: AssumedRange = AssumedRange(
        low=1, high=5, basis="from one pass to the highest count published in the registry (s1, OpenR1: 5)"
    )
    generated_per_kept: AssumedRange = AssumedRange(
        low=1, high=16, basis="from every trace kept to one in sixteen; the yield is not published"
    )
    students_sharing_traces: AssumedRange = AssumedRange(
        low=1,
        high=6,
        basis="from one student that pays for all traces to the six that DeepSeek made from them",
    )
    students_sharing_teacher: AssumedRange = AssumedRange(
        low=1,
        high=6,
        basis="from one student that pays for the whole teacher to the six of DeepSeek's release",
    )


class ModelAssumptions(Section):
    """What is known of one model though no figure of the registry says it; each with its basis."""

    tokens_per_sample: AssumedRange | None = None
    epochs: AssumedRange | None = None
    generated_per_kept: AssumedRange | None = None
    students_sharing_traces: AssumedRange | None = None
    students_sharing_teacher: AssumedRange | None = None


class HoursAssumptions(Section):
    """For conversions between device-hours and FLOPs: never without a stated MFU."""

    student_mfu: Fraction = 0.40
    student_mfu_basis: str = "assumed: DeepSeek publishes no hours for its students"
    mixed_mfu: AssumedRange = AssumedRange(
        low=0.38,
        high=0.43,
        basis="published for Llama-3.1-405B and quoted by the paper under study; 8B implies far less",
    )


class Density(Section):
    """When the reference family's fit is good enough to read a size from."""

    least_models: Annotated[int, Field(ge=3)] = 4
    """Fewer points of the reference family are no fit."""
    least_r_squared: Fraction = 0.8
    """Of the line through the points, logit score against log parameters."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95


class PublishedSettings(Section):
    """The `published:` section of a study file."""

    claims: Claims = Claims()
    headline_model: str = "deepseek-r1-distill-llama-8b"
    """Whose ratio is taken apart line by line."""
    reference_family: str = "qwen2.5"
    """The vanilla family that effective sizes are read from (capability density)."""
    density: Density = Density()
    assumed: Assumptions = Assumptions()
    assumed_for: dict[str, ModelAssumptions] = {}
    hours: HoursAssumptions = HoursAssumptions()
    allow_mixed_methods: bool = False
    """Whether to show ratios whose sides were counted in different ways (they are labelled)."""
    files: tuple[Path, ...] = ()
    """Registry files of the user's own, read in addition to the one that is shipped."""
