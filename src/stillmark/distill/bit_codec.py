"""Token ids and log-probabilities in few bits, decoded by numpy in well under a microsecond a value.

Ids: a sorted set of k ids below V takes k * l + k + (V >> l) bits with l = floor(log2(V / k)) (Elias-Fano:
the low l bits plain, the high bits as unary gaps): 50 bytes for k = 32 and V = 49,152, where ceil(log2 V)
bits each take 64. Log-probabilities: linear between each row's highest and lowest, which are kept in
float16; one that is more than `REACH` below the highest is kept as if it were just so far below.

Shape suffixes: N rows, K values of a row, B bytes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


def pack_bits(values_NK: npt.NDArray[np.integer], bits: int) -> Bytes:
    """Each row's values in `bits` bits each, most significant first, rows padded to whole bytes."""
    shifts = np.arange(bits - 1, -1, -1, dtype=np.int64)
    spread = (values_NK[:, :, None].astype(np.int64) >> shifts) & 1
    return np.packbits(spread.astype(np.uint8).reshape(len(values_NK), values_NK.shape[1] * bits), axis=1)


def unpack_bits(packed_NB: Bytes, count: int, bits: int) -> Integers:
    """The inverse of `pack_bits`: (N, count)."""
    spread = np.unpackbits(packed_NB, axis=1, count=count * bits).reshape(len(packed_NB), count, bits)
    values = np.zeros(spread.shape[:2], dtype=np.int64)
    for position in range(bits):
        values <<= 1
        values |= spread[:, :, position]
    return values


def pack_stream(values_U: npt.NDArray[np.integer], bits: int) -> Bytes:
    """Values in `bits` bits each, one after another."""
    return pack_bits(values_U[None, :], bits)[0] if len(values_U) else np.zeros(0, dtype=np.uint8)


def unpack_stream(packed_B: Bytes, start: int, stop: int, bits: int) -> Integers:
    """Values start to stop - 1 of a stream that `pack_stream` made."""
    first_bit, last_bit = start * bits, stop * bits
    spread = np.unpackbits(packed_B[first_bit // 8 : -(-last_bit // 8)])[first_bit % 8 :]
    spread = spread[: last_bit - first_bit].reshape(-1, bits)
    return np.asarray(spread @ (1 << np.arange(bits - 1, -1, -1, dtype=np.int64)), dtype=np.int64)


def bits_for(vocab_size: int) -> int:
    """ceil(log2 V), at least 1: the bits of one id by itself."""
    return max(1, (vocab_size - 1).bit_length())


@dataclass(frozen=True, kw_only=True)
class IdCodec:
    """Sets of `count` different ids below `vocab_size`."""

    count: int
    vocab_size: int

    @property
    def low_bits(self) -> int:
        return max(0, (self.vocab_size // self.count).bit_length() - 1)

    @property
    def low_bytes(self) -> int:
        return -(-self.count * self.low_bits // 8)

    @property
    def high_bits(self) -> int:
        return self.count + (self.vocab_size >> self.low_bits)

    @property
    def num_bytes(self) -> int:
        return self.low_bytes + -(-self.high_bits // 8)

    def encode(self, sorted_ids_NK: Integers) -> Bytes:
        """(N, num_bytes); the ids of each row ascend."""
        high = np.zeros((len(sorted_ids_NK), self.high_bits), dtype=np.uint8)
        places = (sorted_ids_NK >> self.low_bits) + np.arange(self.count)
        np.put_along_axis(high, places, 1, axis=1)
        low = sorted_ids_NK & ((1 << self.low_bits) - 1)
        parts = [np.packbits(high, axis=1)]
        if self.low_bits:
            parts.insert(0, pack_bits(low, self.low_bits))
        return np.concatenate(parts, axis=1)

    def decode(self, packed_NB: Bytes) -> Integers:
        """(N, count) ascending ids."""
        low = unpack_bits(packed_NB[:, : self.low_bytes], self.count, self.low_bits)
        high = np.unpackbits(packed_NB[:, self.low_bytes :], axis=1, count=self.high_bits)
        places = np.flatnonzero(high).reshape(len(packed_NB), self.count)
        places -= np.arange(len(packed_NB))[:, None] * self.high_bits + np.arange(self.count)
        return np.asarray((places << self.low_bits) | low, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class TopKCodec:
    """The k likeliest tokens of a position and the probability of all others together, as one row of bytes.

    A row: the ids; k codes of `code_bits`; highest, lowest and the others' log-probability in float16.
    """

    k: int
    vocab_size: int
    code_bits: int = 10

    @property
    def ids(self) -> IdCodec:
        return IdCodec(count=self.k, vocab_size=self.vocab_size)

    @property
    def code_bytes(self) -> int:
        return -(-self.k * self.code_bits // 8)

    @property
    def num_bytes(self) -> int:
        return self.ids.num_bytes + self.code_bytes + 6

    def encode(self, ids_NK: Integers, logq_NK: Floats, log_tail_N: Floats) -> Bytes:
        """(N, num_bytes), from ids in any order, log-probabilities in theirs, and the tail's."""
        order = np.argsort(ids_NK, axis=1)
        ids_NK = np.take_along_axis(ids_NK, order, axis=1)
        logq_NK = np.take_along_axis(logq_NK, order, axis=1)
        highest_N = logq_NK.max(1)
        floats = np.stack([highest_N, np.maximum(logq_NK.min(1), highest_N - REACH), log_tail_N], axis=1)
        floats = np.maximum(floats, LOWEST_LOGPROB).astype("<f2")
        high, low = (floats[:, column, None].astype(np.float32) for column in (0, 1))
        levels = (1 << self.code_bits) - 1
        step = np.maximum(high - low, 1e-6) / levels
        codes = np.clip(np.rint((logq_NK - low) / step), 0, levels).astype(np.int64)
        return np.concatenate(
            [self.ids.encode(ids_NK), pack_bits(codes, self.code_bits), floats.view(np.uint8)], axis=1
        )

    def decode(self, rows_NB: Bytes) -> tuple[Integers, Floats, Floats]:
        """(ids, log-probabilities, the tail's log-probability): of each row a distribution, which sums to
        1.
        """
        first, second = self.ids.num_bytes, self.ids.num_bytes + self.code_bytes
        codes = unpack_bits(rows_NB[:, first:second], self.k, self.code_bits).astype(np.float32)
        floats = np.ascontiguousarray(rows_NB[:, second:]).view("<f2").astype(np.float32)
        high, low, log_tail = floats[:, 0, None], floats[:, 1, None], floats[:, 2]
        step = np.maximum(high - low, 1e-6) / ((1 << self.code_bits) - 1)
        logq = low + codes * step
        log_mass = np.log(np.exp(logq).sum(1) + np.exp(log_tail))
        return self.ids.decode(rows_NB[:, :first]), logq - log_mass[:, None], log_tail - log_mass


# exp(-REACH) is 4e-18: without it, one masked token would make the steps between the likely ones coarse
REACH = 40.0
# The tail's log-probability where k is the whole vocabulary:
LOWEST_LOGPROB = -1000.0  # exp of it is 0 in float32, and float16 holds it
