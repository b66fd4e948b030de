"""What `stillmark distill` hands out of a study that is done, and how it refuses what cannot be."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.conftest import run_stillmark
from tests.text_models import write_documents, write_given_model
from transformers import Gemma2Config, Gemma2ForCausalLM

from stillmark.analysis.lineage import Lineage
from stillmark.distilled import budgeted_study, distil, write_student
from stillmark.errors import UserError
from stillmark.plan import Plan
from stillmark.profiling.convert_hf import require_convertible
from stillmark.records import Store
from stillmark.stages.train import STATE_FILE, text_source
from stillmark.study.distill import DistillRequest


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> DistillRequest:
    folder = tmp_path_factory.mktemp("given")
    _, pairs = write_documents(folder)
    return DistillRequest(
        teacher=str(write_given_model(folder / "given")), num_hidden_layers=2, data=(str(pairs),), prompt="question",
        response="answers", batch_samples=4, context_tokens=32, held_out_share=0.2, threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def done(request_: DistillRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done")
    distil(request_, epochs=1, out=out)
    return out


def final_weights(out: Path) -> Path:
    store = Store.open(out)
    (key,) = (job.key for job in store.jobs() if job.stage == "train")
    return out / store.checkpoints(key)[-1].path / "model.safetensors"


def test_the_folder_is_replaced_whole(done: Path, request_: DistillRequest, tmp_path: Path):
    """No file of another model stays in it, and weights in it are the recorded ones."""
    out = shutil.copytree(done, tmp_path / "out")
    folder = write_student(request_, out, write_gguf=True)
    assert {path.name for path in folder.iterdir()} >= {"student.gguf", "README.md", "tokenizer.json"}
    (folder / "model.safetensors").write_bytes(b"damaged")
    write_student(request_, out, write_gguf=False)
    assert not (folder / "student.gguf").exists()
    assert load_file(folder / "model.safetensors").keys() == load_file(final_weights(out)).keys()
    assert not (out / "model.partial").exists()


def test_damaged_weights_are_never_handed_out(done: Path, request_: DistillRequest, tmp_path: Path):
    out = shutil.copytree(done, tmp_path / "out")
    before = (out / "model" / "model.safetensors").read_bytes()
    content = bytearray(final_weights(out).read_bytes())
    content[-50] ^= 0x40  # it still loads
    final_weights(out).write_bytes(content)
    with pytest.raises(UserError, match="is not the file that was recorded"):
        distil(request_, epochs=1, out=out)
    assert (out / "model" / "model.safetensors").read_bytes() == before


def test_what_a_damaged_file_says_helps(done: Path, request_: DistillRequest, tmp_path: Path):
    """Deleted as it says, it is made again by the same command, to the same bytes, and nothing else is done again."""
    out = shutil.copytree(done, tmp_path / "out")
    whole = final_weights(out).read_bytes()
    counts = recorded(out)
    final_weights(out).write_bytes(whole[:-1] + b"x")
    with pytest.raises(UserError, match="delete ") as error:
        distil(request_, epochs=1, out=out)
    shutil.rmtree(re.search(r"delete (\S+)\.", str(error.value))[1])
    distil(request_, epochs=1, out=out)
    assert final_weights(out).read_bytes() == whole
    assert recorded(out) == counts


@pytest.mark.parametrize("kind", ["state", "chunk", "judge"])
def test_a_killed_run_whose_files_are_damaged_goes_on_when_they_are_deleted(
    request_: DistillRequest, tmp_path: Path, kind: str
):
    """As its hint says: a training's state, captured logits, the judge's states."""
    cached = replace(request_, logit_cache_k=8, learning_rate=1e-3)
    distil(cached, epochs=1, out=tmp_path / "whole")
    out = shutil.copytree(tmp_path / "whole", tmp_path / "out")
    store = Store.open(out)
    with store.connection:  # as a kill after the first checkpoint leaves it
        (key,) = (job.key for job in store.jobs() if job.stage == "train")
        last = store.checkpoints(key)[-1].index
        for table in ("ledger", "checkpoints"):
            store.connection.execute(f'DELETE FROM {table} WHERE job_key = ? AND "index" > 0', (key,))
        store.connection.execute("UPDATE jobs SET finished_at = NULL WHERE stage IN ('train', 'evaluate')")
        store.connection.execute("DELETE FROM text_scores")
        store.connection.execute("DELETE FROM ledger WHERE part = 'evaluate'")
    store.close()
    assert last == 2
    path = {
        "state": out / "models" / key / f"0-{STATE_FILE}",
        "chunk": next(out.glob("captures/*/chunk-000000.safetensors")),
        "judge": next(out.glob("captures/*/hidden_states.safetensors")),
    }[kind]
    path.write_bytes(path.read_bytes()[:-1] + b"x" if path.exists() else b"x")
    with pytest.raises(UserError) as error:
        distil(cached, epochs=1, out=out)
    named = Path(re.search(r"delete (\S+)\.", str(error.value))[1]) if kind == "chunk" else path
    shutil.rmtree(named) if named.is_dir() else named.unlink()
    distil(cached, epochs=1, out=out)
    assert recorded(out) == recorded(tmp_path / "whole")
    assert final_weights(out).read_bytes() == final_weights(tmp_path / "whole").read_bytes()


def recorded(out: Path) -> list:
    """What a run's records count: no times."""
    store = Store.open(out)
    try:
        return [
            (job.key, [(e.part, e.index, e.flops, e.tokens) for e in store.ledger(job.key)],
             [(row.index, row.step, row.sha256) for row in store.checkpoints(job.key)],
             [(score.index, score.nats) for score in store.text_scores(job.key)])
            for job in store.jobs() if job.finished_at
        ]  # fmt: skip
    finally:
        store.close()


def test_too_few_steps_are_refused_with_options_that_help(request_: DistillRequest):
    with pytest.raises(UserError, match="at least 4 are needed") as error:
        budgeted_study(replace(request_, batch_samples=32), epochs=1)
    assert "--batch" in str(error.value)
    assert "first_checkpoint" not in str(error.value)
    epochs = float(str(error.value).split("--epochs ")[1].split()[0])
    Plan(budgeted_study(replace(request_, batch_samples=32), epochs=epochs))
    with pytest.raises(UserError, match="at least 4"):
        budgeted_study(replace(request_, batch_samples=32), epochs=0.98 * epochs)


@pytest.mark.parametrize("epochs", [1, 2.5])
@pytest.mark.parametrize("method", ["sft", "on_policy"])
def test_an_epoch_is_every_sequence_once_whatever_their_lengths(
    request_: DistillRequest, tmp_path: Path, method: str, epochs: float
):
    """To the end of the last step; on-policy, every prompt once, which pages of text do not have."""
    pages, _ = write_documents(tmp_path)
    held_out = tmp_path / "other.txt"
    held_out.write_text("Nothing of this is anywhere else.\n" * 4)
    changed = replace(
        request_, method=method, data=(*request_.data, str(pages)), test=(str(held_out),), held_out_share=0.0
    )
    distil(changed, epochs=epochs, out=tmp_path / "out")
    store = Store.open(tmp_path / "out")
    plan = Lineage(store).plan
    text = plan.study.tasks["data"].resolved
    assert 0 < text.prompted_sequences < text.train_sequences
    sequences = text.train_sequences if method == "sft" else text.prompted_sequences
    last = store.checkpoints(plan.train_keys["student", 0])[-1]
    assert last.samples_seen == 4 * math.ceil(math.ceil(epochs * sequences) / 4)
    store.close()


def test_the_card_says_how_near_the_cache_was(request_: DistillRequest, tmp_path: Path):
    """A cache of every token is the live teacher to its own rounding, and one of four is not."""
    found = {}
    for k in (4, 300):
        folder = distil(replace(request_, logit_cache_k=k), epochs=1, out=tmp_path / str(k))
        text = (folder / "README.md").read_text().split("## The logit cache that it learnt from")[1]
        numbers = [float(word) for word in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)?", text)]
        found[k] = dict(zip(("bytes", "positions", "kept", "least", "storing", "live", "cached", "cosine"), numbers,
                            strict=False))  # fmt: skip
    assert found[300]["bytes"] > found[4]["bytes"] > 8
    assert found[300]["kept"] == 100 > found[4]["kept"]
    assert found[300]["cached"] == pytest.approx(found[300]["live"], rel=1e-2)
    assert found[4]["cached"] < found[4]["live"]  # buckets hide a part
    assert found[300]["cosine"] > found[4]["cosine"]
    shutil.rmtree(tmp_path / "4" / "captures")  # to make room: nothing is done again, and it is said
    before = recorded(tmp_path / "4")
    card = distil(replace(request_, logit_cache_k=4), epochs=1, out=tmp_path / "4") / "README.md"
    assert "How near it was to its teacher is unknown: " in card.read_text()
    assert "base_model" not in card.read_text()  # its teacher is a folder here, which is no name on the hub
    assert recorded(tmp_path / "4") == before


def test_a_student_of_a_family_that_is_not_converted_is_refused_before_it_is_trained(
    request_: DistillRequest, tmp_path: Path
):
    folder = shutil.copytree(request_.teacher, tmp_path / "scaled")
    config = json.loads((folder / "config.json").read_text())
    config["rope_parameters"] |= {"rope_type": "linear", "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config))
    changed = replace(request_, teacher=str(folder))
    with pytest.raises(UserError, match=r"--gguf: the student: rope scaling .* is not converted to GGUF"):
        distil(changed, epochs=1, out=tmp_path / "out", write_gguf=True)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="model_type `gpt2` is not converted to GGUF"):
        require_convertible({"model_type": "gpt2"}, "--gguf: the student")


def test_a_teacher_that_cannot_be_pruned_is_refused_before_anything_runs(
    request_: DistillRequest, tmp_path: Path
):
    """Gemma 2 has the sizes of a Llama in its config, and norms that a Llama lacks."""
    folder = shutil.copytree(request_.teacher, tmp_path / "gemma")
    sizes = json.loads((folder / "config.json").read_text())
    sizes = {name: sizes[name] for name in sizes if name not in ("architectures", "model_type")}
    Gemma2ForCausalLM(Gemma2Config(**sizes | {"head_dim": 8})).save_pretrained(folder)
    changed = replace(request_, teacher=str(folder), student=None, num_hidden_layers=2)
    with pytest.raises(
        UserError, match=r"models\.student: Gemma2ForCausalLM cannot be pruned: it has post_feedforward"
    ):
        distil(changed, epochs=1, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_control_of_a_student_that_replies_reads_the_same_samples_in_the_same_order(
    request_: DistillRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Prompts alone can be replied to: the control has no page of text either, which would move all others."""
    pages, _ = write_documents(tmp_path)
    changed = replace(request_, method="on_policy", data=(*request_.data, str(pages)), control="steps")
    plan = Plan(budgeted_study(changed, epochs=1))
    store = Store.create(tmp_path / "records.sqlite")
    read = {
        arm: text_source(plan.jobs[plan.train_keys[arm, 0]], plan, store, None).rows(range(12))
        for arm in ("student", "student-control")
    }
    assert read["student"] == read["student-control"]
    store.close()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"held_out_share": 1.0}, "--held-out: should be less than 1"),
        ({"held_out_share": 1 - 1e-9}, "change --held-out, or put the held-out documents in a file of their own: --test FILE"),
        ({"learning_rate": 0.0}, "--learning-rate: should be greater than 0"),
        ({"control": "foo"}, "--control: `foo` is not possible"),
        ({"track": ("foo",)}, "--track: `foo` is not possible"),
        ({"method": "on_policy", "logit_cache_k": 4}, "--method: the student's replies are new"),
        ({"num_hidden_layers": 9}, "--layers is 9, but teacher has 3"),
        ({"hidden_size": 33}, "--hidden is 33, but teacher has 32"),
        ({"hidden_size": 30}, "The hidden size (30) is not a multiple of the number of attention heads (4)"),
        ({"logit_cache_k": 100_000}, "--logit-cache is 100,000, but there are 300 tokens"),
        ({"logit_cache_k": 4, "method": "sft"}, "--logit-cache"),
        ({"context_tokens": 4096}, "--context is 4,096, but --teacher has 2,048 positions"),
        ({"prompt": None, "response": None}, "name the field with --text, or with --prompt and --response"),
    ],
)  # fmt: skip
def test_faults_are_said_in_the_commands_own_options(
    request_: DistillRequest, tmp_path: Path, changes: dict, said: str
):
    with pytest.raises(UserError) as error:
        distil(replace(request_, **changes), epochs=1, out=tmp_path)
    assert said in str(error.value)


def test_a_refusal_in_a_worker_leaves_nothing_behind(request_: DistillRequest, tmp_path: Path):
    """Its stderr, which is no terminal: lines of progress and the refusal, and no word on leaked semaphores."""
    refused = run_stillmark(
        "distill", "--teacher", request_.teacher, "--layers", "2", "--learning-rate", "1e30", "--data", request_.data[0], "--prompt", "question",
        "--response", "answers", "--batch", "4", "--context", "32", "--threads", "1", "--out", tmp_path / "out",
    )  # fmt: skip
    assert refused.returncode == 2
    *progress, error, _, hint = refused.stderr.strip().splitlines()
    assert error.startswith("error: training diverged: the loss is nan at step")
    assert hint == "hint: lower --learning-rate"
    assert all(
        re.fullmatch(r"0:00:\d\d \d/7 jobs: \w+ \w+ seed 0 (begins|is done)", line) for line in progress
    )
    assert progress


def test_epochs_are_a_number_above_0(request_: DistillRequest, tmp_path: Path):
    for epochs in (0, float("inf"), float("nan")):
        with pytest.raises(UserError, match="--epochs is"):
            distil(request_, epochs=epochs, out=tmp_path)
