"""What a text study's records say: bits per byte, perplexity and KL to the teacher over compute, as one mapping.

What a given model took to make is not in the records: boundaries that hold it are None, with the reason beside them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from stillmark.analysis.arm_rows import mean_or_none
from stillmark.analysis.benchmark_rows import benchmark_part
from stillmark.analysis.bootstrap import NUM_RESAMPLES, RANDOM_SEED
from stillmark.analysis.crossed import ratio_of_sums
from stillmark.analysis.ledger_rows import ledger_rows
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.profile_rows import device_rows, profile_rows
from stillmark.analysis.quantised import quantised_part, quantised_text_rows
from stillmark.analysis.text_pairs import pair_rows, training_tokens
from stillmark.analysis.text_scores import COMPARED, MEASURES, TextResult, estimate_row, text_result
from stillmark.analysis.training_rows import training_rows
from stillmark.compute.ledger import BOUNDARY_WORDS, PARTS_WITHIN, Boundary, Part
from stillmark.study.schema import Arm, ControlArm, GivenModel, PrunedModel, QuantisedArm, Text


def conclude_text(lineage: Lineage) -> dict[str, Any]:
    """The whole conclusion of a text study; arms without records are under `unfinished` and left out elsewhere."""
    study = lineage.study
    results = {arm: found for arm in study.arms if (found := text_result(lineage, arm)) is not None}
    teacher = results.get(lineage.plan.judge or "")
    pairs = pair_rows(lineage, results)
    arms = [
        arm_row(lineage, result, teacher, role_of(lineage, arm, pairs)) for arm, result in results.items()
    ]
    profiles = profile_rows(lineage)
    return {
        "kind": "text",
        "name": study.name,
        "description": study.description,
        "seeds": list(study.seeds),
        "boundaries": {str(boundary): words for boundary, words in BOUNDARY_WORDS.items()},
        "students_per_teacher": lineage.students_per_teacher,
        "judge": lineage.plan.judge,
        "tasks": {name: task_row(lineage, name, results) for name in study.tasks},
        "arms": arms,
        "profiles": profiles,
        "choose": device_rows(lineage, arms, profiles),
        "pairs": pairs,
        **quantised_part(quantised_text_rows(lineage, results)),
        **benchmark_part(lineage),
        "ledger": text_ledger(lineage),
        "training": training_rows(lineage),
        "unfinished": sorted({f"{job.stage} {job.arm} seed {job.seed}" for job in lineage.unfinished}),
        "bootstrap": {"num_resamples": NUM_RESAMPLES, "random_seed": RANDOM_SEED, "confidence": 0.95},
        "provenance": lineage.provenance,
        "study_text": lineage.text,
    }  # fmt: skip


def role_of(lineage: Lineage, arm: str, pairs: list[dict[str, Any]]) -> str:
    spec = lineage.study.arms[arm]
    if isinstance(spec, QuantisedArm):
        return "quantised"
    is_held_against = any(pair["other"] == arm and pair["role"] == "control" for pair in pairs)
    if isinstance(spec, ControlArm) or is_held_against:
        return "control"
    return {"distilled": "student", "teacher": "teacher"}.get(spec.kind, "vanilla")


def task_row(lineage: Lineage, name: str, results: Mapping[str, TextResult]) -> dict[str, Any]:
    """A task's settings, what its files were, and the held-out sequences by source."""
    spec = lineage.study.tasks[name]
    assert isinstance(spec, Text), name
    of_task = [arm for arm in results if lineage.study.task_of(arm) == name]
    # The tokens of the tokenizer that `resolved` is of, where an arm has it
    of_task.sort(key=lineage.study.is_first_reader, reverse=True)
    held_out = results[of_task[0]].held_out if of_task else None
    sources = []
    for source in dict.fromkeys(held_out.sources) if held_out else ():
        chosen = held_out.of_source(source)  # type: ignore[union-attr]
        sources.append(
            {
                "source": source,
                "sequences": int(chosen.sum()),
                "tokens": int(held_out.tokens[chosen].sum()),  # type: ignore[union-attr]
                "bytes": int(held_out.num_bytes[chosen].sum()),  # type: ignore[union-attr]
            }
        )
    of_several = {part for part in ("resolved_by", "compared") if not getattr(spec, part)}
    return {**spec.model_dump(mode="json", exclude=of_several), "held_out": sources}


def tokenizer_part(lineage: Lineage, arm: str) -> dict[str, str]:
    """The model whose tokenizer an arm reads with, of a study whose arms have several."""
    readers = {name: lineage.study.reader_of(name) for name in lineage.study.arms}
    return {"tokenizer": readers[arm]} if len(set(readers.values())) > 1 else {}


def arm_row(lineage: Lineage, result: TextResult, teacher: TextResult | None, role: str) -> dict[str, Any]:
    """One arm: what it is, how well it does at the end, what it took, and its curve."""
    name = result.arm
    spec, shape = lineage.study.arms[name], lineage.plan.shape(name)
    recipe = spec.recipe
    costs = {seed: lineage.checkpoint_costs(name, seed) for seed in lineage.study.seeds}
    sources = dict.fromkeys(result.held_out.sources)
    last = [rows[-1] for rows in costs.values()]
    aims = {
        m: teacher if teacher and teacher is not result and same_sequences(teacher, result, m) else None
        for m in COMPARED
    }
    return {
        "arm": name,
        "role": role,
        "kind": spec.kind,
        "model": spec.model,
        **tokenizer_part(lineage, name),
        "params": shape.params,
        "matmul_params": shape.matmul_params,
        "text": recipe.text if recipe else None,
        "loss": recipe.loss if recipe else None,
        "learning_rate": recipe.learning_rate if recipe else None,
        "teacher": spec.teacher,
        "base": spec.base,
        "start": start_words(lineage, spec),
        "num_seeds": len(result.nats),
        "scores": {measure: estimate_row(result.estimate(measure)) for measure in MEASURES},
        "by_source": [
            {
                "source": source,
                "sequences": int(result.held_out.of_source(source).sum()),
                **{m: estimate_row(result.estimate(m, -1, result.held_out.of_source(source))) for m in MEASURES},
            }
            for source in sources
        ],
        "by_seed": by_seed(lineage, result),
        "flops": {str(b): mean_or_none([cost.within(b).flops for cost in last]) for b in Boundary},
        "cpu_seconds": {str(b): mean_or_none([cost.within(b).cpu_seconds for cost in last]) for b in Boundary},
        "joules": {str(b): mean_or_none([cost.within(b).joules for cost in last]) for b in Boundary},
        "unknown": unknown_reasons(lineage, name),
        "tokens": training_tokens(lineage, name, -1),
        "curve": curve_points(lineage, result),
        "gap": {m: gap_row(result, aims[m], m) for m in COMPARED}
        if recipe and role != "quantised" else None,
    }  # fmt: skip


def same_sequences(first: TextResult, second: TextResult, measure: str) -> bool:
    """Whether both were scored on the same text, and, for a measure per token, on the same tokens."""
    return first.held_out.sources == second.held_out.sources and all(
        np.array_equal(one, other)
        for one, other in (
            (first.held_out.num_bytes, second.held_out.num_bytes),
            (first.sizes(measure), second.sizes(measure)),
        )
    )


def start_words(lineage: Lineage, spec: Arm) -> str:
    """What the arm starts from, and whether a seed changes that."""
    model = lineage.study.models[spec.model]
    if isinstance(spec, QuantisedArm):
        return f"the end of {spec.parent}, its weights rounded to {spec.format}"
    if spec.recipe is None:
        return f"given as it is: {spec.model}"
    if isinstance(model, PrunedModel):
        return (f"pruned from {spec.base or model.pruned_from} on {model.calibration_sequences} sequences of its "
                "training text: the same start for every seed, which varies the order of the text alone")  # fmt: skip
    if isinstance(model, GivenModel):
        return f"{spec.model}, given: the same start for every seed, which varies the order of the text alone"
    if spec.base:
        return f"the end of {spec.base}; the seed varies the order of the text"
    return "random weights: the seed varies them and the order of the text"


def by_seed(lineage: Lineage, result: TextResult) -> list[dict[str, Any]]:
    """Values at the end by seed, without intervals: how far the seeds are apart."""
    rows = []
    for index in range(len(result.nats)):
        row: dict[str, Any] = {"seed": lineage.study.seeds[index] if result.is_seeded else None}
        for measure in MEASURES:
            amounts = result.amounts(measure)
            value = None if amounts is None else amounts[index, -1].sum() / result.sizes(measure).sum()
            is_exp = measure == "perplexity" and value is not None
            row[measure] = None if value is None else float(np.exp(value) if is_exp else value)
        rows.append(row)
    return rows


def unknown_reasons(lineage: Lineage, arm: str) -> dict[str, str]:
    """By boundary, which part of it no record holds, and why."""
    spec = lineage.study.arms[arm]
    parts = lineage.checkpoint_costs(arm, lineage.study.seeds[0])[-1].parts
    why = {
        Part.STUDENT: f"{arm} is a given model: what its making took is not recorded",
        Part.GENERATION: f"the teacher's work for {arm} is not recorded whole",
        Part.TEACHER: f"what the making of its teacher ({spec.teacher}) took is not recorded",
        Part.BASE: f"what the making of its starting weights ({spec.base or spec.model}) took is not recorded",
    }
    reasons = {}
    for boundary in Boundary:
        missing = [part for part in PARTS_WITHIN[boundary] if part in parts and parts[part].flops is None]
        if spec.recipe is None and Part.BASE in missing and Part.STUDENT in missing:
            missing.remove(Part.BASE)
        if missing:
            reasons[str(boundary)] = "; ".join(why[part] for part in missing)
    return reasons


def curve_points(lineage: Lineage, result: TextResult) -> list[dict[str, Any]]:
    """Each checkpoint: mean FLOPs over seeds within each boundary, and the measures with their intervals."""
    costs = [lineage.checkpoint_costs(result.arm, seed) for seed in lineage.study.seeds]
    return [
        {
            "checkpoint": checkpoint,
            "flops": {
                str(b): mean_or_none([rows[index].within(b).flops for rows in costs]) for b in Boundary
            },
            "tokens": training_tokens(lineage, result.arm, checkpoint),
            **{measure: estimate_row(result.estimate(measure, index)) for measure in MEASURES},
        }
        for index, checkpoint in enumerate(lineage.study.arms[result.arm].evaluated)
    ]


def gap_row(result: TextResult, teacher: TextResult | None, measure: str) -> dict[str, Any]:
    """Share of the way from the arm's first checkpoint to the teacher that it has gone at the end.

    (first - end) / (first - teacher). Unknown where the first checkpoint is not surely worse than the teacher.
    """
    amounts = result.amounts(measure)
    aim = None if teacher is None else teacher.amounts(measure)
    if amounts is None or aim is None:
        return {"estimate": None, "reason": "no teacher was scored on the same sequences"}
    first, end = amounts[:, 0], amounts[:, -1]
    if amounts.shape[1] == 1:
        return {"estimate": None, "reason": "only one checkpoint is recorded"}
    gap = first - aim[:, -1]
    width = ratio_of_sums(gap, result.sizes(measure))
    if width.low is None or width.low <= 0:
        return {"estimate": None, "reason": "the first checkpoint is not surely worse than the teacher"}
    return {"estimate": estimate_row(ratio_of_sums(first - end, gap)), "reason": None}


def text_ledger(lineage: Lineage) -> list[dict[str, Any]]:
    """The ledger's rows; what the teacher reads to judge the held-out text is told apart from its work for students."""
    judging = {key for key, job in lineage.plan.jobs.items()
               if job.stage == "capture" and job.inputs["split"] == "test"}  # fmt: skip
    return [
        {**row, "part": "judge" if row["key"] in judging else row["part"]} for row in ledger_rows(lineage)
    ]
