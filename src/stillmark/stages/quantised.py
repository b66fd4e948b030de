"""A quantised arm: the checkpoint that it is made from, written as GGUF and loaded in llama.cpp.

The file is made again for each job that needs it and not kept: the same weights give the same bytes.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from stillmark.backends.llamacpp import LlamaCppBackend
from stillmark.models.build import checked_weights
from stillmark.plan import Job, Plan
from stillmark.profiling.quantise import quantise
from stillmark.records import Store
from stillmark.stages.adopt import tokenizer_for

WINDOW_TOKENS = 4096  # at most: keys and values are reserved for so many


@contextmanager
def quantised_backend(job: Job, plan: Plan, store: Store) -> Iterator[LlamaCppBackend]:
    """One sequence at a time: beside others llama.cpp's rounding changes, and greedy replies would not come again."""
    record = store.checkpoints(job.needs[0])[job.inputs["checkpoint"]]
    source, scratch = store.folder / record.path, store.folder / "quantised" / job.key
    checked_weights(source, record.sha256)
    scratch.mkdir(parents=True, exist_ok=True)
    target = scratch / f"{job.inputs['format']}.gguf"
    try:
        quantise(source, target, job.inputs["format"], is_by_ids=True)
        yield LlamaCppBackend(
            target,
            num_threads=torch.get_num_threads(),
            num_parallel=1,
            window_tokens=min(WINDOW_TOKENS, plan.config(job.arm)["max_position_embeddings"]),
            tokenizer=tokenizer_for(plan, job.arm),
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
