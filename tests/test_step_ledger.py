"""What each optimiser step reports adds up to the ledger, part by part; and the plan predicts what is counted."""

import sys
from collections import Counter

import pytest
import torch

from stillmark import stages
from stillmark.compute.flops import decode_flops
from stillmark.distill.trackers import StepReport
from stillmark.plan import Job, Plan
from stillmark.records import Outcome, Store
from stillmark.study import Study, study_from_text

TEXT = """
name: steps
seeds: [0]
threads: 1
tasks:
  shuffled: {kind: shuffled_objects, objects: 3, min_swaps: 1, max_swaps: 2, test_samples: 10, validation_samples: 4}
models:
  small: {hidden_size: 16, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 32}
  large: {hidden_size: 24, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 48}
arms:
  teacher:
    kind: teacher
    model: large
    recipe: &base {text: solutions, train_flops: 6e9, learning_rate: 5e-3, batch_samples: 8, checkpoints: 2, first_checkpoint: 0.5}
  own:
    kind: distilled
    model: small
    teacher: teacher
    recipe: {<<: *base, train_flops: 1.2e9, loss: reverse_kl, on_policy: {fraction: 0.6, reuse: 2, max_new_tokens: 6}}
    control: {match: compute}
  traces:
    kind: distilled
    model: small
    teacher: teacher
    recipe: {<<: *base, train_flops: 5e8, text: traces, loss: forward_kl, traces: {prompts: 150, max_new_tokens: 24}}
    control: {match: compute_with_teacher, text: answers}
  by-tokens:
    kind: distilled
    model: small
    teacher: teacher
    recipe: {<<: *base, train_flops: 5e8, text: traces, traces: {prompts: 150, max_new_tokens: 24}}
    control: {match: tokens}
  by-steps:
    kind: distilled
    model: small
    teacher: teacher
    recipe: {<<: *base, train_flops: 4e8, text: traces, traces: {prompts: 150, max_new_tokens: 24}}
    control: {match: steps}
"""
PARTS = {
    "train": ("train_flops", "tokens", "train_seconds"),
    "teacher_forward": ("teacher_flops", "tokens", "teacher_seconds"),
    "generate_student": ("generate_flops", "generated_tokens", "generate_seconds"),
}


class Kept(list[StepReport]):
    """A log that keeps each step's report."""

    __call__ = list.append

    def close(self) -> None: ...


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan, dict[str, Kept]]:
    """The study's models and traces, made in this process, with every step's report."""
    study = study_from_text(TEXT)
    assert isinstance(study, Study)
    plan, reports = Plan(study), {}
    store = Store.create(tmp_path_factory.mktemp("steps") / "records.sqlite")

    def kept(job: Job, plan: Plan, store: Store) -> Kept:
        return reports.setdefault(job.arm, Kept())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["stillmark.stages.train"], "tracked", kept)
        for job in plan.jobs.values():
            if job.stage in ("train", "generate"):
                stages.do_job(job, plan, store)
    torch.use_deterministic_algorithms(False)
    return store, plan, reports


@pytest.mark.parametrize("arm", ["teacher", "own", "own-control", "traces"])
def test_the_steps_parts_are_the_ledgers(run: tuple[Store, Plan, dict[str, Kept]], arm: str):
    store, plan, reports = run
    entries = store.ledger(plan.train_keys[arm, 0])
    assert {entry.part for entry in entries} == {
        "teacher": {"train"}, "own-control": {"train"}, "own": set(PARTS), "traces": {"train", "teacher_forward"},
    }[arm]  # fmt: skip
    for part, (flops, tokens, seconds) in PARTS.items():
        of_part = [entry for entry in entries if entry.part == part]
        steps = reports[arm]
        assert sum(getattr(step, flops) for step in steps) == sum(entry.flops for entry in of_part)
        assert sum(getattr(step, seconds) for step in steps) == pytest.approx(
            sum(entry.seconds for entry in of_part)
        )
        if of_part:
            assert sum(getattr(step, tokens) for step in steps) == sum(entry.tokens for entry in of_part)
    assert sum(step.flops for step in reports[arm]) == sum(entry.flops for entry in entries)


def test_only_steps_that_write_have_flops_of_writing(run: tuple[Store, Plan, dict[str, Kept]]):
    """Three in five steps read the student's own text, and every second of them writes it."""
    steps = run[2]["own"]
    writing = [step for step in steps if step.generate_flops]
    assert 0.15 * len(steps) < len(writing) < 0.45 * len(steps)
    assert all(step.generate_seconds > 0 and step.generated_tokens > 0 for step in writing)
    assert all(step.generate_seconds == 0 for step in steps if not step.generate_flops)


def test_rejected_traces_are_in_the_ledger(run: tuple[Store, Plan, dict[str, Kept]]):
    store, plan, _ = run
    key = plan.generate_keys["traces", 0]
    tokens: Counter[bool] = Counter()
    for sample in store.samples(key):
        tokens[sample.outcome is Outcome.CORRECT] += sample.prompt_tokens + sample.generated_tokens
    assert tokens[False] > 0
    assert sum(entry.tokens for entry in store.ledger(key)) == tokens[True] + tokens[False]


def test_the_plan_predicts_what_is_counted_writing_included(run: tuple[Store, Plan, dict[str, Kept]]):
    """Replies of six tokens, which a student that never stops writes in full: mean lengths and padding are all between."""
    store, plan, _ = run
    for arm in ("teacher", "own", "own-control"):
        key = plan.train_keys[arm, 0]
        counted = sum(entry.flops for entry in store.ledger(key))
        assert plan.jobs[key].predicted_flops == pytest.approx(counted, rel=0.1), arm
    written = sum(
        entry.flops for entry in store.ledger(plan.train_keys["own", 0]) if entry.part == "generate_student"
    )
    assert plan.sizes.own_text_flops("own") == pytest.approx(written, rel=0.25)


def test_the_plan_predicts_what_the_teacher_writes_of_a_prompt_together():
    """Four traces of a prompt read it once, as the engine does; at temperature 0 they are one."""

    def predicted(samples: int, temperature: float) -> int:
        text = TEXT.replace("{prompts: 150, max_new", f"{{prompts: 150, samples_per_prompt: {samples}, "
                            f"temperature: {temperature}, max_new")  # fmt: skip
        study = study_from_text(text)
        assert isinstance(study, Study)
        return Plan(study).sizes.generation_flops("traces")

    one, four = predicted(1, 1.0), predicted(4, 1.0)
    plan = Plan(study_from_text(TEXT))  # type: ignore[arg-type]
    lengths = plan.sizes.lengths["shuffled"]
    decoding = 150 * decode_flops(
        plan.shape("teacher"), prompt_tokens=lengths.prompt, new_tokens=lengths.response["solutions"]
    )
    assert four - one == 3 * decoding
    assert predicted(4, 0.0) == one


@pytest.mark.parametrize("student", ["own", "traces"])
def test_a_control_takes_the_compute_that_was_counted(run: tuple[Store, Plan, dict[str, Kept]], student: str):
    """Between its last step but one and its last, whatever the teacher's and the student's own replies took."""
    store, plan, reports = run
    entries = store.ledger(plan.train_keys[student, 0])
    counted = sum(entry.flops for entry in entries if student != "own" or entry.part != "teacher_forward")
    if student == "traces":
        counted += sum(entry.flops for entry in store.ledger(plan.generate_keys[student, 0]))
    control = f"{student}-control"
    spent = sum(entry.flops for entry in store.ledger(plan.train_keys[control, 0]))
    assert 0 <= spent - counted < reports[control][-1].train_flops


@pytest.mark.parametrize(("unit", "student"), [("tokens", "by-tokens"), ("step", "by-steps")])
def test_a_control_has_the_tokens_or_steps_of_its_student_at_each_checkpoint(
    run: tuple[Store, Plan, dict[str, Kept]], unit: str, student: str
):
    store, plan, reports = run
    mine, others = (
        [getattr(row, unit) for row in store.checkpoints(plan.train_keys[arm, 0])]
        for arm in (student, f"{student}-control")
    )
    most = max(step.tokens for step in reports[f"{student}-control"]) if unit == "tokens" else 1
    assert len(mine) == 2
    assert all(0 <= other - own < most for own, other in zip(mine, others, strict=True))
