"""The `benchmarks:` section before anything is run: what it finds, what it refuses, what a job's key holds."""

import json
from pathlib import Path

import pytest
import yaml
from tests.benchmark_tasks import benchmark_study, write_tasks
from tests.test_text_study import study_of
from tests.text_models import write_held_out

from stillmark.errors import UserError
from stillmark.evaluate.study_benchmarks import rows_of
from stillmark.plan import Plan
from stillmark.resolve import resolve
from stillmark.study.load import checked_study


def test_what_a_benchmark_asks_is_not_learned_from(tmp_path: Path):
    write_tasks(tmp_path)
    study = study_of(tmp_path)
    text = study["tasks"]["mixed"]
    text["train"] = [text["train"][0], {**text["train"][1], "held_out_share": 0.0}]
    text["test"] = [{"file": str(write_held_out(tmp_path))}]
    plain = resolve(checked_study(study, "plain")).tasks["mixed"].resolved
    asked = resolve(checked_study(study | {"benchmarks": {"tasks": [f"{tmp_path}/known.yaml"]}}, "asked"))
    found = asked.tasks["mixed"].resolved
    assert (plain.dropped_documents, found.dropped_documents) == (0, 2)  # both responses to that one prompt
    assert found.train_sequences == plain.train_sequences - 2


def test_a_name_of_an_arm_that_the_plan_adds_is_refused(tmp_path: Path):
    study = benchmark_study(tmp_path)
    study["benchmarks"]["others"] = {"live-control": {"model": str(tmp_path / "given")}}
    with pytest.raises(UserError, match=r"benchmarks\.others\.live-control: an arm has this name"):
        Plan(resolve(checked_study(study, "study")))


def test_another_template_or_another_way_to_ask_is_another_job(tmp_path: Path):
    def keys(study: dict) -> set[str]:
        return set(Plan(resolve(checked_study(study, "study"))).benchmark_keys.values())

    study = benchmark_study(tmp_path)
    before = keys(study)
    words = yaml.safe_load((tmp_path / "words.yaml").read_text())
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(words | {"prompt": "{question} ->"}))
    rows_of.cache_clear()
    assert len(before & keys(study)) == len(before) / 2  # of the other benchmark
    (tmp_path / "given" / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['content'] }}!{% endfor %}"
    )
    assert not before & keys(study)


def test_two_tasks_of_one_name_are_refused(tmp_path: Path):
    study = benchmark_study(tmp_path)
    (tmp_path / "again.yaml").write_text((tmp_path / "words.yaml").read_text())
    study["benchmarks"]["tasks"].append(f"{tmp_path}/again.yaml")
    with pytest.raises(UserError, match="two of them are called `words`"):
        resolve(checked_study(study, "study"))


def test_chance_is_that_of_the_items_that_are_asked(tmp_path: Path):
    write_tasks(tmp_path)
    rows = [
        {"question": f"{k}?", "options": [*map(str, range(2 + 3 * (k % 2)))], "right": 0} for k in range(20)
    ]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = study_of(tmp_path) | {"benchmarks": {"tasks": [f"{tmp_path}/sums.yaml"], "limit": 3}}
    found = resolve(checked_study(study, "study")).benchmarks.resolved[f"{tmp_path}/sums.yaml"]
    data, _ = rows_of(f"{tmp_path}/sums.yaml", None)
    asked = [len(data.rows[index].choices) for index in data.chosen(3)]
    assert found.chance == pytest.approx(sum(1 / count for count in asked) / 3)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"tasks": ["arc_eazy"]}, "unknown task `arc_eazy`"),
        ({"tasks": ["arc_easy"], "arms": ["nobody"]}, "benchmarks.arms[0]: there is no arm `nobody`"),
        ({"tasks": ["arc_easy", "arc_easy"]}, "benchmarks.tasks: the same one is named twice"),
        ({"tasks": []}, "benchmarks.tasks"),
        ({"tasks": ["arc_easy"], "data": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_a_fault_is_one_line(tmp_path: Path, section: dict, said: str):
    with pytest.raises(UserError) as fault:
        resolve(checked_study(study_of(tmp_path) | {"benchmarks": section}, "study"))
    assert said in str(fault.value)


def test_a_chat_endpoint_is_not_asked_for_likelihoods(tmp_path: Path):
    study = benchmark_study(tmp_path)
    study["benchmarks"]["others"] = {"api": {"model": "m", "engine": "openai"}}
    with pytest.raises(UserError, match="a chat endpoint gives no likelihoods"):
        resolve(checked_study(study, "study"))
