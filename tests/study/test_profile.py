"""The `profile:` section: what is refused and why, the jobs that it makes, and when they run."""

import pytest
from tests.paths import ROOT

from stillmark.errors import UserError
from stillmark.plan import Plan
from stillmark.runner import chosen
from stillmark.study import study_from_text

TINY = (ROOT / "studies" / "tiny.yaml").read_text()


def with_profile(section: str) -> str:
    return f"{TINY}\nprofile: {section}\n"


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            "{arms: [traces-smal]}",
            "profile.arms[0]: there is no arm `traces-smal`; did you mean `traces-small`?",
        ),
        ("{arms: [teacher, teacher]}", "the same arm is named twice"),
        ("{engines: {transformers: [float3]}}", "`float3` is not a format; did you mean `float32`?"),
        ("{engines: {transformers: []}}", "profile.engines.transformers"),
        ("{engines: {}}", "profile.engines"),
        ("{engines: {vllm: [float32]}}", "profile.engines.vllm"),
        ("{engines: {llamacpp: [Q8]}}", "profile.engines.llamacpp: `Q8` is not a format"),
        ("{prompt_tokens: 8}", "profile.new_tokens: is missing beside prompt_tokens"),
        ("{prompt_tokens: 8, new_tokens: 1}", "profile.new_tokens: should be greater than or equal to 2"),
        ("{memory_caps: [much]}", "`much` is not an amount of memory"),
        ("{memory_caps: [1M, 1024K]}", "the same cap is given twice"),
        ("{memory_caps: [12]}", "profile.memory_caps.0"),
        ("{budget_seconds: 0}", "profile.budget_seconds: should be greater than 0"),
        ("{thread: 1}", "profile.thread: unknown key; did you mean `threads`?"),
    ],
)
def test_faults_are_refused_with_their_reason(section, said):
    with pytest.raises(UserError) as raised:
        study_from_text(with_profile(section))
    assert said in str(raised.value)


def test_lengths_over_a_models_window_are_refused():
    with pytest.raises(
        UserError, match=r"1000 \+ 100 tokens are over the window of arm `vanilla-small`, 1024"
    ):
        Plan(study_from_text(with_profile("{prompt_tokens: 1000, new_tokens: 100}")))


def test_one_job_measures_all_arms_and_no_other_key_changes():
    plain = Plan(study_from_text(TINY))
    plan = Plan(study_from_text(with_profile("{arms: [traces-small, teacher], memory_caps: [64M]}")))
    added = [job for key, job in plan.jobs.items() if key not in plain.jobs]
    assert set(plain.jobs) < set(plan.jobs)
    [job] = added
    assert (job.key, job.stage, job.arm, job.seed) == (plan.profile_key, "profile", "2 arms", 0)
    assert [entry["arm"] for entry in job.inputs["arms"]] == ["traces-small", "teacher"]
    for entry in job.inputs["arms"]:
        evaluation = plan.jobs[entry["answers_of"]]
        assert entry["made_by"] == plan.train_keys[entry["arm"], 0]
        assert (evaluation.stage, evaluation.arm, evaluation.checkpoint) == ("evaluate", entry["arm"], 2)
        assert {entry["made_by"], entry["answers_of"]} <= set(job.needs)
    assert job.inputs["memory_cap_bytes"] == [None, 64 * 2**20]
    assert job.inputs["threads"] == 1
    assert job.predicted_flops == 0
    everything = Plan(study_from_text(with_profile("{}")))
    assert [entry["arm"] for entry in everything.jobs[everything.profile_key].inputs["arms"]] == list(
        plain.study.arms
    )


def test_given_lengths_need_no_evaluation():
    plan = Plan(study_from_text(with_profile("{arms: [teacher], prompt_tokens: 8, new_tokens: 4}")))
    assert plan.jobs[plan.profile_key].needs == (plan.train_keys["teacher", 0],)


def test_a_profile_has_the_machine_for_itself():
    jobs = list(Plan(study_from_text(with_profile("{arms: [teacher, traces-small]}"))).jobs.values())
    profiles = [job for job in jobs if job.stage == "profile"]
    other = next(job for job in jobs if job.stage == "train")
    assert chosen([*profiles, other], [], {"train", "profile"}, 4) == [other]
    assert chosen(profiles, [other], {"train", "profile"}, 4) == []
    assert chosen(profiles, [], {"profile"}, 4) == profiles
    assert chosen([], profiles, {"profile"}, 4) == []
