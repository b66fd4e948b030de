"""The engine against each model's own forward pass and `generate`, by brute force."""

import random

import pytest
import torch
from tests.backends.tiny import ALPHABET, PACKED, PLAIN, char_tokenizer, tiny_model

from stillmark.backends import attention
from stillmark.backends.protocol import Sampling, StopReason
from stillmark.backends.transformers import TransformersBackend
from stillmark.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def random_text(rng: random.Random, length: int) -> str:
    return "".join(rng.choice(ALPHABET[:26]) for _ in range(length))


def requests_with_shared_parts(seed: int = 0) -> list[tuple[str, str]]:
    """Items after one long prefix with several choices each, some after none, some of one letter."""
    rng = random.Random(seed)
    prefix = random_text(rng, 50)
    requests = []
    for _ in range(6):
        prompt = prefix + random_text(rng, rng.randrange(1, 20))
        requests += [(prompt, " " + random_text(rng, rng.randrange(0, 9)) + "x") for _ in range(4)]
        requests += [(prompt, letter) for letter in "ABCD"]
    requests += [(random_text(rng, rng.randrange(1, 30)), random_text(rng, 5)) for _ in range(5)]
    requests += [("", "abc"), requests[0], ("trailing space ", "moves")]
    return requests


def brute_force(model, tokenizer, prompt: str, continuation: str) -> tuple[float, bool]:
    bare = prompt.rstrip()
    continuation = prompt[len(bare) :] + continuation
    ids = tokenizer(bare)["input_ids"] if bare else [tokenizer.bos_token_id]
    targets = tokenizer(continuation)["input_ids"]
    with torch.no_grad():
        logprobs = model(torch.tensor([ids + targets])).logits[0].log_softmax(-1)
    rows = logprobs[len(ids) - 1 : -1]
    total = sum(rows[i, token].item() for i, token in enumerate(targets))
    return total, rows.argmax(-1).tolist() == targets


@pytest.mark.parametrize("model_type", [*PACKED, *PLAIN])
def test_loglikelihood_is_the_models_own(model_type):
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    requests = requests_with_shared_parts()
    expected = [brute_force(model, tokenizer, *request) for request in requests]
    for max_batch_tokens in (16, 1024):
        backend = TransformersBackend(model, tokenizer, max_batch_tokens=max_batch_tokens)
        assert (backend.path_reason is None) == (model_type in PACKED), backend.path_reason
        for result, (total, is_greedy) in zip(backend.loglikelihood(requests), expected, strict=True):
            assert result.loglikelihood == pytest.approx(total, abs=2e-4 * max(1, abs(total)))
            assert result.is_greedy == is_greedy
            assert result.truncated_tokens == 0


@pytest.mark.parametrize("model_type", [*PACKED, *PLAIN])
def test_greedy_text_is_that_of_generate(model_type):
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    rng = random.Random(1)
    prefix = random_text(rng, 40)
    prompts = [prefix + random_text(rng, rng.randrange(1, 12)) for _ in range(8)]
    prompts += [random_text(rng, rng.randrange(1, 25)) for _ in range(4)] + [prefix, prefix[:20]]
    expected = []
    for prompt in prompts:
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        with torch.no_grad():
            output = model.generate(ids, max_new_tokens=10, do_sample=False, pad_token_id=0)
        expected.append(output[0, ids.shape[1] :].tolist())
    for max_rows, max_batch_tokens in ((3, 16), (256, 1024)):
        backend = TransformersBackend(model, tokenizer, max_rows=max_rows, max_batch_tokens=max_batch_tokens)
        for [reply], ids in zip(
            backend.generate(prompts, Sampling(max_new_tokens=10)), expected, strict=True
        ):
            assert reply.text == tokenizer.decode(ids, skip_special_tokens=True)
            assert reply.generated_tokens == len(ids)
            assert reply.stop_reason == (StopReason.STOP if ids[-1] == 1 else StopReason.LENGTH)


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_attention_in_memory_is_the_same(model_type, monkeypatch):
    """What runs on other devices than a CPU, in blocks of a few queries."""
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    requests = requests_with_shared_parts()
    prompts = [prompt for prompt, _ in requests[::5]]
    backend = TransformersBackend(model, tokenizer)
    expected = backend.loglikelihood(requests), backend.generate(prompts, Sampling(max_new_tokens=8))
    monkeypatch.setattr(attention, "has_cpu_kernels", lambda states: False)
    monkeypatch.setattr(attention, "MAX_SCORE_ELEMENTS", 1000)
    results, replies = backend.loglikelihood(requests), backend.generate(prompts, Sampling(max_new_tokens=8))
    for a, b in zip(results, expected[0], strict=True):
        assert a.loglikelihood == pytest.approx(b.loglikelihood, abs=1e-3)
    assert [row[0].text for row in replies] == [row[0].text for row in expected[1]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_number_formats_pack(dtype):
    backend = TransformersBackend(tiny_model("gemma2", scale=0.1).to(dtype), char_tokenizer(), path="packed")
    [[reply]] = backend.generate(["abc"], Sampling(max_new_tokens=4))
    assert reply.generated_tokens == 4 or reply.stop_reason == StopReason.STOP


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "mamba"])
@pytest.mark.parametrize("num_samples", [2, 9])
def test_samples_do_not_depend_on_their_batch(model_type, num_samples):
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    rng = random.Random(2)
    prefix = random_text(rng, 40)
    prompts = [prefix + random_text(rng, rng.randrange(0, 9)) for _ in range(4)]
    sampling = Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9, num_samples=num_samples, seed=5)
    together = TransformersBackend(model, tokenizer).generate(prompts, sampling)
    few_rows = TransformersBackend(model, tokenizer, max_rows=4, max_batch_tokens=16, path="auto")
    alone = [few_rows.generate([prompt], sampling)[0] for prompt in reversed(prompts)][::-1]
    plain = TransformersBackend(model, tokenizer, path="plain").generate(prompts, sampling)

    def texts(replies):
        return [[(r.text, r.generated_tokens, r.stop_reason) for r in rows] for rows in replies]

    assert texts(together) == texts(alone) == texts(plain)
    assert texts(together) == texts(few_rows.generate(prompts, sampling))
    assert len({reply.text for reply in together[0]}) > 1
    fewer = Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9, num_samples=1, seed=5)
    assert [rows[0].text for rows in few_rows.generate(prompts, fewer)] == [rows[0].text for rows in together]
    other = Sampling(max_new_tokens=8, temperature=1.0, top_p=0.9, num_samples=num_samples, seed=6)
    assert texts(few_rows.generate(prompts, other)) != texts(together)


@pytest.mark.parametrize("path", ["packed", "plain"])
def test_stop_strings_end_a_row_and_are_cut_off(path):
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    backend = TransformersBackend(model, tokenizer, path=path)
    prompts = [random_text(random.Random(i), 10) for i in range(8)]
    free = backend.generate(prompts, Sampling(max_new_tokens=40))
    stop = (free[0][0].text[5:8], free[1][0].text[10:12], "<eos>")
    for [full], [reply] in zip(
        free, backend.generate(prompts, Sampling(max_new_tokens=40, stop=stop)), strict=True
    ):
        ends = [full.text.find(s) + len(s) for s in stop if s in full.text]
        starts = [full.text.find(s) for s in stop if s in full.text]
        assert reply.text == full.text[: min(starts, default=None)]
        if ends:
            assert reply.stop_reason == StopReason.STOP
            # Special tokens (two of the vocabulary) have no text
            assert min(ends) <= reply.generated_tokens <= full.generated_tokens
        else:
            assert reply.generated_tokens == full.generated_tokens


def test_shared_work_is_done_once():
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    backend = TransformersBackend(model, tokenizer)
    seen = 0

    def count(module, args, kwargs):
        nonlocal seen
        seen += kwargs["input_ids"].numel()

    handle = model.register_forward_pre_hook(count, with_kwargs=True)
    prefix = "abcdefgh" * 12
    backend.generate([prefix + "xy", prefix + "z"], Sampling(max_new_tokens=1, temperature=1, num_samples=9))
    assert seen == len(prefix) + 3
    seen = 0
    backend.loglikelihood([(prefix + str(item), f" ch{k}") for item in range(5) for k in range(4)])
    assert seen == len(prefix) + 5 * (1 + 3)  # each item's digit, then " ch" once for its four choices
    handle.remove()


def test_the_model_is_left_as_it_was():
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    before = model.config._attn_implementation
    backend = TransformersBackend(model, tokenizer)
    backend.loglikelihood([("a", "b")])
    assert model.config._attn_implementation == before
    with pytest.raises(UserError, match="no tokens of its own"):
        backend.loglikelihood([("a", "")])
    assert backend.loglikelihood([]) == backend.generate([], Sampling(max_new_tokens=1)) == []


def test_the_window_is_never_passed_in_silence():
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    backend = TransformersBackend(model, tokenizer)
    window = model.config.max_position_embeddings
    text = random_text(random.Random(0), 2 * window)
    [[fits], [full], [long]] = backend.generate(
        [text[: window - 5], text[:window], text], Sampling(max_new_tokens=50)
    )
    assert fits.generated_tokens <= 5
    assert full.stop_reason == long.stop_reason == StopReason.ERROR
    assert "window" in long.error
    [cut] = backend.loglikelihood([(text, "abc")])
    assert cut.truncated_tokens == len(text) - (window - 2)
    expected, _ = brute_force(model, tokenizer, text[-(window - 2) :], "abc")
    assert cut.loglikelihood == pytest.approx(expected, abs=1e-3)
    with pytest.raises(UserError, match="window"):
        backend.loglikelihood([("a", text)])


def test_times_add_up_to_no_more_than_was_spent():
    import time

    model, tokenizer = tiny_model("llama"), char_tokenizer()
    backend = TransformersBackend(model, tokenizer)
    start = time.perf_counter()
    replies = backend.generate(
        ["abc", "abd", "abc"], Sampling(max_new_tokens=5, temperature=1, num_samples=3)
    )
    spent = time.perf_counter() - start
    rows = [reply for replies_of_one in replies for reply in replies_of_one]
    assert 0 < sum(r.prefill_seconds + r.decode_seconds for r in rows) <= spent
    start = time.perf_counter()
    results = backend.loglikelihood([("abc", "d"), ("abc", "e"), ("abc", "d"), ("b", "cde")])
    assert 0 < sum(r.seconds for r in results) <= time.perf_counter() - start
