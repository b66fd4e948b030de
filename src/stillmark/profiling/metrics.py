"""From timelines to numbers, one function a metric; what each means is in definitions.py.

Peers use the same words for different things ("TPOT" has two meanings, "tokens per second" four), so a number
leaves profiling only under a name of `definitions.METRICS`.
"""

import itertools
from collections.abc import Sequence

from stillmark.profiling.quantiles import quantile
from stillmark.profiling.workload import Batch, Timeline


def ttft_seconds(timeline: Timeline) -> float | None:
    return timeline.token_seconds[0] if timeline.token_seconds else None


def ttfa_seconds(timeline: Timeline) -> float | None:
    first = timeline.first_answer_token
    return None if first is None or first >= timeline.new_tokens else timeline.token_seconds[first]


def tpot_seconds(timeline: Timeline) -> float | None:
    """None with fewer than two tokens: there is no gap to measure."""
    if timeline.new_tokens < 2:
        return None
    return (timeline.token_seconds[-1] - timeline.token_seconds[0]) / (timeline.new_tokens - 1)


def gaps_seconds(timeline: Timeline) -> list[float]:
    """Between successive tokens."""
    seconds = timeline.token_seconds
    return [after - before for before, after in itertools.pairwise(seconds)]


def slowest_ttft_seconds(batch: Batch) -> float | None:
    """When every request of the batch had its first token."""
    firsts = [ttft_seconds(timeline) for timeline in batch.timelines]
    known = [first for first in firsts if first is not None]
    return max(known) if known and len(known) == len(firsts) else None


def prefill_tokens_per_second(batch: Batch) -> float | None:
    slowest = slowest_ttft_seconds(batch)
    tokens = [line.prompt_tokens for line in batch.timelines]
    return sum(tokens) / slowest if slowest and all(tokens) else None  # 0: a server that does not say


def decode_tokens_per_second(batch: Batch) -> float | None:
    """Over the stretch from the batch's first token to its last."""
    written = [line for line in batch.timelines if line.new_tokens > 1]
    if len(written) < len(batch.timelines) or not written:
        return None
    began = min(line.token_seconds[0] for line in written)
    seconds = max(line.token_seconds[-1] for line in written) - began
    return sum(line.new_tokens - 1 for line in written) / seconds if seconds > 0 else None


def output_tokens_per_second(batch: Batch) -> float | None:
    tokens = sum(line.new_tokens for line in batch.timelines)
    return tokens / batch.wall_seconds if batch.wall_seconds > 0 else None


def end_to_end_seconds(batch: Batch) -> float:
    return batch.wall_seconds


def values_of(batches: Sequence[Batch]) -> dict[str, list[float]]:
    """One value a repetition, by metric; a metric that one repetition lacks is left out."""
    columns: dict[str, list[float | None]] = {
        "ttft_seconds": [slowest_ttft_seconds(batch) for batch in batches],
        "ttfa_seconds": [_slowest([ttfa_seconds(line) for line in batch.timelines]) for batch in batches],
        "tpot_seconds": [_mean([tpot_seconds(line) for line in batch.timelines]) for batch in batches],
        "prefill_tokens_per_second": [prefill_tokens_per_second(batch) for batch in batches],
        "decode_tokens_per_second": [decode_tokens_per_second(batch) for batch in batches],
        "output_tokens_per_second": [output_tokens_per_second(batch) for batch in batches],
        "end_to_end_seconds": [end_to_end_seconds(batch) for batch in batches],
    }
    found = {}
    for name, column in columns.items():
        known = [value for value in column if value is not None]
        if known and len(known) == len(column):
            found[name] = known
    return found


def percentile_of_gaps(batches: Sequence[Batch], share: float) -> float | None:
    """Plain quantile, for the median of the gaps."""
    return quantile(
        [gap for batch in batches for line in batch.timelines for gap in gaps_seconds(line)], share
    )


def _slowest(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
