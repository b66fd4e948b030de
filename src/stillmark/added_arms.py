"""The arms that a plan adds to those of a study: vanilla controls, and quantised variants."""

from stillmark.sizes import Sizes
from stillmark.study.schema import Arm, ControlArm, QuantisedArm, Study


def with_controls(study: Study) -> Study:
    """The study with the arm that each `control` asks for, and the conclusion holding students against them."""
    arms: dict[str, Arm] = {}
    sizes = Sizes(study)
    for name, arm in study.arms.items():
        arms[name] = arm
        if arm.control:
            arms[f"{name}-control"] = control_of(name, arm, sizes)
    conclusion = study.conclusion
    if conclusion:
        added = [f"{name}-control" for name, arm in study.arms.items() if arm.control]
        conclusion = conclusion.model_copy(update={"controls": [*conclusion.controls, *added]})
    return study.model_copy(update={"arms": arms, "conclusion": conclusion})


def with_variants(study: Study) -> Study:
    """The study with the arm that each entry of `quantise` asks for, after the arm that it is made from."""
    arms: dict[str, Arm] = {}
    for name, arm in study.arms.items():
        arms[name] = arm
        for format in arm.quantise:
            plain = arm.model_dump(include=Arm.model_fields.keys() - {"quantise", "control"})
            variant = QuantisedArm.model_validate({**plain, "parent": name, "format": format})
            arms[f"{name}-{format}"] = variant
    return study.model_copy(update={"arms": arms})


def control_of(name: str, arm: Arm, sizes: Sizes) -> ControlArm:
    """The vanilla arm beside a distilled one, with the budget that its `match` is predicted to allow."""
    assert arm.control is not None, name
    recipe = arm.training
    text = arm.control.text or ("solutions" if recipe.text == "traces" else recipe.text)
    untaught = {
        "text": text, "loss": "cross_entropy", "traces": None, "logit_cache": None, "on_policy": None,
        "hidden_states": None, "cross_entropy_weight": 0.0, "temperature": 1.0, "temperature_squared": False,
        "train_samples": None,
    }  # fmt: skip
    if arm.control.learning_rate:
        untaught["learning_rate"] = arm.control.learning_rate
    plain = recipe.model_copy(update=untaught)
    control = ControlArm.model_validate(
        {**arm.model_dump(), "kind": "vanilla", "teacher": None, "control": None, "recipe": plain,
         "student": name, "match": arm.control.match}
    )  # fmt: skip
    budget = recipe.train_flops
    if arm.control.match in ("tokens", "steps"):
        beside = Sizes(sizes.study.model_copy(update={"arms": {**sizes.study.arms, name: control}}))
        of_student, of_control = sizes.sample(name).read, beside.sample(name).read
        samples = sizes.num_samples(name) * (of_student / of_control if arm.control.match == "tokens" else 1)
        budget = samples * beside.sample_flops(name)
    elif arm.control.match == "compute":
        budget += sizes.own_text_flops(name)
    elif arm.control.match == "compute_with_teacher":
        budget += sizes.own_text_flops(name)
        budget += sizes.teacher_forward_flops(name) + sizes.generation_flops(name) + sizes.capture_flops(name)
    return control.model_copy(update={"recipe": plain.model_copy(update={"train_flops": float(budget)})})
