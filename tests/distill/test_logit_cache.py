"""The cache on disk: what comes back, what is refused, and what a kill leaves."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.paths import ROOT

from stillmark.distill.head import OutputHead
from stillmark.distill.identity import CacheIdentity, TokenSequence, data_sha256, tokenizer_sha256
from stillmark.distill.logit_cache import CacheSettings, LogitCache
from stillmark.distill.logit_capture import capture_logits, teacher_hidden_states
from stillmark.errors import UserError

V, E = 211, 16
IDENTITY = CacheIdentity(teacher="a" * 64, tokenizer="b" * 64, template="c" * 64, data="d" * 64)
TOP_K = CacheSettings(k=8, rows_per_chunk=60)
SAMPLES = CacheSettings(kind="samples", k=50, rows_per_chunk=60)


def sequences(count: int = 20) -> list[TokenSequence]:
    rng = np.random.default_rng(0)
    made = []
    for index in range(count):
        ids = rng.integers(0, V, 5 + index % 11).tolist()
        targets = [-100 if place < index % 4 else token for place, token in enumerate(ids)]
        made.append(TokenSequence(token_ids=ids, targets=[-100] * len(ids) if index == 7 else targets))
    return made


def hidden_states(chosen: list[TokenSequence]) -> torch.Tensor:
    """A teacher whose hidden state is a function of the token before."""
    table = 0.5 * torch.randn(V, E, generator=torch.Generator().manual_seed(1))
    ids = [t for s in chosen for t, target in zip(s.token_ids, s.targets, strict=True) if target != -100]
    return table[torch.tensor(ids, dtype=torch.long)]


HEAD = OutputHead(weight=torch.randn(V, E, generator=torch.Generator().manual_seed(2)))


def capture(directory, settings=TOP_K, identity=IDENTITY, source=hidden_states):
    return capture_logits(directory, source, HEAD, sequences(), identity=identity, settings=settings)


def full_logq(chosen) -> torch.Tensor:
    return (hidden_states(chosen) @ HEAD.weight.T).log_softmax(-1)


def test_any_sequences_come_back_in_the_order_asked(tmp_path):
    capture(tmp_path)
    cache = LogitCache(tmp_path, IDENTITY)
    assert len(cache.chunks) == 3
    order = [13, 2, 7, 13, 19]
    got = cache.targets(order)
    logq = full_logq([sequences()[index] for index in order])
    assert len(got) == len(logq) > 0
    top = logq.topk(8).indices.sort(-1).values
    assert (got.ids_LK == top).all()
    torch.testing.assert_close(got.logq_LK, logq.gather(-1, top), rtol=2e-3, atol=2e-2)
    total = got.logq_LK.exp().sum(-1) + got.log_tail_L.exp()
    torch.testing.assert_close(total, torch.ones(len(got)))
    assert cache.num_rows == sum(sequence.num_loss_tokens for sequence in sequences())


@pytest.mark.parametrize("settings", [TOP_K, SAMPLES], ids=["top_k", "samples"])
def test_no_sequences_have_no_rows(tmp_path, settings):
    """A process of several that has fewer micro-batches than the others reads for none; a chunk may have no loss."""
    capture(tmp_path, replace(settings, rows_per_chunk=3))
    cache = LogitCache(tmp_path, IDENTITY)
    got = cache.targets([])
    assert len(got) == 0
    assert got.ids_LK.shape[0] == 0
    assert len(cache.targets([7])) == 0  # it has no loss position
    assert [len(cache.targets([index])) for index in (6, 8)] == [
        sequences()[index].num_loss_tokens for index in (6, 8)
    ]


def test_samples_come_back_with_shares_near_the_teachers_probabilities(tmp_path):
    capture(tmp_path, replace(SAMPLES, k=255))
    cache = LogitCache(tmp_path, IDENTITY)
    got, logq = cache.targets(range(20)), full_logq(sequences())
    dense = torch.zeros_like(logq).scatter_add_(-1, got.ids_LK, got.share_LK)
    torch.testing.assert_close(dense.sum(-1), torch.ones(len(dense)))
    variance = (logq.exp() * (1 - logq.exp())).sum(-1) / 255  # of 255 draws: chi-square-like, mean 1
    ratio = ((dense - logq.exp()) ** 2).sum(-1) / variance
    assert 0.8 < ratio.mean() < 1.2
    torch.testing.assert_close(got.entropy_L, -(logq.exp() * logq).sum(-1), rtol=1e-3, atol=1e-3)
    one = cache.targets([12])
    start = sum(sequence.num_loss_tokens for sequence in sequences()[:12])
    torch.testing.assert_close(one.entropy_L, got.entropy_L[start : start + len(one)])
    again = torch.zeros(len(one), V).scatter_add_(-1, one.ids_LK, one.share_LK)
    torch.testing.assert_close(again, dense[start : start + len(one)])


@pytest.mark.parametrize("part", ["teacher", "tokenizer", "template", "data"])
def test_a_cache_of_something_else_is_refused(tmp_path, part):
    capture(tmp_path)
    other = replace(IDENTITY, **{part: "e" * 64})
    with pytest.raises(UserError, match=f"captured with another {part}"):
        LogitCache(tmp_path, other)
    with pytest.raises(UserError, match=f"captured with another {part}"):
        capture(tmp_path, identity=other)
    with pytest.raises(UserError, match="holds another capture"):
        capture(tmp_path, settings=replace(TOP_K, k=4))


@pytest.mark.parametrize("settings", [TOP_K, SAMPLES], ids=["top_k", "samples"])
def test_one_flipped_bit_anywhere_is_found(tmp_path, settings):
    capture(tmp_path, settings)
    rng = np.random.default_rng(0)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files][-1] == "manifest.json"
    for path in files:
        content = path.read_bytes()
        for bit in rng.integers(0, 8 * len(content), 60):
            broken = bytearray(content)
            broken[bit // 8] ^= 1 << (bit % 8)
            path.write_bytes(broken)
            with pytest.raises(UserError):
                LogitCache(tmp_path, IDENTITY).verify()
        path.write_bytes(content[:-3])
        with pytest.raises(UserError):
            LogitCache(tmp_path, IDENTITY).verify()
        path.write_bytes(content)
    LogitCache(tmp_path, IDENTITY).verify()


@pytest.mark.parametrize("settings", [TOP_K, SAMPLES], ids=["top_k", "samples"])
def test_a_capture_that_was_cut_off_goes_on_to_the_same_bytes(tmp_path, settings):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    report = capture(whole, settings)
    assert report.num_sequences == 20
    calls = []

    def dies(chosen):
        calls.append(len(chosen))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return hidden_states(chosen)

    with pytest.raises(KeyboardInterrupt):
        capture(cut, settings, source=dies)
    with pytest.raises(UserError, match=f"holds {calls[0]} of 20 sequences"):
        LogitCache(cut, IDENTITY)
    with (cut / "chunks.jsonl").open("a") as log:
        log.write('{"file": "chunk-0000')  # a torn line
    assert capture(cut, settings).num_sequences == 20 - calls[0]
    assert capture(cut, settings).num_rows == 0
    for path in whole.iterdir():
        assert path.read_bytes() == (cut / path.name).read_bytes()


CAPTURE_SLOWLY = """
import sys, time
from pathlib import Path
from tests.distill import test_logit_cache as t
def slow(chosen):
    time.sleep(0.05)
    return t.hidden_states(chosen)
t.capture(Path(sys.argv[1]), t.replace(t.TOP_K, rows_per_chunk=1), source=slow)
"""


def test_a_capture_survives_kill_9(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    capture(whole, replace(TOP_K, rows_per_chunk=1))
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", CAPTURE_SLOWLY, str(cut)], env=environment, cwd=ROOT)
    log = cut / "chunks.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 3):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= log.read_text().count("\n") < 20
    capture(cut, replace(TOP_K, rows_per_chunk=1))
    LogitCache(cut, IDENTITY).verify()
    for path in whole.iterdir():
        assert path.read_bytes() == (cut / path.name).read_bytes()


def test_top_32_of_49152_is_stored_in_100_bytes_a_token(tmp_path):
    head = OutputHead(weight=torch.randn(49_152, E, generator=torch.Generator().manual_seed(3)))
    data = [TokenSequence(token_ids=list(range(100)), targets=list(range(100)))] * 3
    settings = CacheSettings(rows_per_chunk=200)
    capture_logits(tmp_path, hidden_states, head, data, identity=IDENTITY, settings=settings)
    cache = LogitCache(tmp_path, IDENTITY)
    assert cache.num_rows == 300
    chunk_bytes = sum(chunk.num_bytes for chunk in cache.chunks)
    assert chunk_bytes / 300 < 100
    assert cache.num_bytes > chunk_bytes  # the manifest and the log: constant, and 150 bytes a chunk


def test_checksums_tell_data_apart_and_ignore_a_tokenizers_padding():
    first = sequences()
    assert data_sha256(first) == data_sha256(sequences())
    assert data_sha256(first) != data_sha256(first[::-1])
    changed = replace(first[0], targets=[-100, *first[0].targets[1:]])
    assert data_sha256(first) != data_sha256([changed, *first[1:]])
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    def tokenizer(**vocab):
        backend = Tokenizer(models.WordLevel(vocab={"[UNK]": 0} | vocab, unk_token="[UNK]"))
        return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[UNK]")

    plain, padding = tokenizer(a=1, b=2), tokenizer(a=1, b=2)
    padding(["a", "a b"], padding=True, truncation=True, max_length=2)
    assert tokenizer_sha256(plain) == tokenizer_sha256(padding)
    assert tokenizer_sha256(plain) != tokenizer_sha256(tokenizer(a=2, b=1))


def test_a_transformers_teacher_gives_each_sequence_what_it_gives_it_alone():
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("llama", vocab_size=V, attention_dropout=0.5, **sizes)
    teacher = AutoModelForCausalLM.from_config(config).double().train()
    source, head = teacher_hidden_states(teacher, tokens_per_batch=40)
    data = sequences()
    with torch.inference_mode():
        got = source(data) @ head.weight.T
        expected = []
        for sequence in data:
            logits = teacher.eval()(torch.tensor([sequence.token_ids])).logits[0]
            expected.append(logits[torch.tensor(sequence.targets) != -100])
    torch.testing.assert_close(got, torch.cat(expected))
