"""Stored replies to a benchmark graded as they would be graded now: no model is needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillmark.records import ItemRecord, SampleDetail, SampleRecord, Store
from stillmark.tasks.benchmark import Benchmark
from stillmark.tasks.choice_scorer import judge_likelihoods
from stillmark.tasks.registry import find_benchmark
from stillmark.tasks.thinking import ThinkingTags, starts_thinking
from stillmark.tasks.user_task import UserTask, benchmark_of
from stillmark.tasks.verdict import Verdict, judge


def recorded_benchmark(inputs: Mapping[str, Any]) -> Benchmark:
    """The benchmark that a job asked; of a user's task as it was then, whatever its YAML says or where it is now."""
    said = (inputs.get("task_settings") or {}).get("task")
    if said is None:
        return find_benchmark(inputs.get("reference") or inputs["task"])[0]
    return benchmark_of(UserTask.model_validate(said), Path())


class Grader:
    """Grades the replies of one job, of which `inputs` say what was asked and how."""

    def __init__(
        self, store: Store, job_key: str, inputs: Mapping[str, Any], items: Mapping[str, ItemRecord]
    ) -> None:
        self.store, self.inputs, self.items = store, inputs, items
        self.benchmark = recorded_benchmark(inputs)
        self.details: dict[tuple[str, int], SampleDetail] = store.details(job_key)
        self.tags = ThinkingTags(**inputs["thinking"]) if inputs["thinking"] else None

    def grade(self, sample: SampleRecord, response: str, stop_reason: str) -> Verdict:
        detail = self.details[(sample.item_id, sample.repeat)]
        target = self.items[sample.item_id].target
        if detail.nats is not None:
            return judge_likelihoods(json.loads(detail.nats), target, self.inputs["likelihood_rule"])
        sent = self.store.prompt(detail.prompt_sha256) or ""
        return judge(
            self.benchmark.scorer, response, target, stop_reason,
            tags=self.tags, starts_thinking=starts_thinking(sent, self.tags),
        )  # fmt: skip
