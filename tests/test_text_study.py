"""A text study from end to end on a model of seconds: records against transformers' own loss and a dense KL."""

import json
import sqlite3
from pathlib import Path

import pytest
import torch
import yaml
from tests.conftest import run_stillmark
from tests.text_models import PARAGRAPHS, write_documents, write_given_model, write_held_out

from stillmark.compute.flops import forward_flops, train_flops
from stillmark.compute.shapes import shape_from_config
from stillmark.distill.corpus import bytes_before, read_corpus
from stillmark.errors import UserError
from stillmark.models.build import load_model
from stillmark.models.given import given_tokenizer
from stillmark.plan import Plan
from stillmark.records import Store
from stillmark.resolve import resolve
from stillmark.study import Study, study_from_text
from stillmark.study.schema import Text

RECIPE = {
    "text": "corpus", "loss": "forward_kl", "train_flops": 6e7, "learning_rate": 1e-3, "batch_samples": 2,
    "warmup_samples": 4, "checkpoints": 2, "first_checkpoint": 0.5,
}  # fmt: skip


def study_of(folder: Path) -> dict:
    text, pairs = write_documents(folder)
    return {
        "name": "text", "seeds": [0, 1], "threads": 1,
        "tasks": {"mixed": {
            "kind": "text", "context_tokens": 32, "test_sequences": 6,
            "train": [{"file": str(text)}, {"file": str(pairs), "prompt": "question", "response": "answers",
                                            "held_out_share": 0.3}],
        }},
        "models": {
            "given": {"checkpoint": str(write_given_model(folder / "given"))},
            "small": {"pruned_from": "given", "num_hidden_layers": 2, "intermediate_size": 40,
                      "calibration_sequences": 4},
        },
        "arms": {
            "teacher": {"kind": "teacher", "model": "given"},
            "live": {"kind": "distilled", "model": "small", "teacher": "teacher", "base": "teacher", "recipe": RECIPE,
                     "control": {"match": "compute_with_teacher"}},
            "cached": {"kind": "distilled", "model": "small", "teacher": "teacher", "base": "teacher",
                       "recipe": {**RECIPE, "logit_cache": {"k": 300}}},
        },
        "conclusion": {"students": ["live", "cached"]},
    }  # fmt: skip


@pytest.fixture(scope="module")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_of(folder)))
    done = run_stillmark("run", folder / "study.yaml", "--out", folder / "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


def opened(folder: Path) -> tuple[Store, Plan]:
    store = Store.open(folder / "run")
    return store, Plan(Study.model_validate(store.study()[1]))


def test_surprise_and_kl_are_those_of_the_models_own_logits(text_run: Path):
    store, plan = opened(text_run)
    spec = plan.study.tasks["mixed"]
    assert isinstance(spec, Text)
    corpus = read_corpus(spec, given_tokenizer(str(text_run / "given")))
    models = {}
    for arm in ("teacher", "live"):
        last = store.checkpoints(plan.train_keys[arm, 1])[-1]
        models[arm] = load_model(store.folder / last.path, last.sha256)
    (job,) = [j for j in plan.jobs.values() if j.stage == "evaluate" and j.arm == "live" and j.seed == 1
              and j.checkpoint == 1]  # fmt: skip
    scores = store.text_scores(job.key)
    assert len(scores) == len(corpus.test) == 6
    for score, held_out in zip(scores, corpus.test, strict=True):
        ids = torch.tensor([held_out.sequence.token_ids])
        targets = torch.tensor(held_out.sequence.targets)
        with torch.no_grad():
            log_p, log_q = (
                models[arm](ids).logits[0].double().log_softmax(-1) for arm in ("live", "teacher")
            )
        keep = targets != -100
        nats = log_p[keep].gather(1, targets[keep, None]).sum()
        kl = (log_q[keep].exp() * (log_q[keep] - log_p[keep])).sum()
        assert score.nats == pytest.approx(float(nats), rel=1e-5)
        assert score.teacher_kl_nats == pytest.approx(float(kl), rel=1e-4, abs=1e-5)
        assert score.tokens == int(keep.sum())


def test_another_held_out_text_trains_nothing_again(text_run: Path):
    """What it touches is measured anew; the training text and all that was made of it is not."""
    raw = yaml.safe_load((text_run / "study.yaml").read_text())
    plans = []
    for test_sequences in (6, 5):
        raw["tasks"]["mixed"]["test_sequences"] = test_sequences
        plans.append(Plan(resolve(Study.model_validate(raw))))
    one, other = plans
    assert one.train_keys == other.train_keys
    assert one.capture_keys == other.capture_keys
    assert not set(one.evaluation_keys.values()) & set(other.evaluation_keys.values())
    raw["tasks"]["mixed"]["train"][0]["max_documents"] = 1
    raw["tasks"]["mixed"]["train"][1]["max_documents"] = 20
    changed = Plan(resolve(Study.model_validate(raw)))
    assert not {changed.train_keys["live", 0], changed.train_keys["cached", 0]} & set(one.train_keys.values())


def test_text_that_is_held_out_is_not_trained_on(text_run: Path, tmp_path: Path):
    """Whole texts as well as prompts: the same is dropped and counted, or, where it is all there is, refused."""
    raw = yaml.safe_load((text_run / "study.yaml").read_text())
    rows = [json.dumps({"text": text}) for text in PARAGRAPHS]
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text("\n".join(rows))
    test.write_text("\n".join(row.replace(" ", "  ") for row in rows[1:]))  # a near copy
    task = raw["tasks"]["mixed"]
    task |= {"train": [{"file": str(train)}], "test": [{"file": str(test)}], "context_tokens": 512}
    facts = resolve(Study.model_validate(raw)).tasks["mixed"].resolved
    assert (facts.train_sequences, facts.dropped_documents) == (1, len(PARAGRAPHS) - 1)
    test.write_text("\n".join(rows))
    with pytest.raises(UserError, match="4 of 4 documents were dropped"):
        resolve(Study.model_validate(raw))
    task["test"] = [{"file": f"{tmp_path}/./train.jsonl"}]
    with pytest.raises(UserError, match=r"tasks\.mixed\.test: .*train\.jsonl` is trained on too"):
        study_from_text(yaml.safe_dump(raw))


def test_the_teacher_has_no_distance_from_itself(text_run: Path):
    store, plan = opened(text_run)
    (job,) = [
        j for j in plan.jobs.values() if j.stage == "evaluate" and j.arm == "teacher"
    ]  # one for all seeds
    assert all(abs(score.teacher_kl_nats) < 1e-4 for score in store.text_scores(job.key))


def test_every_target_is_in_one_window_and_bytes_add_up(tmp_path: Path):
    text, _ = write_documents(tmp_path)
    tokenizer = given_tokenizer(str(write_given_model(tmp_path / "given")))
    other, files = write_held_out(tmp_path), {}
    for train, test in ((text, other), (other, text)):
        spec = Text.model_validate(
            {"kind": "text", "train": [{"file": str(train)}], "test": [{"file": str(test)}], "context_tokens": 16,
             "test_sequences": 10_000}
        )  # fmt: skip
        files[train] = read_corpus(spec, tokenizer)
    ids = tokenizer(text.read_text())["input_ids"]
    assert [t for window in files[text].train for t in window.targets] == [*ids[1:], tokenizer.eos_token_id]
    first = len(tokenizer.decode(ids[:1]).encode())
    assert sum(window.num_bytes for window in files[other].test) == len(text.read_bytes()) - first


def test_bytes_before_each_character():
    text = "aé—𝄞" + PARAGRAPHS[0]
    assert list(bytes_before(text)) == [len(text[:end].encode()) for end in range(len(text) + 1)]


def test_the_control_spends_what_student_and_teacher_did(text_run: Path):
    """To within one step, as counted."""
    store, plan = opened(text_run)

    def spent(arm: str, *parts: str) -> int:
        entries = store.ledger(plan.train_keys[arm, 0])
        return sum(entry.flops for entry in entries if entry.part in parts)

    shape, sample = plan.shape("live"), plan.sizes.sample("live")
    step = 2 * train_flops(shape, tokens=32, scored_tokens=32)  # at most
    both, control = spent("live", "train", "teacher_forward"), spent("live-control", "train")
    assert plan.study.arms["live-control"].recipe.train_flops == 6e7 + plan.sizes.teacher_forward_flops(
        "live"
    )
    assert 0 <= control - both < step
    assert sample.scored <= sample.read <= 32


def test_a_cache_of_every_token_trains_as_the_live_teacher_does(text_run: Path):
    store, plan = opened(text_run)
    losses = {arm: [c.loss for c in store.checkpoints(plan.train_keys[arm, 0])] for arm in ("live", "cached")}
    assert losses["cached"] == pytest.approx(losses["live"], rel=0.02)
    capture = plan.capture_keys["cached", 0]
    assert capture == plan.capture_keys["cached", 1]  # one for all seeds
    spec = plan.study.tasks["mixed"]
    corpus = read_corpus(spec, given_tokenizer(str(text_run / "given")))
    shape = shape_from_config(plan.config("teacher"))
    alone = sum(
        forward_flops(shape, tokens=len(s.token_ids), scored_tokens=s.num_loss_tokens) for s in corpus.train
    )
    assert alone <= sum(entry.flops for entry in store.ledger(capture)) < 1.5 * alone  # padding is run too


def test_a_second_run_does_nothing_and_changed_files_are_noticed(text_run: Path, tmp_path: Path):
    again = run_stillmark("run", text_run / "study.yaml", "--out", text_run / "run")
    assert "nothing to run" in again.stderr
    raw = yaml.safe_load((text_run / "study.yaml").read_text())
    raw["models"]["given"]["weights_sha256"] = "0" * 64
    (tmp_path / "pinned.yaml").write_text(yaml.safe_dump(raw))
    refused = run_stillmark("check", tmp_path / "pinned.yaml")
    assert refused.returncode == 2
    assert "models.given" in refused.stderr
    assert "pins" in refused.stderr


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("models.given.checkpoint", "./nowhere", "there is no such model"),
        ("tasks.mixed.train.0.file", "absent.txt", "no such file"),
        ("arms.live.recipe.text", "answers", "the study has text tasks"),
        ("arms.live.base", "cached", "must be an arm of the model `given`"),
        ("arms.cached.recipe.on_policy", {"fraction": 0.5}, "no cache can hold"),
        ("arms.live.recipe.beta", 0.3, "belongs to jsd"),
        ("arms.teacher.control", {"match": "tokens"}, "belongs to a distilled arm"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text_run: Path, path: str, value: object, said: str):
    done = run_stillmark("check", text_run / "study.yaml", "--set", f"{path}={json.dumps(value)}")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_student_with_another_vocabulary_is_refused(text_run: Path, tmp_path: Path):
    other = write_given_model(tmp_path / "other")
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    first, second = (next(token for token, place in vocabulary.items() if place == i) for i in (270, 271))
    vocabulary[first], vocabulary[second] = 271, 270
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = run_stillmark("distill", "--teacher", text_run / "given", "--student", other,
                         "--data", text_run / "pages.txt", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 2
    assert "has another vocabulary" in done.stderr


@pytest.mark.parametrize(
    ("files", "tested_on"),
    [
        ([], "pages.txt"),
        (["--data", "pairs.jsonl", "--prompt", "question", "--response", "answers", "--test", "test.txt"], "test.txt"),
    ],
)  # fmt: skip
def test_text_files_are_data_as_the_documented_commands_give_them(text_run: Path, tmp_path: Path, files: list[str],
                                                                  tested_on: str):  # fmt: skip
    """`--data pages.txt` alone, and beside JSONL with fields and a file to test on."""
    (text_run / "test.txt").write_text("Lighthouses warn of rocks; foghorns warn of lighthouses.\n")
    paths = [str(text_run / word) if word.endswith((".txt", ".jsonl")) else word for word in files]
    done = run_stillmark("distill", "--teacher", text_run / "given", "--student", write_given_model(tmp_path / "s", seed=1),
                         "--data", text_run / "pages.txt", *paths, "--method", "jsd", "--epochs", "2", "--context", "32",
                         "--batch", "2", "--threads", "1", "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    sources = sqlite3.connect(tmp_path / "out" / "records.sqlite").execute(
        "SELECT DISTINCT source FROM text_scores"
    )
    assert [source for (source,) in sources] == [tested_on]


@pytest.mark.parametrize("method", ["forward_kl", pytest.param("gkd", marks=pytest.mark.slow)])
def test_distil_hands_out_a_model_with_its_card(text_run: Path, tmp_path: Path, method: str):
    from transformers import AutoModelForCausalLM

    command = ["distill", "--teacher", text_run / "given", "--layers", "2", "--data", text_run / "pairs.jsonl",
               "--prompt", "question", "--response", "answers", "--context", "32", "--batch", "2", "--held-out", "0.2",
               "--control", "steps", "--method", method, "--gguf", "--threads", "1", "--out", tmp_path / "out"]  # fmt: skip
    done = run_stillmark(*command)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1])
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.num_hidden_layers == 2
    card = (folder / "README.md").read_text()
    store = sqlite3.connect(tmp_path / "out" / "records.sqlite")
    (trained,) = store.execute(
        "SELECT sum(flops) FROM ledger WHERE part IN ('train', 'prune', 'generate_student') AND job_key IN "
        "(SELECT job_key FROM ledger WHERE part = 'teacher_forward')"
    ).fetchone()
    assert f"| {trained:.4g} | counted |" in card
    assert "| everything: all of these | unknown |" in card
    steps = store.execute(
        "SELECT sum(flops) / sum(seconds * json_extract(provenance, '$.matmul_flops_per_second')) FROM ledger JOIN jobs "
        "ON job_key = key WHERE part IN ('train', 'teacher_forward', 'generate_student') AND job_key IN "
        "(SELECT job_key FROM ledger WHERE part = 'teacher_forward')"
    ).fetchone()[0]
    assert f"| {100 * steps:.1f}% |" in card
    assert done.stderr.count(f"MFU {100 * steps:.1f}% of ") >= 2  # as the training ended, and in the summary
    again = run_stillmark(*command)
    assert again.returncode == 0, again.stderr
