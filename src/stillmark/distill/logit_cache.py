"""A cache of a teacher's logits on disk: random access by sequence, every chunk verified before it is used.

A directory:

| manifest.json            | what the logits depend on (checksums), how they are stored, own checksum       |
| chunks.jsonl             | one line a finished chunk: the line's checksum, file, sequences, rows, SHA-256 |
| chunk-000000.safetensors | whole sequences, one row for each position with a loss                         |

A chunk is a safetensors file with `sequence_rows` (the rows of each sequence) and, for top-k with a tail,

| rows                     | uint8, rows of fixed width: see `bit_codec.TopKCodec`                          |

or, for samples,

| kept                     | how many ids each position has                                                 |
| ids                      | those of all positions in one stream of ceil(log2 V) bits each                 |
| counts                   | how often each id was drawn                                                    |
| entropy                  | of each position's whole distribution in nats, float16                         |

Chunks are memory-mapped when a sequence of theirs is first asked for. Then the whole chunk's SHA-256 is
compared: one flipped bit anywhere is an error that names the file.

Shape suffixes: L positions with a loss, K tokens kept of a position, U tokens kept of all positions.
"""

import hashlib
import json
import mmap
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stillmark.distill.bit_codec import TopKCodec, bits_for, unpack_stream
from stillmark.distill.cached_losses import CachedTargets, SampledTargets, TopKTargets
from stillmark.distill.identity import CacheIdentity
from stillmark.errors import UserError

FORMAT = 1
OPEN_CHUNKS = 256  # memory maps held at once
Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """What is kept of each position's distribution."""

    kind: str = "top_k"
    """`top_k`: the k likeliest tokens and the probability of all others; `samples`: tokens drawn."""
    k: int = 32
    """How many tokens are kept (top_k) or drawn, with replacement (samples; at most 255)."""
    temperature: float = 1.0
    code_bits: int = 10
    """Only for `top_k`: the bits of a log-probability."""
    seed: int = 0
    """Only for `samples`."""
    rows_per_chunk: int = 16_384
    """Positions of a chunk, about: what a crash can lose at most."""

    def __post_init__(self) -> None:
        if self.kind not in ("top_k", "samples"):
            raise UserError(f"unknown kind of logit cache `{self.kind}`: top_k, samples")
        if self.k < 1 or (self.kind == "samples" and self.k > 255):
            raise UserError(f"a logit cache of kind {self.kind} cannot keep {self.k} tokens of a position")
        if not 0.0 < self.temperature < float("inf"):
            raise UserError(f"temperature is {self.temperature}, but must be above 0")
        if not 4 <= self.code_bits <= 16:
            raise UserError(f"code_bits is {self.code_bits}, but must be within 4 and 16")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a cache is of, and how it is stored."""

    identity: CacheIdentity
    settings: CacheSettings
    vocab_size: int
    num_sequences: int

    def to_json(self) -> str:
        content = {"format": FORMAT} | asdict(self)
        return json.dumps(content | {"sha256": _json_sha256(content)}, indent=1)

    @staticmethod
    def read(directory: Path) -> "Manifest":
        path = directory / "manifest.json"
        try:
            content = json.loads(path.read_text())
            checksum = content.pop("sha256")
        except FileNotFoundError:
            raise UserError(
                f"{directory}: no logit cache is here (there is no manifest.json)", CAPTURE_AGAIN
            ) from None
        except (ValueError, KeyError, AttributeError):
            raise damaged(path) from None
        if checksum != _json_sha256(content):
            raise damaged(path)
        if content["format"] != FORMAT:
            raise UserError(f"{path}: format {content['format']}, but this version reads format {FORMAT}")
        return Manifest(
            identity=CacheIdentity(**content["identity"]),
            settings=CacheSettings(**content["settings"]),
            vocab_size=content["vocab_size"],
            num_sequences=content["num_sequences"],
        )

    @property
    def codec(self) -> TopKCodec:
        settings = self.settings
        return TopKCodec(k=settings.k, vocab_size=self.vocab_size, code_bits=settings.code_bits)


@dataclass(frozen=True, kw_only=True)
class ChunkEntry:
    """One line of chunks.jsonl."""

    file: str
    first_sequence: int
    num_sequences: int
    num_rows: int
    num_bytes: int
    sha256: str

    def to_line(self) -> str:
        """With the line's own checksum in front."""
        content = asdict(self)
        return f"{_json_sha256(content)} {json.dumps(content)}\n"

    @staticmethod
    def from_line(line: str) -> "ChunkEntry":
        """Raises ValueError or TypeError for a line that was not written so."""
        checksum, _, text = line.partition(" ")
        content = json.loads(text)
        if checksum != _json_sha256(content):
            raise ValueError("checksum")
        return ChunkEntry(**content)


def read_chunk_log(directory: Path) -> list[ChunkEntry]:
    """The finished chunks in order; a torn last line, left by a crash, is not one."""
    path = directory / "chunks.jsonl"
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    entries: list[ChunkEntry] = []
    for number, line in enumerate(lines[:-1]):  # what follows the last newline was not finished
        try:
            entry = ChunkEntry.from_line(line)
        except (ValueError, TypeError):
            raise damaged(path, f"line {number + 1}") from None
        expected = entries[-1].first_sequence + entries[-1].num_sequences if entries else 0
        if entry.first_sequence != expected:
            raise damaged(path, f"line {number + 1}")
        entries.append(entry)
    return entries


class LogitCache:
    """A finished cache, opened for reading: `targets([sequence, ...])` gives the rows for
    `fused_cached_divergence`.

    `identity` is what training is about to use: a cache of anything else is refused.
    """

    def __init__(self, directory: Path, identity: CacheIdentity) -> None:
        self.directory = directory
        self.manifest = Manifest.read(directory)
        self.manifest.identity.require(identity, str(directory))
        self.chunks = read_chunk_log(directory)
        num_sequences = sum(chunk.num_sequences for chunk in self.chunks)
        if num_sequences != self.manifest.num_sequences:
            raise UserError(
                f"{directory}: holds {num_sequences:,} of {self.manifest.num_sequences:,} sequences",
                "its capture was cut off: run the same capture again, it goes on where it stopped",
            )
        self._first_sequences = [chunk.first_sequence for chunk in self.chunks]
        self._verified: set[int] = set()
        self._open: OrderedDict[int, _Chunk] = OrderedDict()

    @property
    def num_rows(self) -> int:
        """Positions with a loss."""
        return sum(chunk.num_rows for chunk in self.chunks)

    @property
    def num_bytes(self) -> int:
        """On disk, all files."""
        return sum(path.stat().st_size for path in self.directory.iterdir())

    def verify(self) -> None:
        """Compare every chunk's checksum now, rather than when it is first used."""
        for index in range(len(self.chunks)):
            self._chunk(index)

    def targets(self, sequences: Sequence[int]) -> CachedTargets:
        """The teacher at the loss positions of these sequences, one sequence after another; no sequence, no rows."""
        pieces = [self._piece(sequence) for sequence in sequences]
        settings = self.manifest.settings
        if settings.kind == "top_k":
            codec = self.manifest.codec
            none = np.zeros((0, codec.num_bytes), dtype=np.uint8)
            rows = np.concatenate(
                [none, *(chunk.arrays["rows"][start:stop] for chunk, start, stop in pieces)]
            )
            ids, logq, log_tail = codec.decode(rows)
            return TopKTargets(
                ids_LK=torch.from_numpy(ids),
                logq_LK=torch.from_numpy(logq),
                log_tail_L=torch.from_numpy(log_tail),
                temperature=settings.temperature,
            )
        return _sampled_targets(pieces, self.manifest)

    def _piece(self, sequence: int) -> tuple["_Chunk", int, int]:
        if not 0 <= sequence < self.manifest.num_sequences:
            raise IndexError(f"sequence {sequence} of {self.manifest.num_sequences}")
        index = bisect_right(self._first_sequences, sequence) - 1
        chunk = self._chunk(index)
        start, stop = chunk.offsets[sequence - self._first_sequences[index] :][:2]
        return chunk, int(start), int(stop)

    def _chunk(self, index: int) -> "_Chunk":
        if index in self._open:
            self._open.move_to_end(index)
            return self._open[index]
        chunk = _Chunk(self.directory / self.chunks[index].file)
        if index not in self._verified:
            if chunk.sha256() != self.chunks[index].sha256:
                raise damaged(chunk.path)
            self._verified.add(index)
        chunk.parse()
        self._open[index] = chunk
        if len(self._open) > OPEN_CHUNKS:
            self._open.popitem(last=False)
        return chunk


class _Chunk:
    """One memory-mapped safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (FileNotFoundError, ValueError):
            raise damaged(path) from None
        self.arrays: dict[str, Array] = {}
        self.offsets = np.zeros(1, dtype=np.int64)

    def sha256(self) -> str:
        return sha256_of_bytes(self.map)

    def parse(self) -> None:
        """Views of the arrays, without a copy (the format: 8 bytes of header length, JSON header, data)."""
        header_size = int.from_bytes(self.map[:8], "little")
        header = json.loads(self.map[8 : 8 + header_size])
        dtypes = {"U8": "u1", "U32": "<u4", "F16": "<f2"}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, stop = (8 + header_size + offset for offset in entry["data_offsets"])
            flat = np.frombuffer(memoryview(self.map)[start:stop], dtype=dtypes[entry["dtype"]])
            self.arrays[name] = flat.reshape(entry["shape"])
        self.offsets = np.concatenate([[0], np.cumsum(self.arrays["sequence_rows"], dtype=np.int64)])


def _sampled_targets(pieces: list[tuple[_Chunk, int, int]], manifest: Manifest) -> SampledTargets:
    """Ragged rows of several sequences as one rectangle, filled up with shares of 0."""
    bits = bits_for(manifest.vocab_size)
    nothing = np.zeros(0, dtype=np.int64)
    kept, ids, counts, entropy = [nothing], [nothing], [nothing], [np.zeros(0, dtype=np.float32)]
    for chunk, start, stop in pieces:
        before = int(chunk.arrays["kept"][:start].sum(dtype=np.int64))
        kept.append(chunk.arrays["kept"][start:stop].astype(np.int64))
        until = before + int(kept[-1].sum())
        ids.append(unpack_stream(chunk.arrays["ids"], before, until, bits))
        counts.append(chunk.arrays["counts"][before:until])
        entropy.append(chunk.arrays["entropy"][start:stop].astype(np.float32))
    kept_L = np.concatenate(kept)
    is_kept_LK = np.arange(kept_L.max(initial=1)) < kept_L[:, None]
    ids_LK = np.zeros(is_kept_LK.shape, dtype=np.int64)
    share_LK = np.zeros(is_kept_LK.shape, dtype=np.float32)
    ids_LK[is_kept_LK] = np.concatenate(ids)
    share_LK[is_kept_LK] = np.concatenate(counts).astype(np.float32) / manifest.settings.k
    return SampledTargets(
        ids_LK=torch.from_numpy(ids_LK),
        share_LK=torch.from_numpy(share_LK),
        entropy_L=torch.from_numpy(np.concatenate(entropy)),
        temperature=manifest.settings.temperature,
    )


CAPTURE_AGAIN = "Capture again: a study does so when its command is run again"


def damaged(path: Path, where: str = "") -> UserError:
    """The error for a file that is not what was written."""
    place = f"{path}, {where}" if where else str(path)
    return UserError(
        f"{place}: damaged, its checksum or content is not what was written",
        f"delete {path.parent}. {CAPTURE_AGAIN}",
    )


def sha256_of_bytes(content: bytes | mmap.mmap) -> str:
    return hashlib.sha256(content).hexdigest()


def _json_sha256(content: dict[str, Any]) -> str:
    return sha256_of_bytes(json.dumps(content, sort_keys=True).encode())
