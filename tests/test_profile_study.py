"""A study with `profile:` from end to end, through the command line: records, conclusion, choice."""

import json
from pathlib import Path

import pytest
import yaml
from tests.conftest import run_stillmark
from tests.text_models import write_documents, write_given_model, write_held_out

from stillmark.plan import Plan
from stillmark.records import Store
from stillmark.study import Study

pytestmark = pytest.mark.slow
QUESTIONS = {
    "name": "profiled", "seeds": [0], "threads": 1, "max_new_tokens": 12,
    "tasks": {"shuffled": {"kind": "shuffled_objects", "objects": 3, "min_swaps": 0, "max_swaps": 1,
                           "test_samples": 8, "validation_samples": 4}},
    "models": {"small": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}},
    "arms": {"vanilla": {"kind": "vanilla", "model": "small", "quantise": ["F32", "Q8_0"], "recipe": {
        "text": "answers", "train_flops": 2e8, "learning_rate": 5e-3, "batch_samples": 8, "checkpoints": 1}}},
    "profile": {"memory_caps": ["2M"], "budget_seconds": 1.0},
}  # fmt: skip


def run(folder: Path, study: dict) -> tuple[Store, Plan]:
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    done = run_stillmark(
        "run", folder / "study.yaml", "--out", folder / "run", "--workers", "1", timeout=1500
    )
    assert done.returncode == 0, done.stderr
    store = Store.open(folder / "run")
    return store, Plan(Study.model_validate(store.study()[1]))


def test_a_study_of_questions_measures_its_arm_at_its_own_lengths(tmp_path):
    store, plan = run(tmp_path, QUESTIONS)
    assert not list((tmp_path / "run" / "profiles").glob("*"))
    records = store.profiles(plan.profile_key)
    samples = store.samples(plan.jobs[plan.profile_key].needs[1])
    free = {
        r.metric: r
        for r in records
        if r.engine == "transformers" and json.loads(r.setting)["memory_cap_bytes"] is None
    }
    setting = json.loads(free["end_to_end_seconds"].setting)
    assert setting["prompt_tokens"] == round(sum(s.prompt_tokens for s in samples) / len(samples))
    assert setting["new_tokens"] == max(2, round(sum(s.generated_tokens for s in samples) / len(samples)))
    assert free["end_to_end_seconds"].value > free["ttft_seconds"].value > 0
    formats = {(r.engine, r.format) for r in records}
    assert formats == {("transformers", "float32"), ("llamacpp", "F32"), ("llamacpp", "Q8_0")}
    capped = [r for r in records if json.loads(r.setting)["memory_cap_bytes"] is not None]
    assert {(r.value, r.verdict) for r in capped} == {(None, "does not fit")}
    # llama.cpp writes what transformers writes where nothing is rounded, and each format has its own replies
    replies = {
        name: [
            (s.item_id, s.response, s.generated_tokens)
            for s in store.samples(plan.evaluation_keys[name, 0, 0])
        ]
        for name in ("vanilla", "vanilla-F32", "vanilla-Q8_0")
    }
    assert replies["vanilla-F32"] == replies["vanilla"]
    assert len(replies["vanilla-Q8_0"]) == 8
    conclusion = json.loads((tmp_path / "run" / "conclusion.json").read_text())
    flops = {arm["arm"]: arm["flops"] for arm in conclusion["arms"]}
    assert flops["vanilla-Q8_0"] == flops["vanilla"]
    differences = {row["arm"]: row["accuracy"] for row in conclusion["quantised"]}
    assert differences["vanilla-F32"]["value"] == 0
    assert {(row["arm"], row["engine"], row["format"]) for row in conclusion["choose"]} == {
        ("vanilla", "transformers", "float32"), ("vanilla-F32", "llamacpp", "F32"), ("vanilla-Q8_0", "llamacpp", "Q8_0"),
    }  # fmt: skip
    assert all(row["accuracy"] is not None for row in conclusion["choose"])
    chosen = run_stillmark("choose", tmp_path / "run", "--this-machine", "--memory", "1K", "--json")
    choice = json.loads(chosen.stdout)
    assert choice["best"] is None
    assert "has 9.54e-07 GiB" in choice["rows"][0]["reason"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'id="table-profiles"' in page
    assert 'id="table-quantised"' in page
    again = run_stillmark("run", tmp_path / "study.yaml", "--out", tmp_path / "run")
    assert "nothing to run" in again.stderr


def test_a_text_study_measures_formats_of_llamacpp(tmp_path):
    pytest.importorskip("xllamacpp")
    text, _ = write_documents(tmp_path)
    study = {
        "name": "formats", "seeds": [0], "threads": 1,
        "tasks": {"pages": {"kind": "text", "context_tokens": 32, "test_sequences": 2,
                            "train": [{"file": str(text)}], "test": [{"file": str(write_held_out(tmp_path))}]}},
        "models": {"given": {"checkpoint": str(write_given_model(tmp_path / "given"))}},
        "arms": {"given": {"kind": "teacher", "model": "given", "quantise": ["F32", "Q8_0"]}},
        "profile": {"prompt_tokens": 8, "new_tokens": 4,
                    "budget_seconds": 1.0},
    }  # fmt: skip
    store, plan = run(tmp_path, study)
    records = store.profiles(plan.profile_key)
    sizes = {r.format: r.value for r in records if r.engine == "llamacpp" and r.metric == "file_bytes"}
    assert sizes["Q8_0"] < sizes["F32"]
    assert all(r.value > 0 for r in records if r.metric == "end_to_end_seconds")
    conclusion = json.loads((tmp_path / "run" / "conclusion.json").read_text())
    assert {(row["arm"], row["engine"], row["format"]) for row in conclusion["choose"]} == {
        ("given", "transformers", "float32"), ("given-F32", "llamacpp", "F32"), ("given-Q8_0", "llamacpp", "Q8_0"),
    }  # fmt: skip
    bits = {arm["arm"]: arm["scores"]["bits_per_byte"]["value"] for arm in conclusion["arms"]}
    assert bits["given-F32"] == pytest.approx(bits["given"], abs=2e-3)
    assert bits["given-Q8_0"] != bits["given-F32"]
    assert {row["arm"] for row in conclusion["quantised"]} == {"given-F32", "given-Q8_0"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert 'id="table-profiles"' in page
    assert 'id="table-quantised"' in page
    archive = tmp_path / "formats.zip"
    assert run_stillmark("disclose", tmp_path / "run", "--out", archive).returncode == 0
    verified = run_stillmark("verify", archive)
    assert verified.returncode == 0, verified.stdout + verified.stderr
