"""What is disclosed can be worked out again; of many ways to change it, each is found, also when hashes are made anew."""

import hashlib
import json
import sqlite3
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
from tests.paths import ROOT
from tests.report.fabricate import SMALL, fabricated_store

from stillmark.analysis.lineage import Lineage
from stillmark.errors import UserError
from stillmark.records import Store
from stillmark.report.disclosure import MANIFEST, disclose, file_entry
from stillmark.report.record_checks import checked, token_fault, with_hidden
from stillmark.report.verify import check_manifest, compared, read_archive, verify


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    fabricated_store(folder, SMALL).close()
    made = disclose(folder, tmp_path_factory.mktemp("out") / "tiny.zip")
    assert [check.name for check in made.checks if check.outcome != "agrees"] == []
    return made


def test_what_is_disclosed_agrees(archive):
    checks = verify(archive.path, archive.digest)
    assert {check.name: check.details for check in checks if check.outcome != "agrees"} == {}
    names = " ".join(check.name for check in checks)
    for part in (
        "hashes",
        "digest",
        "scored again",
        "tokens",
        "FLOPs",
        "conclusion",
        "tables",
        "page",
        "picture",
    ):
        assert part in names


def test_the_same_records_give_the_same_archive(archive, tmp_path):
    with zipfile.ZipFile(archive.path) as given:
        given.extract("records.sqlite", tmp_path)
    again = disclose(tmp_path, tmp_path / "again.zip")
    assert json.loads(zipfile.ZipFile(again.path).read("conclusion.json")) == json.loads(
        zipfile.ZipFile(archive.path).read("conclusion.json")
    )


def tampered(archive, target, change, *, is_rehashed):
    """The archive with its files changed, and with a manifest that fits if asked for."""
    with zipfile.ZipFile(archive.path) as given:
        files = {name: given.read(name) for name in given.namelist()}
    change(files)
    if is_rehashed:
        manifest = json.loads(files[MANIFEST])
        manifest["files"] = {name: file_entry(content) for name, content in files.items() if name != MANIFEST}
        files[MANIFEST] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return target


def in_records(statement, *values):
    """A change of rows that any SQLite client could make."""

    def change(files):
        connection = sqlite3.connect(":memory:")
        connection.deserialize(files["records.sqlite"])
        number = connection.execute(statement, values).rowcount
        assert number == 1, f"{number} rows changed"
        connection.commit()
        files["records.sqlite"] = connection.serialize()

    return change


def replaced(name, old, new):
    def change(files):
        assert old in files[name], (name, old)
        files[name] = files[name].replace(old, new, 1)

    return change


def number_of_page(files):
    text = files["report.html"].decode()
    at = text.index("<b>", text.index('id="table-grid"'))
    files["report.html"] = (text[:at] + text[at:].replace("more than", "more or less", 1)).encode()


ONE_SAMPLE = "(job_key, item_id, repeat) = (SELECT s.job_key, s.item_id, s.repeat FROM samples s JOIN jobs j ON j.key = s.job_key WHERE j.stage = ? AND s.outcome = ? ORDER BY 1, 2 LIMIT 1)"
ONE_ENTRY = '(job_key, part, "index") = (SELECT job_key, part, "index" FROM ledger WHERE part = ? ORDER BY 1, 3 LIMIT 1)'

TAMPERING = {  # samples and ledger have no rowid: rows are named by their keys
    "reply": in_records(f"UPDATE samples SET response = response || ' red' WHERE {ONE_SAMPLE}", "evaluate", "correct"),
    "outcome": in_records(f"UPDATE samples SET outcome = 'correct' WHERE {ONE_SAMPLE}", "evaluate", "wrong"),
    "trace's outcome": in_records(f"UPDATE samples SET outcome = 'correct' WHERE {ONE_SAMPLE}", "generate", "wrong"),
    "tokens": in_records(f"UPDATE samples SET generated_tokens = generated_tokens - 1 WHERE {ONE_SAMPLE}", "evaluate", "correct"),
    "tokens, raised": in_records(f"UPDATE samples SET generated_tokens = generated_tokens + 1 WHERE {ONE_SAMPLE}", "evaluate", "correct"),
    "tokens of a trace, raised": in_records(f"UPDATE samples SET generated_tokens = generated_tokens + 1 WHERE {ONE_SAMPLE}", "generate", "wrong"),
    "FLOPs of an answer": in_records(f"UPDATE ledger SET flops = flops - 1 WHERE {ONE_ENTRY}", "evaluate"),
    "FLOPs of training": in_records(f"UPDATE ledger SET flops = flops / 2 WHERE {ONE_ENTRY}", "train"),
    "FLOPs of the teacher": in_records(f"UPDATE ledger SET flops = flops / 2 WHERE {ONE_ENTRY}", "teacher_forward"),
    "seconds": in_records(f"UPDATE ledger SET cpu_seconds = cpu_seconds / 2 WHERE {ONE_ENTRY}", "train"),
    "a sample left out": in_records(f"DELETE FROM samples WHERE {ONE_SAMPLE}", "evaluate", "wrong"),
    "an item's target": in_records("UPDATE items SET target = 'red ' || target WHERE item_id = (SELECT min(item_id) FROM items)"),
    "a checkpoint": in_records("UPDATE checkpoints SET train_flops = train_flops - 1 WHERE (job_key, \"index\") = (SELECT job_key, \"index\" FROM checkpoints LIMIT 1)"),
    "a job's inputs": in_records("UPDATE jobs SET inputs = replace(inputs, '\"learning_rate\":', '\"learning_rate\":1') WHERE key = (SELECT key FROM jobs WHERE stage = 'train' LIMIT 1)"),
    "a job unfinished": in_records("UPDATE jobs SET finished_at = NULL WHERE key = (SELECT key FROM jobs WHERE stage = 'evaluate' LIMIT 1)"),
    "the study in the records": in_records("UPDATE study SET text = replace(text, 'students_per_teacher: 1', 'students_per_teacher: 9') || '  # '"),
    "the machine": in_records("UPDATE study SET provenance = replace(provenance, 'Linux', 'Linus')"),
    "study.yaml": replaced("study.yaml", b"seeds: [0, 1]", b"seeds: [0, 2]"),
    "a number of the conclusion": replaced("conclusion.json", b'"final_accuracy": 0.9', b'"final_accuracy": 0.8'),
    "a table": replaced("tables/arms.csv", b"0.", b"1."),
    "a Markdown table": replaced("tables/ratios.md", b"x", b"0x"),
    "the page": number_of_page,
    "the picture": replaced("curve.svg", b"accuracy", b"Accuracy"),
    "a file missing": lambda files: files.pop("report.html"),
    "records that are none": lambda files: files.update({"records.sqlite": b"nothing"}),
}  # fmt: skip


QUICK = (
    "reply",
    "tokens",
    "tokens, raised",
    "outcome",
    "FLOPs of training",
    "a number of the conclusion",
    "the page",
)
NAMES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TAMPERING]


@pytest.mark.parametrize("name", NAMES)
def test_tampering_is_found(archive, tmp_path, name):
    changed = tampered(archive, tmp_path / "t.zip", TAMPERING[name], is_rehashed=False)
    with zipfile.ZipFile(changed) as opened:
        files, faults = read_archive(opened, changed)
    assert check_manifest(files, faults).outcome == "differs", "the hash"
    rehashed = tampered(archive, tmp_path / "r.zip", TAMPERING[name], is_rehashed=True)
    checks = verify(rehashed, archive.digest)
    assert checks[1].outcome == "differs", "the digest"
    found = [check for check in (checks[0], *checks[2:]) if check.outcome == "differs"]
    assert found, f"{name}: with hashes made anew, nothing differs"
    assert all(check.details for check in found)


def test_a_file_more_is_found(archive, tmp_path):
    changed = tampered(
        archive, tmp_path / "t.zip", lambda files: files.update({"more.txt": b"x"}), is_rehashed=False
    )
    assert verify(changed)[0].details == ("more.txt is not in the manifest",)


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil", "a/../../b"])
def test_entries_outside_the_archive_are_refused_and_never_written(archive, tmp_path, name):
    changed = tampered(
        archive, tmp_path / "t.zip", lambda files: files.update({name: b"x"}), is_rehashed=False
    )
    checks = verify(changed)
    assert any("no plain file" in detail for detail in checks[0].details)


def test_what_is_no_disclosure_is_an_error(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="not an archive"):
        verify(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as made:
        made.writestr("x", "y")
    with pytest.raises(UserError, match="holds no manifest"):
        verify(tmp_path / "b.zip")


def test_last_digits_of_another_machine_are_the_same():
    assert list(compared({"a": [1.0, 2]}, {"a": [1.0 + 1e-14, 2]}, "")) == []
    assert list(compared({"a": 1.0}, {"a": 1.001}, "")) == ["a: given 1.0, worked out 1.001"]
    assert list(compared({"a": 3}, {"a": 4}, "")) == ["a: given '3', worked out '4'"]
    assert list(compared({}, {"a": None}, "")) == ["a: given 'missing', worked out 'None'"]


def test_command_line_and_no_torch(archive, tmp_path):
    code = (
        "import sys; from stillmark.cli import main\n"
        f"sys.argv = ['stillmark', 'verify', {str(archive.path)!r}, '--digest', {archive.digest!r}]\n"
        "try: main()\nfinally: assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "replies, scored again" in done.stdout
    changed = tampered(archive, tmp_path / "t.zip", TAMPERING["outcome"], is_rehashed=True)
    code = code.replace(str(archive.path), str(changed))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "recorded correct, scored again wrong" in done.stdout


def test_digest_is_of_the_manifest(archive):
    with zipfile.ZipFile(archive.path) as given:
        assert hashlib.sha256(given.read(MANIFEST)).hexdigest() == archive.digest


def test_a_reply_may_hold_special_tokens_that_its_text_leaves_out(archive, tmp_path):
    """As the quickstart's teacher wrote a <bos> in 3 of 11,806 sampled traces: the count is right, the text is shorter."""
    with zipfile.ZipFile(archive.path) as given:
        given.extract("records.sqlite", tmp_path)
    store = Store.open(tmp_path)
    lineage = Lineage(store)
    job = next(job for job in lineage.plan.jobs.values() if job.stage == "generate")
    sample = store.samples(job.key)[0]
    item = store.items()[sample.item_id]
    more = replace(sample, generated_tokens=sample.generated_tokens + 1)
    fewer = replace(sample, generated_tokens=sample.generated_tokens - 1)
    assert token_fault(job, item, sample) == token_fault(job, item, more) == []
    assert "counted" in token_fault(job, item, fewer)[0]
    (note,) = with_hidden(checked("tokens", 9, []), 3).details
    assert "3 hold special tokens" in note
