"""Which of a teacher's traces a student learns from: accepted, no evaluation item, and so many a prompt."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stillmark.records import Outcome, SampleRecord
from stillmark.tasks.overlap import EvaluationItems


@dataclass(frozen=True, kw_only=True)
class TraceChoice:
    """The traces to learn from, as (prompt, response) in the order of writing, and how many others by reason.

    Each trace is counted once, by the first reason of these: the scorer rejected it, its prompt is an evaluation
    item's, it shares a run of words with one, its prompt had `max_per_prompt` accepted traces before it.
    """

    pairs: list[tuple[str, str]]
    rejected: int
    equal_to_evaluation: int
    shared_with_evaluation: int
    over_limit: int


def choose_traces(
    samples: Iterable[SampleRecord],
    prompts: Mapping[str, str],
    *,
    max_per_prompt: int | None = None,
    evaluation: EvaluationItems | None = None,
) -> TraceChoice:
    """Chooses among a `generate` job's samples. `prompts`: of each item, by its id."""
    pairs = []
    dropped: Counter[str] = Counter()
    kept_of_prompt: Counter[str] = Counter()
    overlaps = {}
    for sample in samples:
        prompt = prompts[sample.item_id]
        if sample.outcome is not Outcome.CORRECT:
            dropped["rejected"] += 1
            continue
        if prompt not in overlaps:
            overlaps[prompt] = evaluation.overlap(prompt) if evaluation else None
        if overlap := overlaps[prompt]:
            dropped[overlap.kind] += 1
        elif max_per_prompt is not None and kept_of_prompt[prompt] >= max_per_prompt:
            dropped["over_limit"] += 1
        else:
            kept_of_prompt[prompt] += 1
            pairs.append((prompt, sample.response))
    return TraceChoice(
        pairs=pairs,
        rejected=dropped["rejected"],
        equal_to_evaluation=dropped["equal"],
        shared_with_evaluation=dropped["shared_run"],
        over_limit=dropped["over_limit"],
    )
