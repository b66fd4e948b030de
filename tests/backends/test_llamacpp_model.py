"""The llama.cpp backend against llama.cpp's own unforced probabilities, and against transformers (slow)."""

import math
from typing import Any

import pytest
from tests.backends.llama_server import model_path

from stillmark.backends.protocol import Sampling, StopReason
from stillmark.errors import UserError

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def backend() -> Any:
    path = model_path()
    from stillmark.backends.llamacpp import LlamaCppBackend

    return LlamaCppBackend(path, window_tokens=128, num_parallel=3, num_threads=1)


def unforced(
    backend: Any, prompt: str, *, num_tokens: int = 1, num_listed: int = 400
) -> list[dict[str, Any]]:
    """What llama.cpp itself lists, greedy and without a bias."""
    body = {
        "prompt": prompt,
        "n_predict": num_tokens,
        "temperature": 0,
        "n_probs": num_listed,
        "cache_prompt": False,
    }
    content: list[dict[str, Any]] = backend._server.handle_completions(body)["choices"][0]["logprobs"][
        "content"
    ]
    return content


def test_a_forced_token_has_the_probability_that_it_has_unforced(backend: Any):
    [listed] = unforced(backend, PROMPT)
    tokens = [
        t for t in listed["top_logprobs"] if t["token"].startswith(" ") and t["token"].strip().isalpha()
    ]
    chosen = [tokens[i] for i in (0, 1, 5, 20, 60)]
    scores = backend.loglikelihood([(PROMPT, token["token"]) for token in chosen])
    assert [s.continuation_tokens for s in scores] == [1] * 5
    for score, token in zip(scores, chosen, strict=True):
        assert score.loglikelihood == pytest.approx(token["logprob"], abs=2e-2)  # batches round differently
    assert [s.is_greedy for s in scores] == [True, False, False, False, False]


def test_a_greedy_text_scores_what_it_scored_when_it_was_written(backend: Any):
    [[reply]] = backend.generate(["1, 2, 3, 4,"], Sampling(max_new_tokens=6))
    assert reply.text == " 5, 6,"
    written = unforced(backend, "1, 2, 3, 4,", num_tokens=6, num_listed=1)
    [score] = backend.loglikelihood([("1, 2, 3, 4,", reply.text)])
    assert score.is_greedy
    assert score.continuation_tokens == reply.generated_tokens == 6
    assert score.loglikelihood == pytest.approx(sum(token["logprob"] for token in written), abs=5e-2)


def test_requests_keep_their_order_and_share_their_seconds(backend: Any):
    requests = [(PROMPT, " Paris"), ("2 + 2 =", " 4"), (PROMPT, " London"), (PROMPT, " Paris"), ("", "Hello")]
    together = backend.loglikelihood(requests)
    for request, result in zip(requests, together, strict=True):
        [alone] = backend.loglikelihood([request])
        assert result.loglikelihood == pytest.approx(alone.loglikelihood, abs=3e-2)
        assert result.seconds is not None
        assert result.seconds > 0
    assert together[0] == together[3]
    assert together[4].prompt_tokens == 1  # BOS stands for the empty prompt


def test_a_prompt_ends_where_a_token_does(backend: Any):
    spaced, joined = backend.loglikelihood([(PROMPT + " ", "Paris"), (PROMPT, " Paris")])
    assert spaced.loglikelihood == pytest.approx(joined.loglikelihood, abs=2e-2)


def test_a_full_window_is_told(backend: Any):
    long = "word " * (backend.window_tokens + 20)  # the window is rounded up by llama.cpp
    [score] = backend.loglikelihood([(long, " end")])
    assert score.truncated_tokens > 0
    assert score.prompt_tokens + score.continuation_tokens == backend.window_tokens
    [[reply], [fine]] = backend.generate([long, PROMPT], Sampling(max_new_tokens=2))
    assert (reply.stop_reason, fine.stop_reason) == (StopReason.ERROR, StopReason.LENGTH)
    assert "context size" in str(reply.error)
    with pytest.raises(UserError, match="a slot's window"):
        backend.loglikelihood([("a", long)])


def test_stop_strings_and_counts(backend: Any):
    sampling = Sampling(max_new_tokens=30, stop=(" 8", "zzz"))
    [[reply]] = backend.generate(["1, 2, 3, 4,"], sampling)
    assert (reply.text, reply.stop_reason) == (" 5, 6, 7,", StopReason.STOP)
    assert reply.prompt_tokens == len(backend.codec.encode(["1, 2, 3, 4,"])[0])
    assert 9 <= reply.generated_tokens <= 11
    assert reply.prefill_seconds is not None
    assert reply.decode_seconds is not None


def test_a_model_that_ends_its_turn_stops(backend: Any):
    prompt = backend.tokenizer.apply_chat_template("Reply with one word: hello")
    assert prompt.endswith("<|im_start|>assistant\n")
    [[reply]] = backend.generate([prompt], Sampling(max_new_tokens=60))
    assert reply.stop_reason is StopReason.STOP
    assert "<|im_end|>" not in reply.text


def test_sampling_draws_from_the_whole_vocabulary(backend: Any):
    """llama.cpp's defaults keep 40 tokens at most (top_k 40)."""
    sampling = Sampling(max_new_tokens=1, temperature=4.0, num_samples=80, seed=5)
    [replies] = backend.generate([PROMPT], sampling)
    assert len({reply.text for reply in replies}) > 45
    [narrow] = backend.generate(
        [PROMPT], Sampling(max_new_tokens=1, temperature=1, top_p=0.3, num_samples=10)
    )
    assert {reply.text for reply in narrow} == {" Paris"}  # p(Paris) = 0.77 is the whole nucleus


def test_samples_differ_by_their_number_and_come_again_with_the_seed(backend: Any):
    sampling = Sampling(max_new_tokens=3, temperature=2.0, num_samples=4, seed=2)
    [first] = backend.generate([PROMPT], sampling)
    [again] = backend.generate([PROMPT], sampling)
    assert [r.text for r in first] == [r.text for r in again]
    assert len({r.text for r in first}) > 1
    [greedy] = backend.generate([PROMPT], Sampling(max_new_tokens=3, num_samples=2))
    assert greedy[0] == greedy[1]


def test_a_file_that_is_not_there_is_the_users_mistake():
    model_path()
    from stillmark.backends.llamacpp import LlamaCppBackend

    with pytest.raises(UserError, match="no GGUF file"):
        LlamaCppBackend("/nowhere/model.gguf")


@pytest.mark.slow
def test_tokens_and_probabilities_are_those_of_transformers(backend: Any):
    """The same file, dequantised to float32; llama.cpp also rounds activations to 8 bits.

    Where digits follow two line ends the tokens differ: transformers 5 drops the GGUF's `tokenizer.ggml.pre`
    (smollm: digits stand alone), which llama.cpp heeds.
    """
    from stillmark.backends.transformers import load_backend

    other = load_backend(model_path())
    texts = [
        PROMPT,
        "<|im_start|>user\nhi<|im_end|>\n",
        "  two spaces\n\nand 1234 + 5 = café",
        "\tdef f(x):\n        return x",
    ]
    assert backend.codec.encode(texts) == other.codec.encode(texts)
    requests = [
        (PROMPT, " Paris"),
        (PROMPT, " London"),
        ("Water boils at 100 degrees", " Celsius."),
        ("Q: What is 3 + 4?\nA:", " 7"),
        ("Once upon a time,", " there was a little girl who lived in a forest."),
    ]
    for request in requests:
        [ours], [theirs] = backend.loglikelihood([request]), other.loglikelihood([request])
        assert (ours.prompt_tokens, ours.continuation_tokens) == (
            theirs.prompt_tokens,
            theirs.continuation_tokens,
        )
        per_token = (ours.loglikelihood - theirs.loglikelihood) / ours.continuation_tokens
        assert math.fabs(per_token) < 0.15
