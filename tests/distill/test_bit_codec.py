"""The codecs give back what went in: ids to the digit, log-probabilities within their step."""

import numpy as np
import pytest

from stillmark.distill.bit_codec import IdCodec, TopKCodec, pack_bits, unpack_bits


@pytest.mark.parametrize("bits", [1, 3, 8, 10, 16, 18])
def test_bits_come_back(bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (7, 13))
    packed = pack_bits(values, bits)
    assert packed.shape == (7, -(-13 * bits // 8))
    assert (unpack_bits(packed, 13, bits) == values).all()


SIZES = [(1, 1), (1, 7), (7, 7), (32, 49_152), (50, 151_665), (64, 256), (3, 4)]


@pytest.mark.parametrize(("count", "vocab_size"), SIZES)
def test_id_sets_come_back(count, vocab_size):
    rng = np.random.default_rng(0)
    codec = IdCodec(count=count, vocab_size=vocab_size)
    rows = [sorted(rng.choice(vocab_size, count, replace=False)) for _ in range(20)]
    rows += [range(count), range(vocab_size - count, vocab_size)]
    ids = np.array([list(row) for row in rows])
    packed = codec.encode(ids)
    assert packed.shape == (22, codec.num_bytes)
    assert (codec.decode(packed) == ids).all()


def test_top_32_of_49152_takes_fewer_than_100_bytes():
    assert IdCodec(count=32, vocab_size=49_152).num_bytes == 50
    assert TopKCodec(k=32, vocab_size=49_152).num_bytes == 96


def test_log_probabilities_come_back_within_half_a_step_and_sum_to_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 1000)) * 4
    logq = (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)
    ids = np.argsort(-logq, axis=1)[:, :32]
    top = np.take_along_axis(logq, ids, axis=1)
    tail = np.log1p(-np.exp(top.astype(np.float64)).sum(1)).astype(np.float32)
    codec = TopKCodec(k=32, vocab_size=1000)
    got_ids, got, got_tail = codec.decode(codec.encode(ids, top, tail))
    assert (got_ids == np.sort(ids, axis=1)).all()
    wanted = np.take_along_axis(logq, got_ids, axis=1)
    step = (top.max(1) - top.min(1)) / 1023
    float16_rounding = 2.0**-11 * np.abs(top).max(1)
    assert (np.abs(got - wanted).max(1) < step / 2 + 2 * float16_rounding).all()
    np.testing.assert_allclose(
        np.exp(got.astype(np.float64)).sum(1) + np.exp(got_tail.astype(np.float64)), 1, rtol=1e-6
    )


def test_one_token_far_below_leaves_the_likely_ones_as_near():
    """A masked token among those kept, as where k is all that a mask allows and more."""
    logits = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float32)
    logits[:, 30:] = -1e4
    logq = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    codec = TopKCodec(k=32, vocab_size=64)
    ids = np.tile(np.arange(32), (50, 1))
    _, got, tail = codec.decode(codec.encode(ids, logq, np.full(50, -np.inf, dtype=np.float32)))
    assert (np.exp(got[:, 30:]) < 1e-17).all()
    assert (np.exp(tail) == 0).all()
    assert (np.abs(np.exp(got) - np.exp(logq)).sum(1) / 2 < 0.02).all()
    kl = (np.exp(logq) * np.where(logq > -100, logq - got, 0)).sum(1)
    assert kl.mean() < 1e-4


def test_no_rows_take_no_bytes():
    codec = TopKCodec(k=4, vocab_size=9)
    empty = np.zeros((0, 4))
    rows = codec.encode(empty.astype(np.int64), empty.astype(np.float32), np.zeros(0, dtype=np.float32))
    assert rows.shape == (0, codec.num_bytes)
    assert [part.shape for part in codec.decode(rows)] == [(0, 4), (0, 4), (0,)]


def test_the_whole_vocabulary_leaves_an_empty_tail():
    codec = TopKCodec(k=4, vocab_size=4)
    logq = np.log(np.array([[0.1, 0.2, 0.3, 0.4]], dtype=np.float32))
    rows = codec.encode(np.array([[0, 1, 2, 3]]), logq, np.array([-np.inf], dtype=np.float32))
    assert np.exp(codec.decode(rows)[2]) == 0
