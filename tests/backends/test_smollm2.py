"""A real model on lm-evaluation-harness 0.4.13's own requests, against its own logged answers.

Needs a Hugging Face directory of SmolLM2-135M-Instruct in STILLMARK_SMOLLM2 (benchmarks/evaluation.md says how).
"""

import json
import os

import pytest
from tests.paths import SHARED

from stillmark.backends.protocol import Sampling
from stillmark.backends.transformers import load_backend

MODEL = os.environ.get("STILLMARK_SMOLLM2", "/tmp/smollm2/hf")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(SHARED is None, reason="the shared notes are not here"),
    pytest.mark.skipif(not os.path.isdir(MODEL), reason="STILLMARK_SMOLLM2 names no directory"),
]


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (SHARED / "peers/lmeval" / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def backend():
    return load_backend(MODEL)


@pytest.mark.parametrize("name", ["mc_text", "mc_letter"])
def test_multiple_choice(backend, name):
    requests = lines(f"requests/{name}.jsonl")[:80]
    logged = [
        answer[0] for sample in lines(f"reference/{name}.bs1.t1.samples.jsonl") for answer in sample["resps"]
    ]
    pairs = [(request["context"], request["continuation"]) for request in requests]
    for request, (prompt, continuation) in zip(requests, backend.codec.encode_pairs(pairs), strict=True):
        assert (list(prompt), list(continuation)) == (request["ctx_ids"], request["cont_ids"])
    for result, (loglikelihood, is_greedy) in zip(backend.loglikelihood(pairs), logged[:80], strict=True):
        assert result.loglikelihood == pytest.approx(float(loglikelihood), abs=1e-3)
        assert str(result.is_greedy) == str(is_greedy)


def test_generation(backend):
    requests = lines("requests/gsm8k_local.jsonl")[:6]
    logged = {
        sample["doc_id"]: sample["resps"][0][0] for sample in lines("reference/gsm8k.bs1.t1.samples.jsonl")
    }
    sampling = Sampling(max_new_tokens=64, stop=tuple(requests[0]["gen_kwargs"]["until"]))
    replies = backend.generate([request["context"] for request in requests], sampling)
    assert [reply.text for [reply] in replies] == [logged[request["doc_id"]] for request in requests]
