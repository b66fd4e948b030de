"""Everything that the paper study works out from published figures alone, in one frozen result. No torch."""

from dataclasses import dataclass

from stillmark.analysis.claims_compute import BOUNDARIES, Boundary, RatioRange, ratio_range
from stillmark.analysis.claims_curves import AnswerPoint, TrainingPoint, answer_points, training_points
from stillmark.analysis.claims_hours import (
    ImpliedMfu,
    Purchase,
    hours_ratios,
    implied_mfu,
    logit_ratios,
    mixed_ratios,
    purchase,
    rl_ratios,
)
from stillmark.analysis.claims_inputs import Evidence, NotComputable, RatioInputs, gather
from stillmark.analysis.claims_ratios import LabelledRatio
from stillmark.analysis.claims_size import SizeRow, against_own_base, size_claim
from stillmark.analysis.density import DensityRow, density_rows
from stillmark.errors import UserError
from stillmark.published.registry import Model, Registry, Score, load_with
from stillmark.published.settings import PublishedSettings


@dataclass(frozen=True, kw_only=True)
class ModelRatios:
    """One distilled model: its inputs and its ratio under each boundary."""

    inputs: RatioInputs
    ranges: dict[Boundary, RatioRange]


@dataclass(frozen=True, kw_only=True)
class DistillationHours:
    """Published hours of one distillation beside those of the headline's vanilla model, on one device.

    The vanilla model is not its own base: the row only shows what the claimed ratio would mean in hours.
    """

    model: Model
    hours: Evidence
    yardstick: Evidence
    ratio: float | None
    """None where the devices differ."""


@dataclass(frozen=True, kw_only=True)
class PaperClaims:
    """The whole of the paper study."""

    settings: PublishedSettings
    registry: Registry
    ratios: tuple[ModelRatios, ...]
    not_computable: tuple[NotComputable, ...]
    headline: ModelRatios
    hours: tuple[LabelledRatio, ...]
    against_rl: tuple[LabelledRatio, ...]
    with_logits: tuple[LabelledRatio, ...]
    purchases: tuple[Purchase, ...]
    mixed: tuple[LabelledRatio, ...]
    mixed_refusal: str | None
    """Why ratios across methods are not shown, where they are not."""
    implied_mfu: tuple[ImpliedMfu, ...]
    distillation_hours: tuple[DistillationHours, ...]
    size_rows: tuple[SizeRow, ...]
    own_base_rows: tuple[SizeRow, ...]
    training: dict[Boundary, tuple[TrainingPoint, ...]]
    answers: tuple[AnswerPoint, ...]
    density: tuple[DensityRow, ...]
    disagreements: tuple[tuple[Model, str, tuple[Score, ...]], ...]


def study_claims(settings: PublishedSettings) -> PaperClaims:
    """Work out every claim from the registry (and the user's own files)."""
    registry = load_with(settings.files)
    _check_names(registry, settings)
    distilled = registry.of_kind("distilled")
    gathered = [gather(registry, model, settings) for model in distilled]
    ratios = tuple(_ratios(item, settings) for item in gathered if isinstance(item, RatioInputs))
    headline = next((item for item in ratios if item.inputs.model.id == settings.headline_model), None)
    if headline is None:
        raise UserError(
            f"published.headline_model: no compute ratio can be worked out for `{settings.headline_model}`",
            "`stillmark published show` lists what is known of it",
        )
    mixed, refusal = _mixed(registry, headline.inputs, settings)
    return PaperClaims(
        settings=settings,
        registry=registry,
        ratios=ratios,
        not_computable=tuple(item for item in gathered if isinstance(item, NotComputable)),
        headline=headline,
        hours=hours_ratios(registry, headline.inputs, settings),
        against_rl=rl_ratios(registry),
        with_logits=logit_ratios(registry),
        purchases=tuple(found for item in ratios if (found := purchase(registry, item.inputs))),
        mixed=mixed,
        mixed_refusal=refusal,
        implied_mfu=tuple(
            found for found in (implied_mfu(registry, model) for model in registry.models) if found
        ),
        distillation_hours=_distillation_hours(registry, headline.inputs),
        size_rows=tuple(row for model in distilled for row in size_claim(registry, model, settings.claims)),
        own_base_rows=tuple(
            row for model in distilled for row in against_own_base(registry, model, settings.claims)
        ),
        training={boundary: training_points(registry, settings, boundary) for boundary in BOUNDARIES},
        answers=answer_points(registry),
        density=tuple(
            row
            for model in distilled
            for row in density_rows(registry, model, settings.reference_family, settings.density)
        ),
        disagreements=tuple(registry.disagreements()),
    )


def _ratios(inputs: RatioInputs, settings: PublishedSettings) -> ModelRatios:
    claim = settings.claims.compute_ratio
    return ModelRatios(
        inputs=inputs, ranges={boundary: ratio_range(inputs, boundary, claim) for boundary in BOUNDARIES}
    )


def _mixed(
    registry: Registry, inputs: RatioInputs, settings: PublishedSettings
) -> tuple[tuple[LabelledRatio, ...], str | None]:
    """Ratios across methods where they are asked for, else the refusal in words."""
    try:
        return mixed_ratios(registry, inputs, settings), None
    except UserError as refusal:
        return (), str(refusal)


def _distillation_hours(registry: Registry, headline: RatioInputs) -> tuple[DistillationHours, ...]:
    vanilla = registry.model(headline.counterpart)
    yardstick = vanilla.figure("gpu_hours")
    if yardstick is None or yardstick.value is None:
        return ()
    rows = []
    for model in registry.of_kind("distilled"):
        for name in ("gpu_hours_distillation", "gpu_hours_on_policy_distillation"):
            figure = model.figure(name)
            if figure is None or not figure.value:
                continue
            is_same = figure.unit == yardstick.unit
            rows.append(
                DistillationHours(
                    model=model,
                    hours=Evidence(model_id=model.id, figure=figure),
                    yardstick=Evidence(model_id=vanilla.id, figure=yardstick),
                    ratio=yardstick.value / figure.value if is_same else None,
                )
            )
    return tuple(rows)


def _check_names(registry: Registry, settings: PublishedSettings) -> None:
    """Models and families that the settings name must be there."""
    registry.model(settings.headline_model)
    for model_id in settings.assumed_for:
        registry.model(model_id)
    families = sorted({model.family for model in registry.of_kind("vanilla")})
    if settings.reference_family not in families:
        raise UserError(
            f"published.reference_family: no vanilla models of a family `{settings.reference_family}`\n"
            f"families: {', '.join(families)}"
        )
