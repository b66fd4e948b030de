"""What a study's records say: a plain mapping that the page, the tables and `--json` are all made from.

Nothing here is shown that is not in it, and nothing in it is worked out again elsewhere.
"""

from collections import Counter
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from stillmark.analysis.curves import Curve
from stillmark.analysis.differences import difference_rows
from stillmark.analysis.frontier import Band, Ratio, compute_ratios, curve_band
from stillmark.analysis.intervals import Interval, accuracy_interval, accuracy_interval_over_seeds
from stillmark.analysis.ledger_rows import finite, ledger_rows
from stillmark.analysis.lineage import Lineage, correctness
from stillmark.analysis.profile_rows import device_rows, profile_rows
from stillmark.analysis.quantised import quantised_part, quantised_rows
from stillmark.analysis.shared_teacher import ratios_by_students
from stillmark.analysis.size import SizedResult, equivalent_size
from stillmark.analysis.size_rows import size_claim_rows
from stillmark.analysis.text_conclusion import conclude_text
from stillmark.compute.flops import generate_flops
from stillmark.compute.ledger import BOUNDARY_WORDS, Boundary
from stillmark.records import ItemRecord, SampleRecord, Store
from stillmark.study.schema import QuantisedArm

RANDOM_SEED = 0  # of every bootstrap: recorded in the conclusion
NUM_RESAMPLES = 2000
ACCURACY_STEP = 0.05


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
    arms = [arm_row(lineage, arm, curves[arm], items) for arm in recorded]
    profiles = profile_rows(lineage)
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
        "choose": device_rows(lineage, arms, profiles),
        "comparisons": comparisons(lineage, {arm: curves[arm] for arm in recorded}),
        "differences": difference_rows(study, {arm: curves[arm] for arm in recorded}),
        **quantised_part(quantised_rows(study, {arm: curves[arm] for arm in recorded})),
        "size_claims": size_claim_rows(lineage, {arm: curves[arm] for arm in recorded}),
        "ledger": ledger_rows(lineage),
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


def arm_row(lineage: Lineage, arm: str, curves: list[Curve], items: dict[str, ItemRecord]) -> dict[str, Any]:
    """One arm: what it is, how well it does at the end, what it took, and its curve."""
    spec, shape = lineage.study.arms[arm], lineage.plan.shape(arm)
    last = {seed: lineage.checkpoint_costs(arm, seed)[-1] for seed in lineage.study.seeds}
    samples = {seed: lineage.samples(arm, seed, cost.index) for seed, cost in last.items()}
    everything = [sample for group in samples.values() for sample in group]
    prompt_tokens = float(np.mean([sample.prompt_tokens for sample in everything]))
    new_tokens = float(np.mean([sample.generated_tokens for sample in everything]))
    flops_of = cache(lambda prompt, new: generate_flops(shape, prompt_tokens=prompt, new_tokens=new))
    answer_flops = [flops_of(sample.prompt_tokens, sample.generated_tokens) for sample in everything]
    traces: Counter[str] = Counter()
    for seed in lineage.study.seeds:
        traces.update({str(outcome): count for outcome, count in lineage.traces(arm, seed).items()})
    return {
        "arm": arm,
        "kind": spec.kind,
        "model": spec.model,
        "params": shape.params,
        "matmul_params": shape.matmul_params,
        "text": spec.training.text,
        "loss": spec.training.loss,
        "learning_rate": spec.training.learning_rate,
        "teacher": spec.teacher,
        "base": spec.base,
        "accuracy": interval_row(
            accuracy_interval_over_seeds([correctness_of(group) for group in samples.values()])
        ),
        "accuracy_by_seed": {str(seed): interval_row(accuracy_interval(correctness_of(group)))
                             for seed, group in samples.items()},
        "accuracy_by_level": by_level(everything, items),
        "outcomes": dict(Counter(str(sample.outcome) for sample in everything)),
        "num_items": len({sample.item_id for sample in everything}),
        "flops": {str(b): float(np.mean([cost.within(b).flops for cost in last.values()])) for b in Boundary},
        "cpu_seconds": {str(b): float(np.mean([cost.within(b).cpu_seconds for cost in last.values()]))
                        for b in Boundary},
        "prompt_tokens": prompt_tokens,
        "generated_tokens": new_tokens,
        "answer_flops": float(np.mean(answer_flops)),
        "traces": dict(traces),
        "curve": curve_rows(lineage, curves),
        **({"quantised_from": spec.parent, "format": spec.format} if isinstance(spec, QuantisedArm) else {}),
    }  # fmt: skip


def correctness_of(samples: list[SampleRecord]) -> npt.NDArray[np.float64]:
    return correctness(sample.outcome for sample in samples)


def by_level(samples: list[SampleRecord], items: dict[str, ItemRecord]) -> list[dict[str, Any]]:
    """Accuracy at each difficulty, clustered by item over seeds."""
    levels = sorted({items[sample.item_id].level for sample in samples})
    rows = []
    for level in levels:
        chosen = [sample for sample in samples if items[sample.item_id].level == level]
        interval = accuracy_interval(correctness_of(chosen), clusters=[sample.item_id for sample in chosen])
        rows.append({"level": level, "accuracy": interval_row(interval)})
    return rows


def curve_rows(lineage: Lineage, curves: list[Curve]) -> dict[str, list[dict[str, float]]]:
    """Mean accuracy over seeds with its pointwise band, over compute within each boundary.

    A boundary moves compute alone: accuracy and band are resampled once. An arm that is evaluated once has one point,
    at its seeds' mean compute: they need not have spent the same.
    """
    if all(len(curve.points) == 1 for curve in curves):
        return {str(boundary): [one_point(lineage, curves, boundary)] for boundary in Boundary}

    def band_within(boundary: Boundary, num_resamples: int) -> Band:
        (band,) = curve_band(curves, extra_flops=lineage.extra_flops(boundary),
                             num_resamples=num_resamples, random_seed=RANDOM_SEED)  # fmt: skip
        return band

    drawn = band_within(Boundary.STUDENT, NUM_RESAMPLES)
    rows = {}
    for boundary in Boundary:
        columns = zip(band_within(boundary, 1).flops, drawn.accuracy, drawn.low, drawn.high, strict=True)
        rows[str(boundary)] = [
            dict(zip(("flops", "accuracy", "low", "high"), map(float, row), strict=True)) for row in columns
        ]
    return rows


def one_point(lineage: Lineage, curves: list[Curve], boundary: Boundary) -> dict[str, float]:
    extra = lineage.extra_flops(boundary)
    flops = [curve.points[0].flops + extra(curve, curve.points[0]) for curve in curves]
    found = accuracy_interval_over_seeds([curve.points[0].correct for curve in curves])
    assert found is not None, "an arm that is recorded whole has answers"
    return {"flops": float(np.mean(flops)), "accuracy": found.value, "low": found.low, "high": found.high}


def interval_row(interval: Interval | None) -> dict[str, Any] | None:
    return None if interval is None else asdict(interval)


def comparisons(lineage: Lineage, curves: dict[str, list[Curve]]) -> list[dict[str, Any]]:
    """Each student (and control) against the vanilla family: compute ratio at equal accuracy, and size."""
    chosen = lineage.study.conclusion
    if chosen is None:
        return []
    vanilla = [curve for arm in chosen.vanilla for curve in curves.get(arm, [])]
    return [
        comparison(lineage, name, curves[name], vanilla, is_control=name in chosen.controls)
        for name in [*chosen.students, *chosen.controls]
        if name in curves and vanilla
    ]


def comparison(
    lineage: Lineage, name: str, student: list[Curve], vanilla: list[Curve], *, is_control: bool
) -> dict[str, Any]:
    """Vanilla compute / student compute at two accuracies, each a round number fixed before the ratio is worked out.

    `final`: the highest that the student surely ends with; `shared`: the highest that both sides surely end with.
    """
    task = lineage.plan.tasks[lineage.study.task_of(name)]
    end = float(np.mean([np.nanmean(curve.points[-1].correct) for curve in student]))
    sure, vanilla_sure = sure_accuracy(student), max(sure_accuracy(arm) for arm in by_arm(vanilla).values())
    shared = min(sure, vanilla_sure)
    accuracies = {"final": sure or end} | ({"shared": shared} if 0 < shared < sure else {})
    ratios = []
    for boundary in Boundary:
        extra = lineage.extra_flops(boundary)
        found = compute_ratios(
            vanilla, student, list(accuracies.values()), numerator_extra_flops=extra, denominator_extra_flops=extra,
            chance=task.chance, num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED,
        )  # fmt: skip
        ratios += [ratio_row(at, str(boundary), ratio) for at, ratio in zip(accuracies, found, strict=True)]
    params = {arm: lineage.plan.shape(arm).params for arm in {curve.arm for curve in vanilla}}
    params[name] = lineage.plan.shape(name).params
    student_results, family = (
        [
            SizedResult(params=params[curve.arm], seed=curve.seed, correct=curve.points[-1].correct)
            for curve in curves
        ]
        for curves in (student, vanilla)
    )
    size = equivalent_size(student_results, family, num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED)
    return {
        "arm": name,
        "is_control": is_control,
        "vanilla": sorted({curve.arm for curve in vanilla}, key=lambda arm: params[arm]),
        "final_accuracy": end,
        "sure_accuracy": accuracies["final"],
        "shared_accuracy": accuracies.get("shared"),
        "ratios": ratios,
        "by_students": by_students(lineage, vanilla, student, accuracies["final"]),
        "equivalent_params": asdict(size),
        "capability_density": asdict(size.density),
        "params": params[name],
    }


def by_students(
    lineage: Lineage, vanilla: list[Curve], student: list[Curve], accuracy: float
) -> list[dict[str, Any]]:
    """The ratio at the student's accuracy for each number of students that share the teacher."""
    chance = lineage.plan.tasks[lineage.study.task_of(student[0].arm)].chance
    found = ratios_by_students(lineage, vanilla, student, accuracy, chance=chance,
                               num_resamples=NUM_RESAMPLES, random_seed=RANDOM_SEED)  # fmt: skip
    return [{"students": k, **ratio_row("final", str(boundary), ratio)} for k, boundary, ratio in found]


def by_arm(curves: list[Curve]) -> dict[str, list[Curve]]:
    return {
        arm: [curve for curve in curves if curve.arm == arm] for arm in dict.fromkeys(c.arm for c in curves)
    }


def sure_accuracy(seeds: list[Curve]) -> float:
    """The highest multiple of 5 points below the lower limit of an arm's accuracy at the end of training.

    Well inside what was reached, so that few resamples of a ratio end without reaching it.
    """
    interval = accuracy_interval_over_seeds([curve.points[-1].correct for curve in seeds])
    return 0.0 if interval is None else float(np.floor(interval.low / ACCURACY_STEP) * ACCURACY_STEP)


def ratio_row(at: str, boundary: str, ratio: Ratio) -> dict[str, Any]:
    return {
        "at": at,
        "boundary": boundary,
        "accuracy": ratio.at_accuracy,
        "text": str(ratio),
        "value": finite(ratio.value),
        "low": finite(ratio.low),
        "high": finite(ratio.high),
        "censored": ratio.censored,
        "bound": finite(ratio.lower_bound if ratio.censored == "more than" else ratio.upper_bound),
        "vanilla_flops": finite(ratio.numerator.value),
        "student_flops": finite(ratio.denominator.value),
        "reached_by": ratio.numerator.reached_by,
        "method": "counted over counted",
        "notes": list(ratio.notes),
    }
