"""Chooses the samples that the page lets one read: items with what every arm replied, those first where arms disagree.

All of them where they fit; else a fixed choice, and the page says of how many.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from stillmark.analysis.lineage import Lineage
from stillmark.benchmark_plan import checkpoints_asked, label_of
from stillmark.records import ItemRecord, Outcome, Store
from stillmark.report import words
from stillmark.tasks.choice_scorer import choice_label

OUTCOME_ORDER = tuple(str(outcome) for outcome in Outcome)
BUDGET_CHARACTERS = 900_000  # of prompts and replies on the page
MAX_ITEMS = 2000
MAX_REPLY = 2000  # characters of one reply


def browse(store: Store, conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each task and seed, items with the replies of its arms at their last checkpoint; only arms that are whole."""
    lineage = Lineage(store)
    arms_of: dict[str, list[str]] = {}
    for arm in conclusion["arms"]:
        arms_of.setdefault(lineage.study.task_of(arm["arm"]), []).append(arm["arm"])
    groups = [(task, seed) for task in arms_of for seed in conclusion["seeds"]]
    known = store.items()
    return [
        {"task": task, "seed": seed,
         **browse_group(store, {arm: last_evaluation(lineage, arm, seed) for arm in arms_of[task]}, known,
                        BUDGET_CHARACTERS // len(groups))}
        for task, seed in groups
    ]  # fmt: skip


def browse_benchmarks(store: Store, conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each benchmark and seed of a text study, items with the replies of its models, arms at their last
    checkpoint; only those that have answered.
    """
    lineage = Lineage(store)
    asked = lineage.study.benchmarks
    if asked is None:
        return []
    last = {who: along[-1] for who, along in checkpoints_asked(lineage.study, asked).items()}
    groups: dict[tuple[str, int], dict[str, str]] = {}
    for name in asked.tasks:
        for seed in conclusion["seeds"]:
            keys = {who: lineage.plan.benchmark_keys[who, seed, name, at] for who, at in last.items()}
            answered = {who: key for who, key in keys.items() if key in lineage.finished}
            if answered:
                groups[label_of(asked, name), seed] = answered
    known = store.items()
    return [
        {"task": task, "seed": seed, **browse_group(store, jobs, known, BUDGET_CHARACTERS // len(groups))}
        for (task, seed), jobs in groups.items()
    ]


def browse_group(
    store: Store, jobs: dict[str, str], known: dict[str, ItemRecord], budget: int
) -> dict[str, Any]:
    """The items of one task and seed that fit the budget of characters, those first where arms disagree.

    `jobs`: of each arm, the key of the job that asked it.
    """
    outcomes = [store.outcomes(key) for key in jobs.values()]
    positions = [at for (at,) in store.sample_columns(next(iter(jobs.values())), "position")]
    order = [positions[place] for place in reading_order(outcomes)]
    chosen = order[:MAX_ITEMS]
    replies = [store.replies(key, chosen) for key in jobs.values()]
    shown: list[dict[str, Any]] = []
    spent = 0
    for position in chosen:
        found = [replies_of_arm[position] for replies_of_arm in replies]
        item = known[found[0][0]]
        question, target = question_and_answer(item)
        row = {
            "level": item.level,
            "prompt": question,
            "target": words.visible_text(target, MAX_REPLY),
            "replies": [[OUTCOME_ORDER.index(str(outcome)), words.visible_text(response, MAX_REPLY)]
                        for _, outcome, response in found],
        }  # fmt: skip
        spent += len(json.dumps(row))
        if spent > budget and shown:
            break
        shown.append(row)
    return {"arms": [*jobs], "num_items": len(order), "items": shown}


def question_and_answer(item: ItemRecord) -> tuple[str, str]:
    """What was asked, as it is shown, with its choices where it has some, and the right answer.

    Of a task without one answer, what its scorer holds a reply against, such as tests.
    """
    question = words.visible_text(item.prompt, MAX_REPLY)
    try:
        target = json.loads(item.target)
    except ValueError:
        return question, item.target
    if not isinstance(target, dict):
        return question, item.target
    if target.keys() == {"label", "choices"}:
        choices = [f"{choice_label(index)}: {words.visible_text(choice, MAX_REPLY)}"
                   for index, choice in enumerate(target["choices"])]  # fmt: skip
        return "\n".join([question, *choices]), target["label"]
    return question, str(target.get("answer", item.target))


def last_evaluation(lineage: Lineage, arm: str, seed: int) -> str:
    """Key of the job that asked the arm's last checkpoint."""
    return lineage.evaluation(arm, seed, lineage.study.arms[arm].checkpoints - 1).key


def reading_order(outcomes: list[list[Outcome]]) -> list[int]:
    """Places of the items among those asked: those that arms disagree on first, else as they come."""
    is_right = np.array([[outcome is Outcome.CORRECT for outcome in row] for row in outcomes])
    share = is_right.mean(axis=0)
    disagreement = np.minimum(share, 1 - share)
    return [int(position) for position in np.argsort(-disagreement, kind="stable")]
