"""A text study's report, its disclosure, and that what is changed in its records is found."""

import json
import math
import sqlite3
from pathlib import Path

import pytest
from tests.report.fabricate import entry
from tests.report.fabricate_text import SEQUENCES, STUDY, make, text_store

from stillmark.analysis.lineage import Lineage
from stillmark.records import Store
from stillmark.report.disclosure import disclose
from stillmark.report.model_card import model_card
from stillmark.report.record_checks import check_records, check_study
from stillmark.report.text_answer import chosen_pair, text_answer_of
from stillmark.report.text_figures import text_picture_files
from stillmark.report.text_page import text_page_html
from stillmark.report.text_tables import text_tables_of
from stillmark.report.verify import verify
from stillmark.report.write import conclude, conclusion_of, print_conclusion

GAIN = 0.06  # bits per byte, and nats a token of KL


def scores(job, index):
    """A student that is better by a constant, on sequences that differ."""
    _, scored, num_bytes, _ = SEQUENCES[index]
    hard = 0.02 * (index % 5)
    if job.arm == "teacher":
        return num_bytes * (1 + hard) * math.log(2), 0.0
    value = (
        2.5 - 0.3 * job.checkpoint - GAIN * (job.arm == "distilled") + 0.001 * ((index * 7 + job.seed) % 3)
    )
    return num_bytes * (value + hard) * math.log(2), scored * value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    text_store(path, scores).close()
    conclude(path, is_changed=True)
    return path


@pytest.fixture(scope="module")
def conclusion(folder):
    return json.loads((folder / "conclusion.json").read_text())


def test_all_files_are_written_and_the_conclusion_is_the_records(folder, conclusion):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "conclusion.json", "curve.svg", "curve.png", "curve.pdf"} <= names
    for table in ("arms", "sources", "differences", "along", "ratios", "matched", "gap", "curve", "ledger"):
        assert {f"tables/{table}.{ending}" for ending in ("csv", "md", "tex")} <= names
    assert conclusion == json.loads(json.dumps(conclusion_of(folder)))


def test_the_picture_names_every_arm(folder):
    svg = (folder / "curve.svg").read_text()
    for name in ("teacher", "distilled", "distilled-control"):
        assert f">{name}</text>" in svg


def test_page_says_the_answer_and_what_is_unknown(folder, conclusion):
    page = (folder / "report.html").read_text()
    answer = text_answer_of(conclusion)
    assert answer.verdict == "At equal compute, distilling predicts held-out text better than the control."
    assert answer.verdict in page
    assert "the making of its teacher (teacher) took is not recorded" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert all(f">{name}</small>" in page for name in ("teacher", "base", "everything"))
    assert "the same start for every seed" in page
    assert 'value="kl_per_token"' in page


def test_unknown_is_an_empty_field_and_the_word(conclusion):
    arms = next(table for table in text_tables_of(conclusion) if table.name == "arms")
    place = arms.to_csv().splitlines()[0].split(",").index("flops_everything")
    for cells in arms.rows:
        assert cells[place].value is None
        assert cells[place].text == "unknown"


def test_hostile_text_is_text(conclusion):
    bad = {**conclusion, "description": "</script><script>document.title=1</script>"}
    bad["tasks"] = json.loads(json.dumps(conclusion["tasks"]).replace("book.txt", "<img src=x>"))
    page = text_page_html(bad)
    assert "<img src=x>" not in page
    assert "<script>document.title" not in page


def shifted(conclusion, surprise, distance):
    """The conclusion with these intervals at equal compute."""
    made = json.loads(json.dumps(conclusion))
    row = made["pairs"][0]["along"]["generation"][-1]
    for measure, (low, high) in (("bits_per_byte", surprise), ("kl_per_token", distance)):
        row[measure].update(value=(low + high) / 2, low=low, high=high)
    return made


@pytest.mark.parametrize(
    ("surprise", "distance", "tone", "word"),
    [
        ((-0.2, -0.1), (-0.2, -0.1), "good", "better"),
        ((0.1, 0.2), (-0.2, -0.1), "mixed", "nearer to the teacher but"),
        ((0.1, 0.2), (0.1, 0.2), "bad", "worse"),
        ((-0.1, 0.1), (-0.2, -0.1), "mixed", "no gain on held-out text"),
        ((-0.1, 0.1), (-0.1, 0.1), "none", "no gain from distilling is shown"),
    ],
)
def test_verdict_follows_the_intervals(conclusion, surprise, distance, tone, word):
    answer = text_answer_of(shifted(conclusion, surprise, distance))
    assert answer.tone == tone
    assert word in answer.verdict


def test_a_bad_match_of_compute_is_said(conclusion):
    """As by a control whose last of few steps went far past its mark."""
    made = json.loads(json.dumps(conclusion))
    made["pairs"][0]["spent"]["other_over_student"] = 1.2
    assert "NOT well matched" in " ".join(text_answer_of(made).details)
    made["pairs"][0]["spent"]["other_over_student"] = 1.004
    assert "matched within 0.4%" in " ".join(text_answer_of(made).details)


def test_without_a_pair_there_is_no_answer(conclusion):
    assert chosen_pair({**conclusion, "pairs": []}) is None
    assert text_answer_of({**conclusion, "pairs": []}).verdict == "No answer yet."
    assert text_page_html({**conclusion, "pairs": []})


def test_a_students_own_replies_are_in_its_part_of_the_card_by_number_and_by_name(tmp_path):
    def make_on_policy(job, plan, store, scores):
        make(job, plan, store, scores)
        store.add(entry(job, "generate_student", 0, 777_000_000, 256))

    text_store(tmp_path, scores, more={"train": make_on_policy}).close()
    store = Store.open(tmp_path)
    lineage = Lineage(store)
    parts = ("train", "prune", "generate_student")
    own = sum(row.flops for row in store.ledger(lineage.plan.train_keys["distilled", 0]) if row.part in parts)
    rows = [row for row in model_card(lineage, "distilled").splitlines() if row.startswith("| student: ")]
    store.close()
    assert len(rows) == 2  # as a part, and as a boundary
    for row in rows:
        assert f"| {own:.4g} |" in row
        assert "pruning" in row
        assert "replies" in row


def test_nothing_recorded_is_said(tmp_path):
    text_store(tmp_path, scores, leave_out=100).close()
    conclusion = conclude(tmp_path, is_changed=True)
    assert conclusion["arms"] == []
    assert text_picture_files(conclusion) == {}
    assert "Not finished." in (tmp_path / "report.html").read_text()


def test_terminal_shows_known_ratios_alone(conclusion, capsys):
    print_conclusion(conclusion)
    shown = capsys.readouterr().out
    assert "bits per byte" in shown
    assert "generation" in shown
    assert "everything" not in shown.split("Compute ratio")[1].split("At equal compute")[0]


def test_what_is_disclosed_agrees_but_for_what_needs_the_model(folder, tmp_path):
    made = disclose(folder, tmp_path / "text.zip")
    checks = verify(made.path, made.digest)
    assert [check for check in checks if check.outcome == "differs"] == []
    open_ones = [check for check in checks if check.outcome == "not checked"]
    assert all(check.is_expected for check in open_ones)
    assert any("scored again" in check.name for check in open_ones)
    assert {"tables, made again", "the page, made again", "the picture, made again"} <= {
        c.name for c in checks
    }


CHANGES = {
    "a likelihood above 1": "UPDATE text_scores SET nats = 1 WHERE \"index\" = 3",
    "a negative divergence": "UPDATE text_scores SET teacher_kl_nats = -5 WHERE \"index\" = 3",
    "a sequence gone": "DELETE FROM text_scores WHERE \"index\" = 23",
    "bytes of one model's sequence": "UPDATE text_scores SET num_bytes = num_bytes + 1 WHERE this_one",
    "another source": "UPDATE text_scores SET source = 'easy.txt' WHERE this_one",
    "tokens": "UPDATE text_scores SET tokens = tokens - 1 WHERE this_one",
    "FLOPs of a sequence": "UPDATE text_scores SET flops = flops - 1000 WHERE this_one",
    "FLOPs of evaluation": "UPDATE ledger SET flops = flops - 1 WHERE part = 'evaluate'",
    "FLOPs of the judge": "UPDATE ledger SET flops = flops - 1 WHERE part = 'capture'",
    "FLOPs of training": "UPDATE ledger SET flops = flops - 1 WHERE part = 'train' AND \"index\" = 2",
    "FLOPs of a live teacher, which its control may spend": "UPDATE ledger SET flops = flops + 9 WHERE part = 'teacher_forward'",
    "the resolved text": "UPDATE study SET resolved = replace(resolved, '\"test_sequences\": 24, \"test_tokens', "
    "'\"test_sequences\": 23, \"test_tokens')",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_tampering_is_found(folder, tmp_path, name):
    (tmp_path / "records.sqlite").write_bytes((folder / "records.sqlite").read_bytes())
    change(tmp_path / "records.sqlite", CHANGES[name])
    store = Store.open(tmp_path)
    try:
        assert any(check.outcome == "differs" for check in check_records(store))
    finally:
        store.close()


def change(path: Path, statement: str) -> None:
    """As any SQLite client could; `this_one` stands for the first sequence of one evaluation."""
    connection = sqlite3.connect(path)
    key = connection.execute("SELECT key FROM jobs WHERE stage = 'evaluate' ORDER BY key").fetchone()[0]
    statement = statement.replace("this_one", f"job_key = '{key}' AND \"index\" = 0")
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()


def test_untouched_records_agree(folder):
    store = Store.open(folder)
    try:
        assert [check for check in check_records(store) if check.outcome == "differs"] == []
    finally:
        store.close()


def test_values_that_were_set_over_the_study_are_part_of_it(tmp_path):
    store = text_store(tmp_path, scores, STUDY.replace("[0, 1, 2]", "[0, 1]"))
    _, resolved, plan, provenance = store.study()
    for text, outcome in ((STUDY + "\n# --set seeds=[0, 1]", "agrees"), (STUDY, "differs")):
        store.put_study(text, resolved, plan, provenance)
        assert check_study(store).outcome == outcome
    store.close()


def test_a_changed_likelihood_changes_the_conclusion(folder, tmp_path):
    """One that is possible by itself is found by the conclusion alone."""
    (tmp_path / "records.sqlite").write_bytes((folder / "records.sqlite").read_bytes())
    change(tmp_path / "records.sqlite", 'UPDATE text_scores SET nats = nats * 0.9 WHERE "index" = 3')
    assert conclusion_of(tmp_path)["arms"] != conclusion_of(folder)["arms"]


def test_study_without_a_control_has_no_pairs(tmp_path):
    text = STUDY.replace("    control: {match: compute_with_teacher}\n", "")
    text_store(tmp_path, scores, text).close()
    conclusion = conclude(tmp_path, is_changed=True)
    assert conclusion["pairs"] == []
    assert "against a control" in text_answer_of(conclusion).sentence
