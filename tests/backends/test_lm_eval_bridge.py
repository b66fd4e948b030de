"""Our engine as lm-evaluation-harness's model, against its own Hugging Face model on the same requests."""

import json
import random

import pytest

pytest.importorskip("lm_eval", reason="needs the extra `lm-eval`")

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tests.backends.tiny import char_tokenizer, tiny_model

from stillmark.backends.lm_eval_bridge import StillmarkLM, run_lm_eval
from stillmark.backends.transformers import TransformersBackend
from stillmark.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")  # lm-eval's and datasets' own


@pytest.fixture(scope="module")
def both():
    model, tokenizer = tiny_model("llama"), char_tokenizer()
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, device="cpu")
    return theirs, StillmarkLM(TransformersBackend(model, tokenizer))


def text(seed: int, length: int) -> str:
    rng = random.Random(seed)
    return "".join(rng.choice("abcdefghijklm nopq") for _ in range(length)).strip() or "a"


def instances(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=a, idx=i) for i, a in enumerate(arguments)]


def test_loglikelihoods_are_theirs(both):
    theirs, ours = both
    prefix = text(0, 40)
    requests = instances(
        "loglikelihood",
        [(prefix + text(i, 9), " " + text(100 + i * 5 + k, 6)) for i in range(4) for k in range(3)]
        + [("", "abc"), ("ends in a space ", "abc"), (text(7, 400), " abc")],
    )
    for (a, is_greedy), (b, is_greedy_theirs) in zip(
        ours.loglikelihood(requests), theirs.loglikelihood(requests, disable_tqdm=True), strict=True
    ):
        assert a == pytest.approx(b, abs=1e-3)
        assert is_greedy == is_greedy_theirs


def test_rolling_loglikelihoods_are_theirs(both):
    theirs, ours = both
    requests = instances("loglikelihood_rolling", [(text(1, 30),), (text(2, 600),), ("ab",)])
    expected = theirs.loglikelihood_rolling(requests, disable_tqdm=True)
    assert ours.loglikelihood_rolling(requests) == pytest.approx(expected, rel=1e-4)


def test_generated_texts_are_theirs(both):
    theirs, ours = both
    settings = {"until": ["q", "\n"], "do_sample": False, "max_gen_toks": 12}
    other = {"until": [], "max_gen_toks": 5}
    requests = instances(
        "generate_until", [(text(i, 5 + 60 * i), settings if i % 3 else other) for i in range(6)]
    )
    assert ours.generate_until(requests) == theirs.generate_until(requests, disable_tqdm=True)


def test_repeats_are_different_samples_and_unknown_settings_are_refused(both):
    _, ours = both
    sampled = {"until": [], "do_sample": True, "temperature": 1.0, "max_gen_toks": 10}
    texts = ours.generate_until(instances("generate_until", [("abc", sampled)] * 4))
    assert len(set(texts)) == 4
    with pytest.raises(UserError, match="repetition_penalty"):
        ours.generate_until(instances("generate_until", [("abc", {"until": [], "repetition_penalty": 1.3})]))


def test_a_task_of_theirs_runs_through_our_engine(both, tmp_path):
    theirs, ours = both
    lines = [
        {"q": text(i, 12), "choices": [text(50 + i, 4), text(90 + i, 5)], "gold": i % 2} for i in range(6)
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "tiny.yaml").write_text(
        f"""task: tiny
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/data.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
    )
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    settings = {"task_manager": manager, "bootstrap_iters": 0}
    expected = lm_eval.simple_evaluate(model=theirs, tasks=["tiny"], **settings)
    results = run_lm_eval(ours.backend, ["tiny"], **settings)
    assert results["results"]["tiny"]["acc,none"] == expected["results"]["tiny"]["acc,none"]
