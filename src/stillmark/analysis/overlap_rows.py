"""Training questions that are held-out items: looked for in what each arm of a question study was trained on.

Traces whose prompt equals a held-out item are not learned from. Equality would be a leak, and the tasks rule it out by
construction: this checks that they did. A shared run of 13 words is counted beside it and drops nothing, since
questions that are composed of a few words share some by chance (`tasks/overlap.py` has the rule).
"""

from typing import Any

from stillmark.analysis.lineage import Lineage
from stillmark.records import ItemRecord
from stillmark.study.schema import QuantisedArm
from stillmark.tasks.overlap import EvaluationItems
from stillmark.tasks.task import HELD_OUT, held_out_prompts
from stillmark.tasks.traces import choose_traces

MAX_LOOKED_AT = 2000  # training questions of one arm and seed, its first ones


def overlap_rows(lineage: Lineage, items: dict[str, ItemRecord]) -> list[dict[str, Any]]:
    """One row a trained arm, over seeds: its distinct questions, and how many of them overlap."""
    held_out = {}
    prompts = {item_id: item.prompt for item_id, item in items.items()}
    rows = []
    for arm, spec in lineage.study.arms.items():
        if spec.recipe is None or isinstance(spec, QuantisedArm):
            continue  # nothing was trained for it
        name = lineage.study.task_of(arm)
        if name not in held_out:
            held_out[name] = held_out_items(lineage, arm, prompts)
        num_items, evaluation = held_out[name]
        questions: set[str] = set()
        read = 0
        for seed in lineage.study.seeds:
            trained_on, number = questions_of(lineage, arm, seed, prompts)
            questions |= set(trained_on)
            read += number
        kinds = [found.kind for question in questions if (found := evaluation.overlap(question))]
        rows.append(
            {
                "arm": arm,
                "text": spec.recipe.text,
                "held_out_items": num_items,
                "samples_read": read,
                "questions_looked_at": len(questions),
                "equal": kinds.count("equal"),
                "shared_run": kinds.count("shared_run"),
            }
        )
    return rows


def held_out_items(lineage: Lineage, arm: str, prompts: dict[str, str]) -> tuple[int, EvaluationItems]:
    """Those of the arm's task. The split that was evaluated is read where it is recorded: to draw it anew takes longer
    than the rest of a large study's conclusion.
    """
    study, task = lineage.study, lineage.plan.tasks[lineage.study.task_of(arm)]
    job = lineage.evaluation(arm, study.seeds[0], study.arms[arm].checkpoints - 1)
    if job.key in lineage.finished:
        answered = dict.fromkeys(item_id for (item_id,) in lineage.store.sample_columns(job.key, "item_id"))
        held_out = [prompts[item_id] for item_id in answered]
        held_out += [
            sample.prompt
            for split in HELD_OUT
            if split != study.evaluate_on
            for sample in task.held_out_samples(split)
        ]
    else:
        held_out = held_out_prompts(task)
    return len(held_out), EvaluationItems(held_out)


def questions_of(lineage: Lineage, arm: str, seed: int, prompts: dict[str, str]) -> tuple[list[str], int]:
    """(the questions looked at, the samples that training read of such)."""
    checkpoints = lineage.store.checkpoints(lineage.plan.train_keys[arm, seed])
    read = checkpoints[-1].samples_seen if checkpoints else 0
    recipe = lineage.study.arms[arm].training
    task = lineage.plan.tasks[lineage.study.task_of(arm)]
    if recipe.traces is None:
        number = min(read, MAX_LOOKED_AT)
        return [task.training_sample(seed, index).prompt for index in range(number)], read
    choice = choose_traces(
        lineage.store.samples(lineage.plan.generate_keys[arm, seed]),
        prompts,
        max_per_prompt=recipe.traces.max_per_prompt,
    )
    return [prompt for prompt, _ in choice.pairs], read
