"""Chooses the samples that the page lets one read: items with what every arm replied, those first where arms disagree.

All of them where they fit; else a fixed choice, and the page says of how many.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from stillmark.analysis.lineage import Lineage
from stillmark.records import ItemRecord, Outcome, Store
from stillmark.report import words

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
        {"task": task, "seed": seed, "arms": arms_of[task],
         **browse_group(store, lineage, arms_of[task], seed, known, BUDGET_CHARACTERS // len(groups))}
        for task, seed in groups
    ]  # fmt: skip


def browse_group(
    store: Store, lineage: Lineage, names: list[str], seed: int, known: dict[str, ItemRecord], budget: int
) -> dict[str, Any]:
    """The items of one task and seed that fit the budget of characters, those first where arms disagree."""
    jobs = {name: last_evaluation(lineage, name, seed) for name in names}
    order = reading_order([store.outcomes(jobs[name]) for name in names])
    chosen = order[:MAX_ITEMS]
    replies = {name: store.replies(jobs[name], chosen) for name in names}
    shown: list[dict[str, Any]] = []
    spent = 0
    for position in chosen:
        found = [replies[name][position] for name in names]
        item = known[found[0][0]]
        row = {
            "level": item.level,
            "prompt": words.visible_text(item.prompt, MAX_REPLY),
            "target": words.visible_text(item.target, MAX_REPLY),
            "replies": [[OUTCOME_ORDER.index(str(outcome)), words.visible_text(response, MAX_REPLY)]
                        for _, outcome, response in found],
        }  # fmt: skip
        spent += len(json.dumps(row))
        if spent > budget and shown:
            break
        shown.append(row)
    return {"num_items": len(order), "items": shown}


def last_evaluation(lineage: Lineage, arm: str, seed: int) -> str:
    """Key of the job that asked the arm's last checkpoint."""
    return lineage.evaluation(arm, seed, lineage.study.arms[arm].checkpoints - 1).key


def reading_order(outcomes: list[list[Outcome]]) -> list[int]:
    """Positions of the items: those that arms disagree on first, else as they come."""
    is_right = np.array([[outcome is Outcome.CORRECT for outcome in row] for row in outcomes])
    share = is_right.mean(axis=0)
    disagreement = np.minimum(share, 1 - share)
    return [int(position) for position in np.argsort(-disagreement, kind="stable")]
