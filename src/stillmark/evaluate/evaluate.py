"""Asks a model a task's questions and scores each reply. A chunk of items is one transaction: all of it or nothing.

Chunks are cut by position alone, so a run that was stopped goes on with the same batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch

from stillmark.backends.devices import device_name, stretch_on
from stillmark.backends.protocol import Backend, Reply, Sampling
from stillmark.compute.flops import generate_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.evaluate.counts import Counts, counts_of_run
from stillmark.records import LedgerEntry, Method, SampleRecord
from stillmark.tasks import Sample, Task

CHUNK_ITEMS = 256


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What asking one chunk of items gave."""

    index: int
    samples: list[SampleRecord]
    entry: LedgerEntry


def ask(
    job_key: str, part: str, backend: Backend, shape: ModelShape, task_name: str, task: Task,
    items: Sequence[Sample], sampling: Sampling, *, first_chunk: int = 0, device: torch.device,
) -> Iterator[Chunk]:  # fmt: skip
    """Replies to all items from `first_chunk` on, scored, with what they took."""
    num_chunks = -(-len(items) // CHUNK_ITEMS)
    for index in range(first_chunk, num_chunks):
        chunk = items[index * CHUNK_ITEMS : (index + 1) * CHUNK_ITEMS]
        before = backend.work
        with stretch_on(device) as stretch:
            replies = backend.generate([sample.prompt for sample in chunk], sampling)
        samples = [
            record(job_key, task_name, task, sample, index * CHUNK_ITEMS + offset, repeat, reply)
            for offset, (sample, group) in enumerate(zip(chunk, replies, strict=True))
            for repeat, reply in enumerate(group)
        ]
        counts = counts_of_run(before, backend.work, shape) or answers_alone(samples, shape)
        entry = LedgerEntry(
            job_key=job_key, part=part, index=index, flops_method=Method.COUNTED, device=device_name(device),
            **asdict(counts), **stretch.row(),
        )  # fmt: skip
        yield Chunk(index=index, samples=samples, entry=entry)


def answers_alone(samples: Sequence[SampleRecord], shape: ModelShape) -> Counts:
    """What each answer takes alone, its prompt read anew."""
    return Counts(
        flops=sum(
            generate_flops(shape, prompt_tokens=s.prompt_tokens, new_tokens=s.generated_tokens)
            for s in samples
        ),
        tokens=sum(s.prompt_tokens + s.generated_tokens for s in samples),
    )


def record(
    job_key: str, task_name: str, task: Task, sample: Sample, position: int, repeat: int, reply: Reply
) -> SampleRecord:
    times = [part for part in (reply.prefill_seconds, reply.decode_seconds) if part is not None]
    return SampleRecord(
        job_key=job_key,
        item_id=sample.item(task_name).item_id,
        repeat=repeat,
        position=position,
        response=reply.text,
        outcome=task.score(reply.text, sample.target, reply.stop_reason),
        stop_reason=reply.stop_reason,
        prompt_tokens=reply.prompt_tokens,
        generated_tokens=reply.generated_tokens,
        seconds=sum(times) if times else None,
    )
