"""Capture a teacher's logits into a cache; a capture that was killed goes on after its last finished chunk.

A chunk becomes visible in one step: written beside its name, synced, renamed, and only then entered in
chunks.jsonl. Each chunk depends on nothing but the manifest and its own sequences, so that a capture that
was cut off and resumed writes the same bytes as one that was not.

Shape suffixes: L positions with a loss, K tokens kept of a position, U tokens kept of all positions, C
positions of a chunk of logits, V vocabulary.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save as to_safetensors

from stillmark.backends.kernels import faster_linears
from stillmark.backends.rotary import steady_positions
from stillmark.compute.flops import forward_flops
from stillmark.compute.model_shape import ModelShape
from stillmark.distill.bit_codec import bits_for, pack_stream
from stillmark.distill.fused import CHUNK_BYTES
from stillmark.distill.head import OutputHead, checked_output_head
from stillmark.distill.identity import CacheIdentity, TokenSequence
from stillmark.distill.logit_cache import CacheSettings, ChunkEntry, Manifest, read_chunk_log, sha256_of_bytes
from stillmark.errors import UserError
from stillmark.models.tensor_files import sync

# The teacher's hidden states (L, E) at the loss positions of some sequences, one sequence after another.
HiddenStates = Callable[[Sequence[TokenSequence]], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class CaptureReport:
    """What one call of `capture_logits` did; a resumed capture reports only its own part."""

    num_sequences: int
    num_tokens: int
    """Tokens that the teacher read."""
    num_rows: int
    """Positions that were stored."""
    wall_seconds: float


def capture_logits(
    directory: Path,
    hidden_states: HiddenStates,
    head: OutputHead,
    data: Sequence[TokenSequence],
    *,
    identity: CacheIdentity,
    settings: CacheSettings,
    vocab_size: int | None = None,
) -> CaptureReport:
    """Write what is missing of the cache of `data`. Another capture's directory is refused."""
    head = head.detach().first_rows(vocab_size)
    manifest = Manifest(
        identity=identity, settings=settings, vocab_size=head.num_rows, num_sequences=len(data)
    )
    if settings.kind == "top_k" and settings.k > head.num_rows:
        raise UserError(f"k is {settings.k}, but the vocabulary has {head.num_rows} tokens")
    _begin(directory, manifest)
    done = read_chunk_log(directory)
    start = done[-1].first_sequence + done[-1].num_sequences if done else 0
    begin_seconds, num_rows = time.perf_counter(), 0
    for index, (first, stop) in enumerate(chunk_ranges(data, settings.rows_per_chunk)):
        if stop <= start:
            continue
        generator = torch.Generator(head.weight.device).manual_seed(settings.seed * 1_000_003 + index)
        with torch.inference_mode():
            arrays = _chunk_arrays(hidden_states, head, data[first:stop], manifest, generator)
        _write_chunk(directory, index, first, stop - first, arrays)
        num_rows += int(arrays["sequence_rows"].sum())
    return CaptureReport(
        num_sequences=len(data) - start,
        num_tokens=sum(len(sequence.token_ids) for sequence in data[start:]),
        num_rows=num_rows,
        wall_seconds=time.perf_counter() - begin_seconds,
    )


def chunk_ranges(data: Sequence[TokenSequence], rows_per_chunk: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of each chunk: whole sequences until there are `rows_per_chunk` positions or more."""
    first = num_rows = 0
    for index, sequence in enumerate(data):
        num_rows += sequence.num_loss_tokens
        if num_rows >= rows_per_chunk or index == len(data) - 1:
            yield first, index + 1
            first, num_rows = index + 1, 0


def _begin(directory: Path, manifest: Manifest) -> None:
    """Write the manifest, or compare it with the one that is there; drop a torn last line of the log."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "manifest.json").exists():
        if any(directory.glob("chunk*")):
            raise UserError(f"{directory}: has chunks but no manifest, so it is not known what they are of")
        _write_whole(directory / "manifest.json", manifest.to_json().encode())
    found = Manifest.read(directory)
    found.identity.require(manifest.identity, str(directory))
    if found != manifest:
        raise UserError(
            f"{directory}: holds another capture\n  there: {_brief(found)}\n  asked: {_brief(manifest)}",
            "choose another directory",
        )
    log = directory / "chunks.jsonl"
    if log.exists():
        content = log.read_bytes()
        if not content.endswith(b"\n"):
            _write_whole(log, content[: content.rfind(b"\n") + 1])


def _brief(manifest: Manifest) -> str:
    return f"{manifest.settings}, {manifest.vocab_size} tokens, {manifest.num_sequences} sequences"


def _write_chunk(
    directory: Path, index: int, first: int, num_sequences: int, arrays: dict[str, npt.NDArray[Any]]
) -> None:
    content = to_safetensors(arrays)
    entry = ChunkEntry(
        file=f"chunk-{index:06d}.safetensors",
        first_sequence=first,
        num_sequences=num_sequences,
        num_rows=int(arrays["sequence_rows"].sum()),
        num_bytes=len(content),
        sha256=sha256_of_bytes(content),
    )
    _write_whole(directory / entry.file, content)
    with (directory / "chunks.jsonl").open("a") as log:
        log.write(entry.to_line())
        log.flush()
        os.fsync(log.fileno())


def _write_whole(path: Path, content: bytes) -> None:
    """Either the old file or the whole new one is there, whenever the process or the machine stops."""
    beside = path.with_name("." + path.name + ".part")
    beside.write_bytes(content)
    sync(beside)
    beside.rename(path)
    sync(path.parent)


def _chunk_arrays(
    hidden_states: HiddenStates,
    head: OutputHead,
    sequences: Sequence[TokenSequence],
    manifest: Manifest,
    generator: torch.Generator,
) -> dict[str, npt.NDArray[Any]]:
    sequence_rows = np.array([sequence.num_loss_tokens for sequence in sequences], dtype=np.uint32)
    hidden_LE = hidden_states(sequences)
    if len(hidden_LE) != sequence_rows.sum():
        raise ValueError(f"{len(hidden_LE)} hidden states for {sequence_rows.sum()} positions with a loss")
    store = _top_k_rows if manifest.settings.kind == "top_k" else _sampled_rows
    parts = [store(logq_CV, manifest, generator) for logq_CV in logprob_chunks(hidden_LE, head, manifest)]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    if "ids" in joined:
        joined["ids"] = pack_stream(joined["ids"], bits_for(manifest.vocab_size))
    return {"sequence_rows": sequence_rows} | joined


def logprob_chunks(hidden_LE: torch.Tensor, head: OutputHead, manifest: Manifest) -> Iterator[torch.Tensor]:
    """The teacher's log-probabilities at the cache's temperature, (C, V) in float32, a chunk at a time."""
    rows = max(1, CHUNK_BYTES // (8 * head.num_rows))
    for hidden_CE in hidden_LE.split(rows):
        logits_CV = torch.empty(len(hidden_CE), head.num_rows, device=hidden_LE.device)
        head.project(hidden_CE.to(head.weight.dtype), logits_CV)
        yield (logits_CV / manifest.settings.temperature).log_softmax(-1)


def _top_k_rows(
    logq_CV: torch.Tensor, manifest: Manifest, generator: torch.Generator
) -> dict[str, npt.NDArray[Any]]:
    """The codec's rows. The tail is summed without the kept tokens, so that a small one keeps its digits."""
    top = logq_CV.topk(manifest.settings.k, dim=-1)
    log_tail_C = logq_CV.scatter(-1, top.indices, float("-inf")).logsumexp(-1)
    values = (top.indices, top.values, log_tail_C)
    return {"rows": manifest.codec.encode(*(value.cpu().numpy() for value in values))}


def _sampled_rows(
    logq_CV: torch.Tensor, manifest: Manifest, generator: torch.Generator
) -> dict[str, npt.NDArray[Any]]:
    """The tokens drawn at each position, each once with its count, ascending."""
    q_CV = logq_CV.exp()
    drawn = torch.multinomial(q_CV, manifest.settings.k, replacement=True, generator=generator)
    drawn_CK = np.sort(drawn.cpu().numpy(), axis=1)
    is_first_CK = np.ones(drawn_CK.shape, dtype=bool)
    is_first_CK[:, 1:] = drawn_CK[:, 1:] != drawn_CK[:, :-1]
    starts_U = np.append(np.flatnonzero(is_first_CK), drawn_CK.size)
    entropy_C = -(q_CV * logq_CV.clamp(min=-1e4)).sum(-1)
    return {
        "kept": is_first_CK.sum(1).astype(np.uint8),
        "ids": drawn_CK[is_first_CK],
        "counts": np.diff(starts_U).astype(np.uint8),
        "entropy": entropy_C.cpu().numpy().astype("<f2"),
    }


TOKENS_PER_BATCH = 4096  # positions of a batch of the teacher's, padding included


def teacher_hidden_states(
    teacher: Any, tokens_per_batch: int = TOKENS_PER_BATCH
) -> tuple[HiddenStates, OutputHead]:
    """A transformers causal language model as the source of a capture: eval mode, no gradient, by length."""
    teacher.eval()
    backbone, device, steady = teacher.base_model, teacher.device, steady_positions(teacher)

    def hidden_states(sequences: Sequence[TokenSequence]) -> torch.Tensor:
        found: dict[int, torch.Tensor] = {}
        for members, width in batches_by_length(sequences, tokens_per_batch, steady):
            ids_BT = torch.zeros(len(members), width, dtype=torch.long)
            for row, index in enumerate(members):
                ids_BT[row, : len(sequences[index].token_ids)] = torch.tensor(sequences[index].token_ids)
            # Padding stands at the right: causal attention keeps it from every real position.
            with faster_linears(backbone):
                output = backbone(input_ids=ids_BT.to(device), use_cache=False).last_hidden_state
            for row, index in enumerate(members):
                kept = torch.tensor(sequences[index].targets, device=device) != -100
                found[index] = output[row, : len(kept)][kept]
        return torch.cat([found[index] for index in range(len(sequences))])

    return hidden_states, checked_output_head(teacher)


def batches_by_length(
    sequences: Sequence[TokenSequence], tokens_per_batch: int, steady: int | None
) -> Iterator[tuple[list[int], int]]:
    """(places of the sequences, padded length) of each batch: ascending lengths whose padded size stays within the
    budget (one sequence may exceed it). One that is longer than `steady` is by itself: see `backends/rotary.py`.
    """
    members: list[int] = []
    lengths = [len(sequence.token_ids) for sequence in sequences]
    for index in sorted(range(len(sequences)), key=lambda place: lengths[place]):
        is_full = (len(members) + 1) * lengths[index] > tokens_per_batch
        if members and (is_full or (steady is not None and lengths[index] > steady)):
            yield members, lengths[members[-1]]
            members = []
        members.append(index)
    if members:
        yield members, lengths[members[-1]]


def capture_flops(
    shape: ModelShape,
    data: Sequence[TokenSequence],
    settings: CacheSettings,
    *,
    vocab_size: int | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    steady: int | None = None,
) -> int:
    """FLOPs of a whole capture by `teacher_hidden_states`: every position that is run, padding included.

    `shape` is the teacher's, `steady` its `rotary.steady_positions`; a capture that was cut off runs what was lost of
    its last chunk beside this.
    """
    rows = shape.head.outputs if vocab_size is None else vocab_size
    num_scored = sum(sequence.num_loss_tokens for sequence in data)
    flops = 2 * num_scored * rows * shape.head.inputs
    for first, stop in chunk_ranges(data, settings.rows_per_chunk):
        for members, width in batches_by_length(data[first:stop], tokens_per_batch, steady):
            flops += len(members) * forward_flops(shape, tokens=width, scored_tokens=0)
    return flops
