"""The inputs of a compute ratio: each with its range, whether it is published or assumed, and its source.

A published figure always goes before an assumption. An input that nobody published and that cannot be assumed
(the parameters of a teacher behind an API) is missing, and the boundaries that need it say so.
"""

from dataclasses import dataclass
from typing import Literal

from stillmark.published.registry import Figure, Model, Registry
from stillmark.published.settings import AssumedRange, PublishedSettings

InputName = Literal[
    "student_params",
    "base_params",
    "base_tokens",
    "samples",
    "tokens_per_sample",
    "epochs",
    "kept_tokens",
    "tokens_seen",
    "teacher_params",
    "generated_per_kept",
    "students_sharing_traces",
    "teacher_post_training_flops",
    "teacher_pretraining_flops",
    "students_sharing_teacher",
]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A figure of a model: what a number in a report links to."""

    model_id: str
    figure: Figure


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a ratio. `low` and `high` are equal where one value is known."""

    name: InputName
    low: float
    high: float
    status: Literal["published", "estimated", "derived", "assumed"]
    basis: str
    evidence: tuple[Evidence, ...] = ()

    @property
    def is_range(self) -> bool:
        """Whether more than one value is possible."""
        return self.low != self.high


@dataclass(frozen=True, kw_only=True)
class RatioInputs:
    """Everything that the ratio of one distilled model is worked out from."""

    model: Model
    counterpart: str
    """The vanilla model that stands on the other side."""
    is_logit_distillation: bool
    inputs: dict[InputName, Input]
    missing: dict[InputName, str]
    """Inputs that could not be had, each with the reason."""

    def values(self, **overrides: float) -> dict[str, float]:
        """The value of each input, its low end where it is a range, with overrides."""
        return {name: item.low for name, item in self.inputs.items()} | overrides


@dataclass(frozen=True, kw_only=True)
class NotComputable:
    """A distilled model for which no ratio can be worked out, and why."""

    model: Model
    reason: str


def gather(registry: Registry, model: Model, settings: PublishedSettings) -> RatioInputs | NotComputable:
    """The inputs of one distilled model's ratio, or why there is none."""
    base = registry.find(model.base.model_id) if model.base else None
    if model.base is None:
        return NotComputable(
            model=model,
            reason="no base is recorded: it was distilled while being pretrained, so there is no vanilla "
            "counterpart apart from itself",
        )
    if base is None:
        return NotComputable(model=model, reason=f"its base, {model.base.printed}, is not in the registry")
    inputs: dict[InputName, Input] = {}
    missing: dict[InputName, str] = {}
    _add_base(registry, model, base, inputs, missing)
    if "base_params" not in inputs or "base_tokens" not in inputs:
        reason = missing.get("base_tokens") or missing["base_params"]
        return NotComputable(model=model, reason=reason)
    _add_tokens(model, settings, inputs)
    if "tokens_seen" not in inputs and "epochs" not in inputs:
        return NotComputable(model=model, reason="neither its distillation tokens nor samples are published")
    is_logits = model.teacher_signal == "logits"
    _add_teacher(registry, model, settings, inputs, missing, is_logits)
    return RatioInputs(
        model=model,
        counterpart=base.id,
        is_logit_distillation=is_logits,
        inputs=inputs,
        missing=missing,
    )


def params_evidence(model: Model) -> Evidence | None:
    """The parameters that a token passes through: active ones of a mixture of experts, else all."""
    figure = model.figure("params_active") or model.figure("params_total")
    return Evidence(model_id=model.id, figure=figure) if figure else None


def student_params(registry: Registry, model: Model) -> Evidence | None:
    """A student's parameters. One that keeps its base's architecture has its base's: often printed exactly
    there and rounded here (7B for 7.61B)."""
    if model.base and not model.base.is_pruned:
        base = _with_figure(registry, registry.find(model.base.model_id), "params_total")
        if base:
            return params_evidence(base)
    return params_evidence(model)


def _add_base(
    registry: Registry,
    model: Model,
    base: Model,
    inputs: dict[InputName, Input],
    missing: dict[InputName, str],
) -> None:
    """Parameters of both sides and the tokens that the vanilla side was pretrained on."""
    student = student_params(registry, model)
    if student:
        basis = "the base's: its architecture is kept" if student.model_id != model.id else "its own"
        inputs["student_params"] = _published("student_params", student, basis)
    sized = _with_figure(registry, base, "params_total")
    size = params_evidence(sized) if sized else None
    if size and sized:
        inputs["base_params"] = _published("base_params", size, f"of {sized.name}")
    else:
        missing["base_params"] = f"the parameters of {base.name} are not in the registry"
    trained = _with_figure(registry, base, "pretraining_tokens")
    figure = trained.figure("pretraining_tokens") if trained else None
    if trained is None or figure is None:
        missing["base_tokens"] = f"the pretraining tokens of its base, {base.name}, are not in the registry"
        return
    basis = figure.note or "as published"
    if trained.id != base.id:
        basis = f"of {trained.name} alone: what {base.name} saw on top is not published, so this is a floor"
    inputs["base_tokens"] = _published("base_tokens", Evidence(model_id=trained.id, figure=figure), basis)


def _add_tokens(model: Model, settings: PublishedSettings, inputs: dict[InputName, Input]) -> None:
    """What the student was trained on: tokens seen as published, or samples x tokens a sample x epochs."""
    for name, key in (
        ("distillation_samples", "samples"),
        ("distillation_tokens_per_sample", "tokens_per_sample"),
        ("distillation_tokens_seen", "tokens_seen"),
        ("distillation_tokens_unique", "kept_tokens"),
        ("distillation_epochs", "epochs"),
    ):
        figure = model.figure(name)
        if figure:
            evidence = Evidence(model_id=model.id, figure=figure)
            inputs[key] = _published(key, evidence, figure.note or "as published")  # type: ignore[index, arg-type]
    if "tokens_seen" in inputs:
        return
    if "samples" not in inputs:
        inputs.pop("epochs", None)
        return
    for key in ("tokens_per_sample", "epochs"):
        if key not in inputs:
            inputs[key] = _assumed(key, model, settings)  # type: ignore[index, arg-type]


def _add_teacher(
    registry: Registry,
    model: Model,
    settings: PublishedSettings,
    inputs: dict[InputName, Input],
    missing: dict[InputName, str],
    is_logits: bool,
) -> None:
    """What the teacher cost to run and to make."""
    teachers = [teacher for teacher in (registry.find(key) for key in model.teacher_ids) if teacher]
    teacher = teachers[0] if len(teachers) == 1 else None
    size = params_evidence(teacher) if teacher else None
    if teacher is None or size is None:
        missing["teacher_params"] = f"the parameters of the teacher ({model.teacher}) are not in the registry"
        return
    inputs["teacher_params"] = _published("teacher_params", size, f"of {teacher.name}")
    names: tuple[InputName, ...] = ("generated_per_kept", "students_sharing_traces")
    for name in () if is_logits else names:
        inputs[name] = _assumed(name, model, settings)
    if not is_logits and "tokens_seen" in inputs and "kept_tokens" not in inputs:
        missing["kept_tokens"] = "the unique tokens that the teacher wrote are not published"
    _add_making_of_the_teacher(registry, model, teacher, settings, inputs, missing)


def _add_making_of_the_teacher(
    registry: Registry,
    model: Model,
    teacher: Model,
    settings: PublishedSettings,
    inputs: dict[InputName, Input],
    missing: dict[InputName, str],
) -> None:
    """The teacher's pretraining by 6ND and its post-training where somebody gives it."""
    post = teacher.figure("post_training_flop_estimate")
    if post:
        evidence = Evidence(model_id=teacher.id, figure=post)
        inputs["teacher_post_training_flops"] = _published(
            "teacher_post_training_flops", evidence, post.note or ""
        )
    else:
        missing["teacher_post_training_flops"] = f"the post-training of {teacher.name} is not published"
    trained = _with_figure(registry, teacher, "pretraining_tokens")
    if model.base and teacher.id == model.base.model_id:
        missing["teacher_pretraining_flops"] = (
            f"the teacher is the base, {teacher.name}: its pretraining is counted by the boundary `base`"
        )
        trained = None
    tokens = trained.figure("pretraining_tokens") if trained else None
    size = params_evidence(trained) if trained else None
    if trained and tokens and size and tokens.value and size.figure.value:
        flops = 6 * size.figure.value * tokens.value
        inputs["teacher_pretraining_flops"] = Input(
            name="teacher_pretraining_flops",
            low=flops,
            high=flops,
            status="derived",
            basis=f"6ND of {trained.name}",
            evidence=(size, Evidence(model_id=trained.id, figure=tokens)),
        )
    else:
        missing.setdefault(
            "teacher_pretraining_flops",
            f"the pretraining of {teacher.name} is not in the registry",
        )
    inputs["students_sharing_teacher"] = _assumed("students_sharing_teacher", model, settings)


def _with_figure(registry: Registry, model: Model | None, name: str) -> Model | None:
    """The model, or the nearest of those it was made from, that has a figure of this name."""
    while model is not None and model.figure(name) is None:
        model = registry.find(model.base.model_id) if model.base and not model.base.is_pruned else None
    return model


def _published(name: InputName, evidence: Evidence, basis: str) -> Input:
    figure = evidence.figure
    assert figure.low is not None, f"{name} of {evidence.model_id} is text"
    assert figure.high is not None, f"{name} of {evidence.model_id} is text"
    return Input(
        name=name, low=figure.low, high=figure.high, status=figure.method, basis=basis, evidence=(evidence,)
    )


def _assumed(name: InputName, model: Model, settings: PublishedSettings) -> Input:
    """The range assumed for one model, or for all."""
    own = settings.assumed_for.get(model.id)
    assumed: AssumedRange | None = getattr(own, name) if own else None
    assumed = assumed or getattr(settings.assumed, name)
    assert assumed is not None
    return Input(name=name, low=assumed.low, high=assumed.high, status="assumed", basis=assumed.basis)
