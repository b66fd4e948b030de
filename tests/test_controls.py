"""Predicted budgets of controls in closed form, and where each kind of control comes from."""

import math

import pytest

from stillmark.added_arms import with_controls
from stillmark.compute.flops import forward_flops, train_flops
from stillmark.plan import Plan
from stillmark.sizes import Sizes
from stillmark.study import Study, Traces, study_from_text

TEXT = """
name: controls
seeds: [0]
tasks: {{swaps: {{kind: shuffled_objects, objects: 3}}}}
models:
  small: {{hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}}
arms:
  teacher: {{kind: teacher, model: small, recipe: {{text: solutions, train_flops: 1e10, learning_rate: 1e-3, batch_samples: 8}}}}
  student:
    kind: distilled
    model: small
    teacher: teacher
    recipe: {{text: traces, loss: {loss}, train_flops: 1e10, learning_rate: 1e-3, batch_samples: 8, traces: {{prompts: 40}}}}
    control: {{match: {match}{text}}}
"""


def study(match: str, loss: str = "forward_kl", text: str = "") -> Study:
    found = study_from_text(TEXT.format(match=match, loss=loss, text=text and f", text: {text}"))
    assert isinstance(found, Study)
    return found


@pytest.mark.parametrize("match", ["compute", "tokens", "steps"])
def test_the_same_text_under_the_same_budget_is_the_same_tokens_and_steps(match: str):
    """Reference solutions are as long as traces are predicted to be: all three matches agree, to a whole step."""
    expanded = with_controls(study(match))
    control, sizes = expanded.arms["student-control"], Sizes(expanded)
    assert control.recipe.text == "solutions"
    assert 0 <= control.recipe.train_flops - 1e10 < 8 * sizes.sample_flops("student")
    assert sizes.num_samples("student-control") == sizes.num_samples("student")


@pytest.mark.parametrize("match", ["tokens", "steps"])
def test_shorter_text_has_as_many_steps_or_as_many_tokens(match: str):
    expanded = with_controls(study(match, text="answers"))
    sizes = Sizes(expanded)
    of_student, of_control = sizes.sample("student"), sizes.sample("student-control")
    samples = {arm: sizes.num_samples(arm) for arm in ("student", "student-control")}
    if match == "steps":
        assert samples["student-control"] == samples["student"]
    else:
        assert samples["student-control"] * of_control.read == pytest.approx(
            samples["student"] * of_student.read, abs=8 * of_student.read
        )
    assert of_control.read < of_student.read


def test_compute_with_teacher_adds_its_forward_and_its_writing():
    expanded = with_controls(study("compute_with_teacher"))
    sizes = Sizes(expanded)
    sample, shape = sizes.sample("student"), sizes.shape("teacher")
    one = train_flops(shape, tokens=sample.read, scored_tokens=sample.scored)
    samples = 8 * math.ceil(1e10 / (8 * one))  # whole steps
    forward = samples * forward_flops(shape, tokens=sample.read, scored_tokens=sample.scored)
    added = expanded.arms["student-control"].recipe.train_flops - 1e10
    assert added == pytest.approx(forward + sizes.generation_flops("student"))
    assert sizes.generation_flops("student") > 0


def test_a_control_has_no_teacher_and_the_same_start_and_seeds():
    plan = Plan(study("steps"))
    control = plan.study.arms["student-control"]
    assert (control.kind, control.teacher, control.recipe.loss) == ("vanilla", None, "cross_entropy")
    assert ("student-control", 0) in plan.train_keys
    student = "student", 0
    needs = plan.jobs[
        plan.train_keys["student-control", 0]
    ].needs  # nothing of the teacher's but what is counted
    assert set(needs) == {plan.train_keys[student], plan.generate_keys[student]}


def test_a_generation_is_told_every_setting_of_its_traces_defaults_too():
    """The stage reads them from the job alone: one that is left out of the key would be missing when it runs."""
    plan = Plan(study("steps"))
    (job,) = [job for job in plan.jobs.values() if job.stage == "generate"]
    expected = set(Traces.model_fields) - {
        "max_per_prompt"
    }  # what is kept of them is the training's business
    assert job.inputs["traces"].keys() == expected
