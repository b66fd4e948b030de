"""What a study's records say: a plain mapping that the page, the tables and `--json` are all made from.

Nothing here is shown that is not in it, and nothing in it is worked out again elsewhere.
"""

from typing import Any

from stillmark.analysis.answer_axes import answer_axes
from stillmark.analysis.arm_rows import arm_row
from stillmark.analysis.bootstrap import NUM_RESAMPLES, RANDOM_SEED
from stillmark.analysis.comparisons import comparisons
from stillmark.analysis.curves import Curve
from stillmark.analysis.differences import difference_rows
from stillmark.analysis.ledger_rows import ledger_rows
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.overlap_rows import overlap_rows
from stillmark.analysis.profile_rows import device_rows, profile_rows
from stillmark.analysis.quantised import quantised_part, quantised_rows
from stillmark.analysis.resample import draw_together
from stillmark.analysis.size_rows import size_claim_rows
from stillmark.analysis.text_conclusion import conclude_text
from stillmark.analysis.training_rows import training_rows
from stillmark.compute.ledger import BOUNDARY_WORDS
from stillmark.records import ItemRecord, Store


def conclude_study(store: Store) -> dict[str, Any]:
    """The whole conclusion. Arms without records are named under `unfinished` and left out elsewhere."""
    lineage = Lineage(store)
    study = lineage.study
    if study.is_text:
        return conclude_text(lineage)
    curves = {
        arm: [curve for seed in study.seeds if (curve := lineage.curve(arm, seed)) is not None]
        for arm in study.arms
    }
    recorded = [arm for arm in study.arms if is_whole(lineage, arm, curves[arm])]
    items = store.items()
    draw_together([curve for arm in recorded for curve in curves[arm]])
    arms = [arm_row(lineage, arm, curves[arm], items) for arm in recorded]
    profiles = profile_rows(lineage)
    devices = device_rows(lineage, arms, profiles)
    return {
        "name": study.name,
        "description": study.description,
        "seeds": list(study.seeds),
        "evaluated_on": study.evaluate_on,
        "boundaries": {str(boundary): words for boundary, words in BOUNDARY_WORDS.items()},
        "students_per_teacher": lineage.students_per_teacher,
        "tasks": {name: task_row(lineage, name, items) for name in study.tasks},
        "arms": arms,
        "profiles": profiles,
        "choose": devices,
        "answer_axes": answer_axes(lineage, arms, profiles, devices),
        "comparisons": comparisons(lineage, {arm: curves[arm] for arm in recorded}),
        "differences": difference_rows(study, {arm: curves[arm] for arm in recorded}),
        **quantised_part(quantised_rows(study, {arm: curves[arm] for arm in recorded})),
        "size_claims": size_claim_rows(lineage, {arm: curves[arm] for arm in recorded}),
        "ledger": ledger_rows(lineage),
        "training": training_rows(lineage),
        "overlap": overlap_rows(lineage, items),
        "unfinished": sorted({f"{job.stage} {job.arm} seed {job.seed}" for job in lineage.unfinished}),
        "bootstrap": {"num_resamples": NUM_RESAMPLES, "random_seed": RANDOM_SEED, "confidence": 0.95},
        "provenance": lineage.provenance,
        "study_text": lineage.text,
    }


def is_whole(lineage: Lineage, arm: str, curves: list[Curve]) -> bool:
    """Whether every seed of an arm is evaluated at every checkpoint."""
    num_evaluated = len(lineage.study.arms[arm].evaluated)
    return len(curves) == len(lineage.study.seeds) and all(len(c.points) == num_evaluated for c in curves)


def task_row(lineage: Lineage, name: str, items: dict[str, ItemRecord]) -> dict[str, Any]:
    spec, task = lineage.study.tasks[name], lineage.plan.tasks[name]
    example = task.held_out_samples("validation")[0]
    return {
        **spec.model_dump(),
        "chance": task.chance,
        "example": {"prompt": example.prompt, "answer": example.answer, "solution": example.solution},
    }
