"""A model card in Hugging Face's form that says what the model took to make, part by part, and how that is known."""

import json
from pathlib import Path
from typing import Any

from stillmark.analysis.lineage import Lineage
from stillmark.analysis.training_rows import part_rows, trained_job
from stillmark.compute.ledger import BOUNDARY_WORDS, Amount, Part
from stillmark.records import TextScore
from stillmark.report.training import PART_TITLES
from stillmark.report.words import count, percent, quantity
from stillmark.sizes import resolved
from stillmark.study.schema import GivenModel

PART_WORDS = {
    Part.STUDENT: "training it, pruning and its own replies to learn from included",
    Part.GENERATION: "the teacher's work for it",
    Part.TEACHER: "making the teacher",
    Part.BASE: "making the weights that it started from",
}


def model_card(lineage: Lineage, arm: str) -> str:
    """The card of an arm's last checkpoint of the study's first seed, in Markdown with YAML in front."""
    study = lineage.study
    seed = study.seeds[0]
    spec = study.arms[arm]
    given = [model for model in study.models.values() if isinstance(model, GivenModel)]
    cost = lineage.checkpoint_costs(arm, seed)[-1]
    recipe = spec.training
    # The hub takes what stands here for its own names: a folder of this machine would be somebody else's model
    on_hub = [model for model in given if not Path(model.checkpoint).expanduser().exists()]
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    lines += ["base_model:", *(f"- {json.dumps(model.checkpoint)}" for model in on_hub)] if on_hub else []
    lines += ["tags:", "- stillmark", *(["- distillation"] if spec.kind == "distilled" else []), "---", ""]
    lines += [f"# {study.name}: {arm}", ""]
    teacher = f" from `{given[0].checkpoint}`" if spec.kind == "distilled" else ""
    lines += [
        f"A {spec.kind} model of {lineage.plan.shape(arm).params:,} parameters{teacher}, made by Stillmark. "
        f"Loss: `{recipe.loss}`; text: `{recipe.text}`; seed {seed}.",
        "",
        "## What it took",
        "",
        "| part | FLOPs | method | CPU seconds | tokens |",
        "|---|---|---|---|---|",
    ]
    lines += [part_row(part, cost.parts[part]) for part in Part]
    lines += ["", "| boundary | FLOPs |", "|---|---|"]
    lines += [
        f"| {boundary}: {words} | {shown(cost.within(boundary).flops)} |"
        for boundary, words in BOUNDARY_WORDS.items()
    ]
    lines += ["", "Unknown is not zero: a model that was given says nothing of what its making took.", ""]
    lines += speed_lines(lineage, arm, seed)
    if study.is_text:
        lines += quality_lines(lineage, arm, seed)
        if dropped := resolved(study, arm).dropped_documents:
            lines += [
                f"{dropped:,} documents of the training text were left out: what they ask or say is held out.",
                "",
            ]
    lines += [
        "## How it was made",
        "",
        "```json",
        json.dumps(recipe.model_dump(exclude_defaults=True), indent=2),
        "```",
        "",
        f"Machine: {lineage.provenance.get('cpu') or 'unknown'}. Versions and every record: the run's "
        "`records.sqlite`.",
        "",
    ]
    return "\n".join(lines)


def speed_lines(lineage: Lineage, arm: str, seed: int) -> list[str]:
    """Tokens, FLOPs, seconds and MFU of the arm's steps."""
    job = trained_job(lineage.store, lineage.plan.train_keys[arm, seed])
    rows = part_rows([job]) if job else []
    lines = ["## How fast it was trained", "", "| part of its steps | tokens | FLOPs | seconds | MFU |"]
    lines.append("|---|---|---|---|---|")
    lines += [
        f"| {PART_TITLES[row['part']]} | {count(row['tokens'])} | {shown(row['flops'])} | {shown(row['seconds'])} "
        f"| {percent(row['mfu'])} |"
        for row in rows
    ]
    where = " and ".join(rows[-1]["devices"]) if rows else "unknown"
    peak = quantity(rows[-1]["matmul_flops_per_second"], "FLOP/s") if rows else "unknown"
    return [*lines, "", f"On {where}; MFU: of its float32 matmul, measured: {peak}.", ""]


def part_row(part: Part, amount: Amount) -> str:
    method = " and ".join(sorted(amount.methods)) or ("nothing was done" if amount.flops == 0 else "unknown")
    return (
        f"| {part}: {PART_WORDS[part]} | {shown(amount.flops)} | {method} | {shown(amount.cpu_seconds)} | "
        f"{'unknown' if amount.tokens is None else f'{amount.tokens:,}'} |"
    )


def shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def quality_lines(lineage: Lineage, arm: str, seed: int) -> list[str]:
    """Bits per byte and KL to the teacher on held-out text, of the model and of its teacher."""
    rows: list[tuple[str, list[TextScore]]] = []
    for name in filter(None, [arm, f"{arm}-control", lineage.plan.judge]):
        if name in lineage.study.arms:
            last = lineage.study.arms[name].checkpoints - 1
            rows.append((name, lineage.store.text_scores(lineage.evaluation(name, seed, last).key)))
    lines = [
        "## On held-out text",
        "",
        "| model | bits per byte | nats a token | KL to the teacher, nats a token |",
    ]
    lines.append("|---|---|---|---|")
    for name, scores in rows:
        tokens, num_bytes = sum(score.tokens for score in scores), sum(score.num_bytes for score in scores)
        nats = -sum(score.nats for score in scores)
        values: list[Any] = [bits_per_byte(nats, num_bytes), nats / tokens if tokens else None]
        known = [score.teacher_kl_nats for score in scores if score.teacher_kl_nats is not None]
        values.append(sum(known) / tokens if tokens and len(known) == len(scores) else None)
        lines.append(f"| {name} | " + " | ".join(shown(value) for value in values) + " |")
    if len({lineage.study.reader_of(name) for name, _ in rows}) > 1:
        lines += [
            "",
            "Nats are per token of each model's own tokenizer: between these models, compare bits per byte.",
        ]
    return [*lines, ""]


def bits_per_byte(nats: float, num_bytes: int) -> float | None:
    return nats / num_bytes / 0.6931471805599453 if num_bytes else None
