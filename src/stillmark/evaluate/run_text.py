"""Bits per byte and perplexity of a model on a text, piece by piece, each piece recorded."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

from scipy import special

from stillmark.analysis.intervals import Interval
from stillmark.evaluate.model import LoadedModel
from stillmark.evaluate.sample_records import choice_flops
from stillmark.provenance import provenance
from stillmark.records import JobRecord, Store, TextScore, canonical
from stillmark.tasks.text_score import TextTask

CHUNK_PIECES = 16
STAGE = "evaluate_text"


def text_job_key(store: Store, model: LoadedModel, task: TextTask) -> str:
    """Begins the job of a model on a text and gives its key."""
    inputs = {
        "stage": STAGE,
        "task": task.name,
        "sha256": task.sha256,
        "piece_characters": task.piece_characters,
        "model": dict(model.identity),
    }
    key = hashlib.sha256(canonical(inputs).encode()).hexdigest()[:20]
    store.begin_job(
        key, STAGE, {**inputs, "label": model.label, "num_pieces": len(task.pieces)}, provenance()
    )
    return key


def run_text(store: Store, key: str, model: LoadedModel, task: TextTask) -> Iterator[tuple[int, int]]:
    """Scores the pieces that are not yet recorded; yields (done, of how many)."""
    done = {score.index for score in store.text_scores(key)}
    todo = [index for index in range(len(task.pieces)) if index not in done]
    for start in range(0, len(todo), CHUNK_PIECES):
        indices = todo[start : start + CHUNK_PIECES]
        pieces = [task.pieces[index] for index in indices]
        scored = model.backend.loglikelihood([(piece.context, piece.text) for piece in pieces])
        rows = [
            TextScore(
                job_key=key,
                index=index,
                nats=result.loglikelihood,
                tokens=result.continuation_tokens,
                num_bytes=piece.num_bytes,
                truncated_tokens=result.truncated_tokens,
                seconds=result.seconds,
                flops=None if model.shape is None else choice_flops(model.shape, [result]),
            )
            for index, piece, result in zip(indices, pieces, scored, strict=True)
        ]
        with store.transaction():
            store.add(*rows)
        yield len(task.pieces) - len(todo) + start + len(indices), len(task.pieces)
    store.finish_job(key)


@dataclass(frozen=True, kw_only=True)
class TextResult:
    """A model on a text. The interval is over pieces, as if they were drawn from a longer text."""

    job_key: str
    label: str
    task: str
    num_pieces: int
    num_pieces_in_task: int
    num_bytes: int
    num_tokens: int
    bits_per_byte: Interval | None
    perplexity_per_token: float  # hangs on the tokenizer: not comparable between models with different ones
    seconds: float | None
    flops: int | None


def text_results(store: Store) -> list[TextResult]:
    jobs = [job for job in store.jobs() if job.stage == STAGE]
    return [result for job in jobs if (result := text_result(job, store.text_scores(job.key))) is not None]


def text_result(job: JobRecord, scores: list[TextScore]) -> TextResult | None:
    if not scores:
        return None
    nats, tokens = sum(s.nats for s in scores), sum(s.tokens for s in scores)
    seconds = [s.seconds for s in scores if s.seconds is not None]
    flops = [s.flops for s in scores if s.flops is not None]
    return TextResult(
        job_key=job.key,
        label=job.inputs["label"],
        task=job.inputs["task"],
        num_pieces=len(scores),
        num_pieces_in_task=job.inputs["num_pieces"],
        num_bytes=sum(s.num_bytes for s in scores),
        num_tokens=tokens,
        bits_per_byte=bits_per_byte(scores),
        perplexity_per_token=math.exp(-nats / tokens),
        seconds=sum(seconds) if len(seconds) == len(scores) else None,
        flops=sum(flops) if len(flops) == len(scores) else None,
    )


def bits_per_byte(scores: list[TextScore], confidence: float = 0.95) -> Interval | None:
    """Ratio of sums, with the standard error of a ratio estimator over pieces and Student's t; None for one
    piece, of which the spread cannot be seen."""
    if len(scores) < 2:
        return None
    bits = [-score.nats / math.log(2) for score in scores]
    sizes = [score.num_bytes for score in scores]
    ratio = sum(bits) / sum(sizes)
    num = len(scores)
    squares = sum((bit - ratio * size) ** 2 for bit, size in zip(bits, sizes, strict=True))
    stderr = math.sqrt(num / (num - 1) * squares) / sum(sizes)
    half = float(special.stdtrit(num - 1, 0.5 + confidence / 2)) * stderr
    return Interval(
        value=ratio, low=ratio - half, high=ratio + half, confidence=confidence, method="ratio over pieces"
    )
