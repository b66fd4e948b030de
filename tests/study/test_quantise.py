"""`quantise:` of an arm: the arms that it makes, their jobs and keys, and what is refused."""

import pytest
from tests.paths import ROOT

from stillmark.errors import UserError
from stillmark.plan import Plan
from stillmark.study import study_from_text
from stillmark.study.schema import QuantisedArm

TINY = (ROOT / "studies" / "tiny.yaml").read_text()
WIDE = TINY.replace("hidden_size: 24", "hidden_size: 32")


def quantising(formats: str, arm: str = "traces-small", text: str = WIDE) -> str:
    return text.replace(f"  {arm}:\n", f"  {arm}:\n    quantise: {formats}\n", 1)


def test_each_format_is_an_arm_that_is_evaluated_at_the_end_and_trained_by_its_parent():
    plain, plan = Plan(study_from_text(WIDE)), Plan(study_from_text(quantising("[F32, Q8_0]")))
    assert set(plain.jobs) < set(plan.jobs)
    added = [job for key, job in plan.jobs.items() if key not in plain.jobs]
    assert [(job.stage, job.arm, job.seed, job.checkpoint) for job in added] == [
        ("evaluate", f"traces-small-{format}", seed, 2) for seed in (0, 1) for format in ("F32", "Q8_0")
    ]
    for job in added:
        arm = plan.study.arms[job.arm]
        assert isinstance(arm, QuantisedArm)
        assert (arm.parent, arm.format) == ("traces-small", job.inputs["format"])
        assert job.needs == (plan.train_keys["traces-small", job.seed],)
        parents = plan.jobs[plan.evaluation_keys["traces-small", job.seed, 2]].inputs
        assert job.inputs == {**parents, "engine": "llamacpp", "format": arm.format}
        assert plan.generate_keys[job.arm, job.seed] == plan.generate_keys["traces-small", job.seed]


def test_a_control_is_quantised_as_its_student_is():
    text = quantising("[Q8_0]").replace("    quantise:", "    control: {match: compute}\n    quantise:")
    arms = Plan(study_from_text(text)).study.arms
    assert isinstance(arms["traces-small-Q8_0"], QuantisedArm)
    assert arms["traces-small-control-Q8_0"].teacher is None
    assert arms["traces-small-control-Q8_0"].recipe == arms["traces-small-control"].recipe


def test_a_profile_measures_the_formats_beside_its_engines():
    text = quantising("[Q8_0]") + "\nprofile: {arms: [traces-small, teacher]}\n"
    plan = Plan(study_from_text(text))
    assert {entry["arm"]: entry["engines"] for entry in plan.jobs[plan.profile_key].inputs["arms"]} == {
        "traces-small": {"transformers": ["float32"], "llamacpp": ["Q8_0"]},
        "teacher": {"transformers": ["float32"]},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (quantising("[Q8]"), "arms.traces-small.quantise: `Q8` is not a format"),
        (quantising("[Q8_0, Q8_0]"), "arms.traces-small.quantise: the same format is given twice"),
        (
            quantising("[Q8_0]")
            .replace("  logits-small:", "  traces-small-Q8_0:")
            .replace(", logits-small]", "]"),
            "there is one of that name",
        ),
    ],
)
def test_faults_are_refused(text, said):
    with pytest.raises(UserError) as raised:
        study_from_text(text)
    assert said in str(raised.value)


def test_a_format_that_would_round_nothing_is_refused():
    with pytest.raises(UserError, match=r"models.small.hidden_size is 24: its matrices would stay float"):
        Plan(study_from_text(quantising("[Q4_0]", text=TINY)))
    Plan(study_from_text(quantising("[F16]", text=TINY)))  # of any width
