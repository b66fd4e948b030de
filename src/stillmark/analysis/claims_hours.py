"""Ratios of device-hours, the MFU that hours and FLOPs imply together, and ratios across methods.

Hours become FLOPs (or the reverse) only with a stated MFU: FLOPs = hours x 3,600 x peak FLOP/s x MFU.
"""

from dataclasses import dataclass

from stillmark.analysis.claims_compute import corners, kept_tokens, stage_flops
from stillmark.analysis.claims_inputs import Evidence, RatioInputs, params_evidence
from stillmark.analysis.claims_ratios import LabelledRatio, Side, ratio_of
from stillmark.errors import UserError
from stillmark.published.registry import Constant, Figure, Model, Registry
from stillmark.published.settings import HoursAssumptions, PublishedSettings

SECONDS_PER_HOUR = 3600
PEAK = "h100_sxm_bf16_dense_peak"


@dataclass(frozen=True, kw_only=True)
class ImpliedMfu:
    """The model FLOPs utilisation that published hours and 6ND imply together."""

    model: Model
    flops: float
    flops_evidence: tuple[Evidence, ...]
    hours: Evidence
    peak: Constant
    mfu: float


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """What the kept tokens of a distillation would cost at the teacher's list price for output."""

    model: Model
    tokens_low: float
    tokens_high: float
    price: Evidence
    """USD per million tokens."""
    usd_low: float
    usd_high: float


def purchase(registry: Registry, inputs: RatioInputs) -> Purchase | None:
    """The price of a student's kept tokens; None where the teacher has no list price or it gave logits."""
    teacher = registry.find(inputs.model.teacher_ids[0] if inputs.model.teacher_ids else None)
    price = teacher.figure("api_price_output") if teacher else None
    if teacher is None or price is None or price.value is None or inputs.is_logit_distillation:
        return None
    amounts = [kept_tokens(inputs.values(**corner)) for corner in corners(inputs)]
    known = [amount for amount in amounts if amount is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    return Purchase(
        model=inputs.model,
        tokens_low=low,
        tokens_high=high,
        price=Evidence(model_id=teacher.id, figure=price),
        usd_low=low * price.value / 1e6,
        usd_high=high * price.value / 1e6,
    )


def peak_flops(registry: Registry, name: str = PEAK) -> Constant:
    """A device's dense peak; the last value where sources differ (989.4e12, worked out from the clock)."""
    found = [constant for constant in registry.constants if constant.name == name]
    if not found:
        raise UserError(f"the registry has no constant `{name}`")
    return found[-1]


def implied_mfu(registry: Registry, model: Model) -> ImpliedMfu | None:
    """6ND over the published hours at the device's peak; None unless all are published for one device.

    H100 hours are held against the BF16 peak, H800 hours of pretraining against the FP8 peak that the
    registry has for it (DeepSeek-V3 was trained in FP8).
    """
    for name, unit, constant in (
        ("gpu_hours", "H100-hours", PEAK),
        ("gpu_hours_pretraining", "H800-hours", "h800_fp8_peak"),
        ("gpu_hours_distillation", "H100-hours", PEAK),
    ):
        hours = model.figure(name)
        if hours is None or hours.unit != unit or not hours.value:
            continue
        tokens_name = "distillation_tokens_seen" if name.endswith("distillation") else "pretraining_tokens"
        tokens, size = model.figure(tokens_name), params_evidence(model)
        if tokens is None or size is None or not tokens.value or not size.figure.value:
            continue
        flops = 6 * size.figure.value * tokens.value
        peak = peak_flops(registry, constant)
        return ImpliedMfu(
            model=model,
            flops=flops,
            flops_evidence=(size, Evidence(model_id=model.id, figure=tokens)),
            hours=Evidence(model_id=model.id, figure=hours),
            peak=peak,
            mfu=flops / (hours.value * SECONDS_PER_HOUR * peak.value),
        )
    return None


def student_hours(
    registry: Registry, inputs: RatioInputs, hours: HoursAssumptions, **overrides: float
) -> float:
    """H100-hours of the student's 6ND at the stated MFU."""
    flops = stage_flops(inputs, inputs.values(**overrides))["student"]
    assert flops is not None, "a ratio's inputs give the student's FLOPs"
    return flops / (SECONDS_PER_HOUR * peak_flops(registry).value * hours.student_mfu)


def hours_ratios(
    registry: Registry, inputs: RatioInputs, settings: PublishedSettings
) -> tuple[LabelledRatio, ...]:
    """Published hours of the vanilla model over the student's converted hours and the teacher's published
    ones.

    Empty where the counterpart or the teacher has no published hours. H800 hours are added to H100 hours as
    they are (same tensor peak, slower interconnect).
    """
    base = registry.model(inputs.counterpart)
    vanilla = base.figure("gpu_hours")
    teacher = registry.find(inputs.model.teacher_ids[0] if inputs.model.teacher_ids else None)
    if vanilla is None or vanilla.value is None or vanilla.unit != "H100-hours" or teacher is None:
        return ()
    parts = (
        ("the teacher's hours for making the data", teacher.figure("gpu_hours_sft_data_creation")),
        ("all of the teacher's post-training", teacher.figure("gpu_hours_total_post_training")),
    )
    rows = []
    for words, figure in parts:
        if figure is None or figure.value is None:
            continue
        for shared in _sharings(inputs):
            for epochs in _epoch_ends(inputs):
                rows.append(
                    _hours_row(
                        registry, inputs, settings, base, vanilla, teacher, figure, words, shared, epochs
                    )
                )
    return tuple(rows)


def _hours_row(
    registry: Registry,
    inputs: RatioInputs,
    settings: PublishedSettings,
    base: Model,
    vanilla: Figure,
    teacher: Model,
    figure: Figure,
    words: str,
    shared: float,
    epochs: float,
) -> LabelledRatio:
    """One row of `hours_ratios`."""
    assert vanilla.value is not None, "asked for above"
    assert figure.value is not None, "asked for above"
    hours = settings.hours
    own = student_hours(registry, inputs, hours, epochs=epochs)
    total = own + figure.value / shared
    sharing = "undivided" if shared == 1 else f"shared by {shared:g}"
    return ratio_of(
        f"hours: student at {epochs:g} epochs and {words}, {sharing}",
        Side(
            amount=vanilla.value,
            unit="device-hours",
            method="device-hours",
            evidence=(Evidence(model_id=base.id, figure=vanilla),),
            detail="published hours",
        ),
        Side(
            amount=total,
            unit="device-hours",
            method="device-hours",
            evidence=(Evidence(model_id=teacher.id, figure=figure),),
            detail=f"published hours of the teacher + 6ND of the student at an MFU of {hours.student_mfu:g}",
        ),
        allow_mixed=False,
        note=f"the student's {own:,.0f} H100-hours are 6ND at an MFU of {hours.student_mfu:g} "
        f"({hours.student_mfu_basis}); {figure.unit} are added as they are",
    )


def rl_ratios(registry: Registry) -> tuple[LabelledRatio, ...]:
    """Published hours of reinforcement learning over those of on-policy distillation, from one checkpoint."""
    rows = []
    for model in registry.models:
        learning = model.figure("gpu_hours_rl_same_start")
        distillation = model.figure("gpu_hours_on_policy_distillation")
        if not learning or not distillation or not learning.value or not distillation.value:
            continue
        sides = [
            Side(
                amount=figure.value or 0.0,
                unit=figure.unit,
                method="device-hours",
                evidence=(Evidence(model_id=model.id, figure=figure),),
            )
            for figure in (learning, distillation)
        ]
        label = f"{model.name}: reinforcement learning over on-policy distillation, from one checkpoint"
        note = distillation.note or ""
        rows.append(ratio_of(label, *sides, allow_mixed=False, note=note))
    return tuple(rows)


def logit_ratios(registry: Registry) -> tuple[LabelledRatio, ...]:
    """For students distilled while being pretrained: the same pretraining without a teacher over that with it.

    By family, since the teacher's hours are published for all of its students together. Below 1 by construction.
    """
    families: dict[str, list[Model]] = {}
    for model in registry.models:
        if model.figure("teacher_logit_generation_gpu_hours_both") and model.figure("gpu_hours"):
            families.setdefault(model.family, []).append(model)
    rows = []
    for models in families.values():
        own = [
            Evidence(model_id=model.id, figure=figure)
            for model in models
            if (figure := model.figure("gpu_hours"))
        ]
        logits = models[0].figure("teacher_logit_generation_gpu_hours_both")
        if logits is None or logits.value is None or {item.figure.unit for item in own} != {logits.unit}:
            continue
        hours = sum(item.figure.value or 0.0 for item in own)
        teacher = Evidence(model_id=models[0].id, figure=logits)
        names = " and ".join(model.name for model in models)
        rows.append(
            ratio_of(
                f"{names}: pretraining without a teacher over pretraining and the teacher's logits",
                Side(amount=hours, unit=logits.unit, method="device-hours", evidence=tuple(own)),
                Side(
                    amount=hours + logits.value,
                    unit=logits.unit,
                    method="device-hours",
                    evidence=(*own, teacher),
                ),
                allow_mixed=False,
                note=logits.note or "",
            )
        )
    return tuple(rows)


def mixed_ratios(
    registry: Registry, inputs: RatioInputs, settings: PublishedSettings
) -> tuple[LabelledRatio, ...]:
    """Vanilla FLOPs from hours x peak x MFU over the student's 6ND: two methods, so only if asked for."""
    base = registry.model(inputs.counterpart)
    vanilla = base.figure("gpu_hours")
    if vanilla is None or vanilla.value is None or vanilla.unit != "H100-hours":
        return ()
    peak = peak_flops(registry).value
    implied = implied_mfu(registry, base)
    rows = []
    for epochs in (1.0, *_epoch_ends(inputs)):
        flops = stage_flops(inputs, inputs.values(epochs=epochs))["student"]
        assert flops is not None, "a ratio's inputs give the student's FLOPs"
        for mfu in (settings.hours.mixed_mfu.low, settings.hours.mixed_mfu.high):
            note = settings.hours.mixed_mfu.basis
            if implied:
                note += f"; hours and 6ND imply {implied.mfu:.1%}: this is {mfu / implied.mfu:.1f} times 6ND"
            rows.append(
                ratio_of(
                    f"mixed: hours at an MFU of {mfu:g} over 6ND of {epochs:g} epoch{'s' * (epochs != 1)}",
                    Side(
                        amount=vanilla.value * SECONDS_PER_HOUR * peak * mfu,
                        unit="FLOP",
                        method="hours x peak x MFU",
                        evidence=(Evidence(model_id=base.id, figure=vanilla),),
                    ),
                    Side(amount=flops, unit="FLOP", method="6ND"),
                    allow_mixed=settings.allow_mixed_methods,
                    note=note,
                )
            )
    return tuple(rows)


def _epoch_ends(inputs: RatioInputs) -> tuple[float, ...]:
    """The ends of the range of epochs, once where they are equal; none where tokens seen are published."""
    epochs = inputs.inputs.get("epochs")
    return tuple(dict.fromkeys((epochs.low, epochs.high))) if epochs else ()


def _sharings(inputs: RatioInputs) -> tuple[float, ...]:
    """One student that pays for all, and the most that share."""
    sharing = inputs.inputs.get("students_sharing_traces")
    return tuple(dict.fromkeys((1.0, sharing.high))) if sharing else (1.0,)
