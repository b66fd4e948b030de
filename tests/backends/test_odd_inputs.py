"""Inputs and models at the edges, against each model's own forward pass and `generate` on one sequence at a time."""

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.backends.test_engine import brute_force, random_text, requests_with_shared_parts
from tests.backends.tiny import ALPHABET, LONGROPE, char_tokenizer, tiny_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stillmark.backends.protocol import Sampling, StopReason
from stillmark.backends.transformers import TransformersBackend, load_backend
from stillmark.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own


def greedy(model, tokenizer, prompt: str, num_tokens: int, *, use_cache: bool = True) -> str:
    ids = torch.tensor([tokenizer(prompt)["input_ids"]])
    with torch.no_grad():
        options = {
            "max_new_tokens": num_tokens,
            "do_sample": False,
            "pad_token_id": 0,
            "use_cache": use_cache,
        }
        output = model.generate(ids, **options)
    return tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)


def test_a_long_sequence_does_not_change_a_short_one_beside_it():
    """Longrope: transformers takes the longest sequence of a pass for all of it."""
    model, tokenizer = tiny_model("phi3", sliding_window=None, **LONGROPE), char_tokenizer()
    rng = random.Random(3)
    requests = [(random_text(rng, length), " " + random_text(rng, 4)) for length in (5, 60, 20, 28, 29, 90)]
    requests += requests_with_shared_parts()[:8]
    backend = TransformersBackend(model, tokenizer)
    assert backend.path_reason is None
    for result, request in zip(backend.loglikelihood(requests), requests, strict=True):
        bare = request[0] + request[1][:-1]  # the last token is not fed, so it does not count to the length
        ids, last = tokenizer(bare)["input_ids"], tokenizer(request[1][-1])["input_ids"][0]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        start = len(tokenizer(request[0])["input_ids"])
        targets = [*ids[start:], last]
        expected = sum(logprobs[start - 1 + i, token].item() for i, token in enumerate(targets))
        assert result.loglikelihood == pytest.approx(expected, abs=1e-3)
    prompts = [prompt for prompt, _ in requests]
    replies = backend.generate(prompts, Sampling(max_new_tokens=8))
    assert [reply.text for [reply] in replies] == [greedy(model, tokenizer, p, 8) for p in prompts]


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
def test_an_encoder_is_not_scored_as_if_it_were_causal(model_type):
    """transformers loads one as a causal model unless its config says `is_decoder`, and it sees the answer."""
    encoder = TransformersBackend(tiny_model(model_type), char_tokenizer())
    with pytest.raises(UserError, match="is no causal model"):
        encoder.loglikelihood([("abc", "d")])
    model = tiny_model(model_type, is_decoder=True)
    [result] = TransformersBackend(model, char_tokenizer()).loglikelihood([("abc", "d")])
    assert result.loglikelihood == pytest.approx(
        brute_force(model, char_tokenizer(), "abc", "d")[0], abs=1e-3
    )


def test_a_prompt_of_one_token_where_transformers_cache_is_wrong():
    """RecurrentGemma's own cached `generate` is not its own forward pass after one token (transformers 5.24)."""
    options = {"lru_width": 32, "attention_window_size": 8}
    model, tokenizer = tiny_model("recurrent_gemma", **options), char_tokenizer()
    [[reply]] = TransformersBackend(model, tokenizer).generate(["a"], Sampling(max_new_tokens=10))
    assert reply.text == greedy(model, tokenizer, "a", 10, use_cache=False)


@pytest.mark.parametrize("model_type", ["granite", "glm4", "starcoder2"])
def test_two_hundred_choices_and_one_token_prompts(model_type):
    model, tokenizer = tiny_model(model_type), char_tokenizer()
    rng = random.Random(4)
    prompt = random_text(rng, 30)
    requests = [(prompt, " " + random_text(rng, rng.randrange(1, 12))) for _ in range(200)]
    requests += [(letter, "b") for letter in ALPHABET[:26]]
    results = TransformersBackend(model, tokenizer, max_batch_tokens=64).loglikelihood(requests)
    for result, request in zip(results, requests, strict=True):
        total, is_greedy = brute_force(model, tokenizer, *request)
        assert result.loglikelihood == pytest.approx(total, abs=1e-3)
        assert result.is_greedy == is_greedy
    prompts = list("abcdef")
    replies = TransformersBackend(model, tokenizer).generate(prompts, Sampling(max_new_tokens=6))
    assert [reply.text for [reply] in replies] == [greedy(model, tokenizer, p, 6) for p in prompts]


@pytest.mark.parametrize("path", ["packed", "plain"])
def test_what_cannot_be_asked_is_said(path):
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    backend = TransformersBackend(model, tokenizer, path=path)
    with pytest.raises(UserError, match="no tokens of its own"):
        backend.loglikelihood([("abc", "")])
    with pytest.raises(UserError, match="the model's window is 256"):
        backend.loglikelihood([("abc", "d" * 257)])
    [result] = backend.loglikelihood([("abc" * 200, "d")])
    assert (result.truncated_tokens, result.prompt_tokens) == (600 - 256, 256)
    kept = ("abc" * 200)[-256:]
    assert result.loglikelihood == pytest.approx(brute_force(model, tokenizer, kept, "d")[0], abs=1e-3)
    [[whole], [full]] = backend.generate(["abc" * 100, "a" * 255], Sampling(max_new_tokens=5))
    assert (whole.stop_reason, whole.generated_tokens) == (StopReason.ERROR, 0)
    assert (full.stop_reason, full.generated_tokens) == (StopReason.LENGTH, 1)
    assert backend.generate([], Sampling(max_new_tokens=5)) == []
    assert backend.loglikelihood([]) == []


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, as GPT-2's vocabulary begins: letters beyond ASCII take two tokens or more."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate([*alphabet, "<eos>"])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")


@pytest.mark.parametrize("stop", [(), ("é",), ("\ufffd",)])
def test_letters_that_are_split_over_tokens(stop):
    tokenizer = byte_tokenizer()
    model = tiny_model("llama", vocab_size=257, eos_token_id=256, pad_token_id=256)
    backend = TransformersBackend(model, tokenizer)
    requests = [("naïve 日本", " é"), ("日", "本語"), ("🙂", "🙃"), ("a", "é" * 9)]
    for result, (prompt, continuation) in zip(backend.loglikelihood(requests), requests, strict=True):
        assert result.continuation_tokens == len(continuation.encode())
        total, is_greedy = brute_force(model, tokenizer, prompt, continuation)
        assert result.loglikelihood == pytest.approx(total, abs=1e-3)
        assert result.is_greedy == is_greedy
    prompts = [prompt for prompt, _ in requests]
    for [reply], prompt in zip(
        backend.generate(prompts, Sampling(max_new_tokens=30, stop=stop)), prompts, strict=True
    ):
        whole = greedy(model, tokenizer, prompt, 30)
        ends = [whole.find(text) for text in stop if text in whole]
        if "\ufffd" not in stop:  # half a letter is no text yet
            assert reply.text == whole[: min(ends, default=None)]


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path):
    """transformers fills what a file lacks with random numbers and a warning."""
    tiny_model("llama", tie_word_embeddings=False).save_pretrained(tmp_path)
    char_tokenizer().save_pretrained(tmp_path)
    assert load_backend(str(tmp_path)).window_tokens == 256
    weights = load_file(tmp_path / "model.safetensors")
    head = weights.pop("lm_head.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its weights.*: lm_head\.weight"):
        load_backend(str(tmp_path))
    save_file(
        {**weights, "lm_head.weight": head[:-1]}, tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    with pytest.raises(UserError, match=r"another size: lm_head\.weight"):
        load_backend(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no_such_model"}))
    with pytest.raises(UserError, match="could not be loaded"):
        load_backend(str(tmp_path))
