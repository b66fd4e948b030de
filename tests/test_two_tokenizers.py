"""A text study whose teacher has another tokenizer: the same pieces of text, positions compared, FLOPs, and checks."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tests.benchmark_tasks import write_tasks
from tests.conftest import run_stillmark
from tests.test_text_study import RECIPE, opened
from tests.text_models import write_documents, write_given_model
from tokenizers import processors
from transformers import AutoTokenizer

from stillmark.compute.flops import forward_flops
from stillmark.distill.corpus import read_corpus
from stillmark.distill.objective_uld import TeacherReading, aligned_row
from stillmark.distill.text import IGNORED, Row
from stillmark.models.build import load_model
from stillmark.study.schema import Text

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def write_teacher(folder: Path) -> Path:
    """Larger pieces of words than the student's, and a chat template."""
    write_given_model(folder, seed=1, hidden_size=48, vocab_size=340)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    write_teacher(folder / "teacher")
    write_given_model(folder / "student")
    write_documents(folder)
    return folder


def text_of(folder: Path, **more: object) -> dict:
    pairs = {
        "file": str(folder / "pairs.jsonl"),
        "prompt": "question",
        "response": "answers",
        "held_out_share": 0.3,
    }
    files = [{"file": str(folder / "pages.txt")}, pairs]
    return {"kind": "text", "train": files, "context_tokens": 32, "test_sequences": 6} | more


def tokenizers(folder: Path) -> list:
    return [AutoTokenizer.from_pretrained(folder / side) for side in ("student", "teacher")]


def begin_texts(tokenizer) -> None:
    """From here on the tokenizer puts `<bos>` before a text, as Llama's does."""
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    template = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    tokenizer.backend_tokenizer.post_processor = template


@pytest.mark.parametrize("context_tokens", [32, 8])  # 8 cuts characters and prompts
@pytest.mark.parametrize("begins", [[], [0], [1], [0, 1]], ids=["none", "first", "second", "both"])
def test_two_tokenizers_are_held_to_the_same_pieces(folder: Path, begins: list[int], context_tokens: int):
    student, teacher = both = tokenizers(folder)
    for side in begins:
        begin_texts(both[side])
    test = [{"file": str(folder / "pages.txt")}]
    spec = Text.model_validate(
        text_of(folder, test=test, test_sequences=10_000, context_tokens=context_tokens)
    )
    own = read_corpus(spec, student)
    assert len({held_out.source for held_out in own.test}) == 2
    for cut, again in zip(own.test, read_corpus(spec, teacher, cut_by=student).test, strict=True):
        first, second = (
            tokenizer.decode([t for t in side.sequence.targets if t != IGNORED], skip_special_tokens=True)
            for tokenizer, side in ((student, cut), (teacher, again))
        )
        if (
            "\ufffd" in first
        ):  # begins or ends with a character's first bytes: which of both pieces tells it is left open
            continue
        assert first == second
        assert [len(first.encode()), len(second.encode())] == [cut.num_bytes, again.num_bytes]


@pytest.mark.parametrize("context_tokens", [32, 26, 8])  # 26 cuts a character, 8 the prompts
def test_positions_compared_are_those_at_which_both_have_read_the_same(folder: Path, context_tokens: int):
    student, teacher = tokenizers(folder)
    spec = Text.model_validate(text_of(folder, context_tokens=context_tokens))
    corpus = read_corpus(spec, student, with_texts=True)
    reading, num_compared = TeacherReading(teacher), 0
    for sequence, text in zip(corpus.train, corpus.train_texts, strict=True):
        pairs, teacher_ids = aligned_row(Row(sequence=sequence, text=text), reading)
        begins = before = 0
        if text.turns:
            begins = len(student(text.turns[0][1])["input_ids"])
            before = len(reading.chat.prompt_ids(text.turns))
            assert teacher.decode(teacher_ids[:before]) == f"[user] {text.turns[0][1]}[assistant] "
        for mine, theirs in pairs:
            read = student.decode(sequence.token_ids[begins : mine + 1])
            read = read.lstrip("\ufffd")  # the last bytes of a character that the window before it began
            assert read == teacher.decode(teacher_ids[before : theirs + 1])
        num_compared += len(pairs)
    assert num_compared > 0.4 * sum(sequence.num_loss_tokens for sequence in corpus.train)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    write_tasks(folder)
    recipe = {**RECIPE, "loss": "uld", "cross_entropy_weight": 0.5}
    study = {
        "name": "two", "seeds": [0], "threads": 1, "tasks": {"mixed": text_of(folder)},
        "models": {"large": {"checkpoint": str(folder / "teacher")}, "small": {"checkpoint": str(folder / "student")}},
        "arms": {
            "teacher": {"kind": "teacher", "model": "large"},
            "student": {"kind": "distilled", "model": "small", "teacher": "teacher", "recipe": recipe,
                        "control": {"match": "compute_with_teacher"}},
        },
        "conclusion": {"students": ["student"]},
        "benchmarks": {"tasks": [str(folder / "sums.yaml@loglikelihood"), str(folder / "words.yaml")], "limit": 6,
                       "max_new_tokens": 4},
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    done = run_stillmark("run", folder / "study.yaml", "--out", folder / "run", "--workers", "1")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_plan_predicts_what_both_were_counted_to_take(run: Path):
    """But for the rows' padding, which is run and so counted."""
    store, plan = opened(run)
    key, sizes = plan.train_keys["student", 0], plan.sizes
    samples, seen = store.checkpoints(key)[-1].samples_seen, sizes.compared_sample("student")
    one = forward_flops(plan.shape("teacher"), tokens=seen.read, scored_tokens=seen.scored)
    predicted = {
        "train": (sizes.sample_flops("student"), sizes.sample("student").read),
        "teacher_forward": (one, seen.read),
    }
    for part, (flops, tokens) in predicted.items():
        entries = [entry for entry in store.ledger(key) if entry.part == part]
        read, run_through = (
            sum(getattr(entry, name) for entry in entries) for name in ("tokens", "positions")
        )
        assert read == pytest.approx(samples * tokens, rel=0.05)
        counted = sum(entry.flops for entry in entries)
        assert 0.95 * samples * flops < counted < 1.05 * samples * flops * run_through / read


def test_all_have_bits_per_byte_and_only_the_teacher_a_divergence(run: Path):
    store, plan = opened(run)
    bytes_of = {}
    for arm in ("teacher", "student", "student-control"):
        rows = store.text_scores(plan.evaluation_keys[arm, 0, 0])
        bytes_of[arm] = [row.num_bytes for row in rows]
        assert all((row.teacher_kl_nats is None) == (arm != "teacher") for row in rows)
    assert bytes_of["teacher"] == bytes_of["student"] == bytes_of["student-control"]


@pytest.mark.parametrize("arm", ["teacher", "student", "student-control"])
def test_each_is_asked_benchmarks_with_its_own_tokenizer_and_template(run: Path, arm: str):
    store, plan = opened(run)
    record = store.checkpoints(plan.train_keys[arm, 0])[-1]
    model, tokenizer = (
        load_model(store.folder / record.path, record.sha256),
        tokenizers(run)[arm == "teacher"],
    )
    found = plan.study.benchmarks.read_by(plan.study.reader_of(arm)).resolved
    for name in (str(run / "sums.yaml@loglikelihood"), str(run / "words.yaml")):
        key = plan.benchmark_keys[arm, 0, name, plan.study.arms[arm].checkpoints - 1]
        samples, details, lengths = store.samples(key), store.details(key), []
        assert len(samples) == found[name].num_items
        for sample in samples:
            detail = details[sample.item_id, sample.repeat]
            sent = store.prompt(detail.prompt_sha256)
            ids = tokenizer(sent, add_special_tokens=False)["input_ids"]
            lengths.append(len(ids))
            if "sums" in name:
                whole = tokenizer(f"{sent} A", add_special_tokens=False)["input_ids"]
                with torch.no_grad():
                    logp = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
                own = sum(float(logp[place - 1, whole[place]]) for place in range(len(ids), len(whole)))
                assert json.loads(detail.nats)[0] == pytest.approx(own, abs=1e-4)
            else:
                assert sent.startswith("[user] ") == sent.endswith("[assistant] ") == (arm == "teacher")
                with torch.no_grad():
                    written = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=4)[
                        0, len(ids) :
                    ]
                assert sample.response == tokenizer.decode(written, skip_special_tokens=True)
        assert found[name].prompt_tokens == round(sum(lengths) / len(lengths))


def test_the_run_is_reported_disclosed_and_verified(run: Path):
    for command in (["report", run / "run"], ["disclose", run / "run", "--out", run / "two.zip"]):
        done = run_stillmark(*command)
        assert done.returncode == 0, done.stderr
    page = (run / "run" / "report.html").read_text()
    assert [f'value="{measure}"' in page for measure in ("bits_per_byte", "kl_per_token")] == [True, False]
    done = run_stillmark("verify", run / "two.zip")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_teacher_with_another_tokenizer_by_the_command_line(folder: Path, tmp_path: Path):
    def distil(method: str):
        return run_stillmark("distill", "--teacher", folder / "teacher", "--student", folder / "student", "--data",
                             folder / "pairs.jsonl", "--prompt", "question", "--response", "answers", "--context", "32",
                             "--held-out", "0.3", "--method", method, "--out", tmp_path / method)  # fmt: skip

    refused = distil("forward_kl")
    assert refused.returncode == 2
    assert "has another vocabulary" in refused.stderr
    assert "--method uld" in refused.stderr
    done = distil("uld")
    assert done.returncode == 0, done.stderr
    for command in (
        ["disclose", tmp_path / "uld", "--out", tmp_path / "uld.zip"],
        ["verify", tmp_path / "uld.zip"],
    ):
        checked = run_stillmark(*command)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    config = json.loads((tmp_path / "uld" / "model" / "config.json").read_text())
    assert config["vocab_size"] == 300
