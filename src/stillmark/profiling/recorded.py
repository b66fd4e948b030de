"""The lengths that a model's answers really had: prompts and replies of an evaluation, from its records.

An answer's time depends on its length, and models differ in how much they write for the same question: a fixed
"256 + 64" cannot show that. Replies that were cut off at the limit count with the length that they got.
"""

import random
from dataclasses import dataclass
from pathlib import Path

from stillmark.errors import UserError, did_you_mean
from stillmark.evaluate.summary import evaluation_jobs
from stillmark.profiling.quantiles import quantile
from stillmark.profiling.workload import Workload
from stillmark.records import Outcome, Store


@dataclass(frozen=True, kw_only=True)
class RecordedLengths:
    """Of one evaluation: (prompt tokens, generated tokens) of each reply."""

    source: str
    pairs: tuple[tuple[int, int], ...]

    def drawn(self, number: int, seed: int = 0) -> list[Workload]:
        """`number` of them at random without replacement, all where there are fewer; in random order."""
        pairs = list(self.pairs)
        random.Random(seed).shuffle(pairs)
        return [Workload(prompt_tokens=prompt, new_tokens=new) for prompt, new in pairs[:number]]

    def __str__(self) -> str:
        prompts, news = zip(*self.pairs, strict=True)
        return (
            f"{len(self.pairs)} replies of {self.source}: prompts of {quantile(prompts, 0.5):.0f} tokens "
            f"(median; {min(prompts)} to {max(prompts)}), replies of {quantile(news, 0.5):.0f} "
            f"({min(news)} to {max(news)})"
        )


def recorded_lengths(source: str) -> RecordedLengths:
    """From `FOLDER` or `FOLDER#LABEL` of `stillmark eval`; log-likelihood tasks write nothing and do not count."""
    folder, _, label = source.partition("#")
    store = Store.open(Path(folder))
    try:
        jobs = [job for job in evaluation_jobs(store) if job.inputs["mode"] == "generation"]
        labels = sorted({str(job.inputs["label"]) for job in jobs})
        if not jobs:
            raise UserError(f"{folder} holds no generated replies", hint="evaluate a task with @generation")
        if label and label not in labels:
            raise UserError(
                f"{folder} holds no `{label}` (labels: {', '.join(labels)})", hint=did_you_mean(label, labels)
            )
        if not label and len(labels) > 1:
            raise UserError(
                f"{folder} holds several models: {', '.join(labels)}", hint=f"name one: {folder}#{labels[0]}"
            )
        pairs = [
            (sample.prompt_tokens, sample.generated_tokens)
            for job in jobs
            if not label or job.inputs["label"] == label
            for sample in store.samples(job.key)
            if sample.outcome != Outcome.ERROR and sample.prompt_tokens > 0 and sample.generated_tokens > 0
        ]
    finally:
        store.close()
    if not pairs:
        raise UserError(f"no reply in {source} has its lengths recorded")
    return RecordedLengths(source=source, pairs=tuple(pairs))
