"""What stands behind a model, each job once, against sums of the records done by hand."""

import pytest
import yaml
from tests.report.fabricate import SMALL, fabricated_store

from stillmark.analysis.conclusion import conclude_study
from stillmark.analysis.lineage import Lineage
from stillmark.analysis.worth import parts_of
from stillmark.compute.ledger import Boundary

BEHIND = {  # the jobs of these arms, whole or shared by k students; `own` is the arm's own training and its traces
    "self": {"teacher": {"teacher": "k", "start": "k"}, "base": {"teacher": "1", "start": "1"},
             "everything": {"teacher": "1", "start": "1"}},
    "sibling": {"teacher": {"teacher": "k", "start": "k"}, "base": {"start": "1"},
                "everything": {"teacher": "k", "start": "1"}},
    "apart": {"teacher": {"teacher": "k", "start": "k"}, "base": {"vanilla-small": "1"},
              "everything": {"teacher": "k", "start": "k", "vanilla-small": "1"}},
}  # fmt: skip


@pytest.fixture(scope="module", params=[1, 5])
def store(request, tmp_path_factory):
    study = yaml.safe_load(SMALL)
    recipe = study["arms"]["logits-small"]["recipe"]
    solutions = study["arms"]["teacher"]["recipe"]
    study["arms"]["start"] = {"kind": "vanilla", "model": "large", "recipe": solutions}
    study["arms"]["teacher"]["base"] = "start"
    distilled = {"kind": "distilled", "model": "large", "teacher": "teacher", "recipe": recipe}
    study["arms"] |= {"self": distilled | {"base": "teacher"}, "sibling": distilled | {"base": "start"},
                      "apart": distilled | {"model": "small", "base": "vanilla-small"}}  # fmt: skip
    study["conclusion"] |= {"students": [*BEHIND], "students_per_teacher": request.param}
    return fabricated_store(tmp_path_factory.mktemp("lineage"), yaml.safe_dump(study))


@pytest.mark.parametrize("arm", BEHIND)
def test_a_job_behind_both_teacher_and_base_counts_once(store, arm):
    lineage = Lineage(store)

    def took(name):
        return sum(entry.flops for entry in store.ledger(lineage.plan.train_keys[name, 1]))

    own = took(arm) + sum(entry.flops for entry in store.ledger(lineage.plan.generate_keys[arm, 1]))
    cost = lineage.checkpoint_costs(arm, 1)[-1]
    for boundary, jobs in BEHIND[arm].items():
        by_hand = sum(
            took(name) / (lineage.students_per_teacher if share == "k" else 1) for name, share in jobs.items()
        )
        assert cost.within(Boundary(boundary)).flops == pytest.approx(own + by_hand)


def test_the_sliders_sums_are_those_of_the_boundaries_and_no_k_divides_the_base(store):
    conclusion = conclude_study(store)
    k = conclusion["students_per_teacher"]
    for row in conclusion["arms"]:
        parts = parts_of(conclusion, row, "flops")
        for boundary, flops in row["flops"].items():
            assert parts.making(Boundary(boundary), k) == pytest.approx(flops)
        assert parts.making(Boundary.EVERYTHING, 1e12) == pytest.approx(row["flops"]["base"])
    for comparison in conclusion["comparisons"]:
        table = {row["boundary"]: row for row in comparison["ratios"] if row["at"] == "final"}
        rows = {(row["students"], row["boundary"]): row for row in comparison["by_students"]}
        for boundary in ("teacher", "everything"):
            assert rows[k, boundary]["student_flops"] == pytest.approx(table[boundary]["student_flops"])
        near = rows[1000, "everything"]["student_flops"]
        assert near == pytest.approx(table["base"]["student_flops"], rel=0.05)
