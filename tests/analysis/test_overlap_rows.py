"""Held-out items among the training questions of a question study: none by construction, and planted ones are found."""

import json
import sqlite3
from pathlib import Path

from tests.report.fabricate import SMALL, fabricated_store

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.overlap_rows import overlap_rows
from stillmark.records import Outcome, Store
from stillmark.report.page import page_html
from stillmark.stages.adopt import tokenizer_for
from stillmark.stages.train import text_source
from stillmark.tasks.task import held_out_prompts


def test_every_arm_is_looked_at_and_none_overlaps(tmp_path: Path):
    store = fabricated_store(tmp_path, SMALL)
    lineage = Lineage(store)
    task = lineage.plan.tasks["shuffled"]
    held_out = set(held_out_prompts(task))
    rows = {row["arm"]: row for row in overlap_rows(lineage, store.items())}
    assert rows.keys() == lineage.study.arms.keys()
    for arm, row in rows.items():
        assert (row["equal"], row["held_out_items"]) == (0, len(held_out))
        read = sum(store.checkpoints(lineage.plan.train_keys[arm, seed])[-1].samples_seen for seed in (0, 1))
        assert row["samples_read"] == read
        if row["text"] == "traces":
            accepted = {
                sample.item_id
                for seed in (0, 1)
                for sample in store.samples(lineage.plan.generate_keys[arm, seed])
                if sample.outcome is Outcome.CORRECT
            }
            assert row["questions_looked_at"] == len(accepted)
        else:
            first = {
                task.training_sample(seed, index).prompt
                for seed in (0, 1)
                for index in range(store.checkpoints(lineage.plan.train_keys[arm, seed])[-1].samples_seen)
            }
            assert not first & held_out
            assert 0 < row["questions_looked_at"] <= len(first)
    conclusion = json.loads(json.dumps(conclude_study(store)))
    assert "Overlap of training with held-out items: 0 equal" in page_html(conclusion)


def test_a_planted_item_is_counted_and_its_traces_are_not_learned_from(tmp_path: Path):
    store = fabricated_store(tmp_path, SMALL)
    lineage = Lineage(store)
    (job,) = (
        j
        for j in lineage.plan.jobs.values()
        if j.stage == "train" and j.arm == "traces-small" and j.seed == 0
    )
    planted = held_out_prompts(lineage.plan.tasks["shuffled"])[5]
    kept = text_source(job, lineage.plan, store, tokenizer_for(lineage.plan, job.arm))
    chosen = kept.pairs[0].prompt
    store.close()
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        connection.execute("UPDATE items SET prompt = ? WHERE prompt = ?", (planted.upper(), chosen))
    store = Store.open(tmp_path)
    rows = {row["arm"]: row["equal"] for row in overlap_rows(Lineage(store), store.items())}
    assert rows["traces-small"] == rows["logits-small"] == 1  # they read the same traces
    assert rows["vanilla-small"] == 0
    after = text_source(job, lineage.plan, store, tokenizer_for(lineage.plan, job.arm))
    assert len(after.pairs) == sum(pair.prompt != chosen for pair in kept.pairs) < len(kept.pairs)
