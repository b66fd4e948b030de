"""The rules, with an engine whose times are scripted: what ends a setting, and what makes it invalid."""

import pytest
from tests.profiling.scripted import QUIET, ScriptedEngine, steady_timeline

from stillmark.profiling import procedure
from stillmark.profiling.constraints import Constraints
from stillmark.profiling.journal import Journal
from stillmark.profiling.procedure import profile
from stillmark.profiling.remote import EngineFailedError
from stillmark.profiling.session import Arm, Rules
from stillmark.profiling.summary import as_dict, summarise
from stillmark.profiling.workload import Batch, EngineSpec, Workload

WORKLOAD = Workload(prompt_tokens=8, new_tokens=11)


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """No test waits for the machine to be quiet: others' load is 0 unless a test says otherwise."""
    monkeypatch.setattr(procedure, "noise", lambda rules: QUIET)
    monkeypatch.setattr(procedure.power, "idle_watts", lambda device: None)
    monkeypatch.setattr(procedure.machine, "foreign_cores", lambda before, after, own: 0.0)


def arm(name: str) -> Arm:
    return Arm(spec=EngineSpec(engine="fake", model=name), name=name)


def run(engines: dict[str, ScriptedEngine], rules: Rules | None = None, **options):
    session = profile([arm(name) for name in engines], [WORKLOAD], rules or Rules(),
                      open_engine=lambda spec, limits: engines[spec.model], **options)  # fmt: skip
    return session, {summary.arm: summary for summary in summarise(session, {})}


def test_a_steady_engine_ends_narrow_and_valid():
    engine = ScriptedEngine([0.3, 0.3])
    _, summaries = run({"a": engine})
    summary = summaries["a"]
    assert (summary.status, summary.ended_because, summary.reasons) == ("VALID", "narrow", ())
    assert summary.num_repetitions == 6
    assert summary.figures["tpot_seconds"].value == pytest.approx(0.3)
    assert summary.figures["ttft_seconds"].value == 0.5


def test_each_repetition_has_other_prompts_and_warmups_are_apart():
    engine = ScriptedEngine([0.09, 0.05, 0.03, 0.03])
    _, summaries = run({"a": engine})
    assert engine.variants == [-1, -2, -3, -4, 0, 1, 2, 3, 4, 5]
    assert summaries["a"].num_warmups == 4
    assert summaries["a"].figures["tpot_seconds"].high == pytest.approx(0.03)
    first, second = WORKLOAD.prompts(1000, 0), WORKLOAD.prompts(1000, 1)
    assert first != second
    assert first == WORKLOAD.prompts(1000, 0)


def test_warm_up_that_never_settles_is_invalid():
    engine = ScriptedEngine([0.3, 0.6] * 20)
    _, summaries = run({"a": engine})
    assert summaries["a"].status == "INVALID"
    assert any("not steady" in reason for reason in summaries["a"].reasons)


def test_a_wide_setting_runs_until_its_time_is_spent_and_keeps_outliers():
    tpots = [0.3, 0.3] + [0.3, 0.3, 0.3, 0.31, 0.29, 3.0, 0.31, 0.29] * 9
    _, summaries = run({"a": ScriptedEngine(tpots)}, Rules(budget_seconds=40))
    assert summaries["a"].ended_because == "out of time"
    assert max(summaries["a"].samples["tpot_seconds"]) == pytest.approx(3.0)
    assert summaries["a"].figures["tpot_seconds"].num_outliers >= 1
    assert summaries["a"].figures["tpot_seconds"].value < 0.32


def test_too_few_repetitions_is_invalid():
    _, summaries = run({"a": ScriptedEngine([2.0])}, Rules(budget_seconds=50))
    assert summaries["a"].status == "INVALID"
    assert any("6 needed" in reason for reason in summaries["a"].reasons)


def test_drift_is_noticed():
    tpots = [0.3, 0.3] + [0.3 * 1.04**i for i in range(40)]
    _, summaries = run({"a": ScriptedEngine(tpots)}, Rules(budget_seconds=60))
    assert any("drift" in reason for reason in summaries["a"].reasons)


def test_arms_are_interleaved_in_a_random_but_repeatable_order():
    orders = []
    for seed in (0, 0, 1):
        log: list[str] = []
        engines = {name: ScriptedEngine([0.3], log, name) for name in ("a", "b", "c")}
        run(engines, Rules(seed=seed))
        timed = [name for name in log if not name.startswith("close")][6:]  # two warm-ups each
        rounds = [tuple(timed[i : i + 3]) for i in range(0, len(timed), 3)]
        assert all(sorted(order) == ["a", "b", "c"] for order in rounds)
        assert len(set(rounds)) > 1
        orders.append(rounds)
    assert orders[0] == orders[1] != orders[2]


def test_a_busy_neighbour_makes_it_invalid(monkeypatch):
    monkeypatch.setattr(procedure.machine, "foreign_cores", lambda before, after, own: 1.0)
    _, summaries = run({"a": ScriptedEngine([0.3])})
    assert summaries["a"].status == "INVALID"
    assert any("others kept 1.00" in reason for reason in summaries["a"].reasons)


def test_an_engine_that_writes_less_is_not_faster():
    class Short(ScriptedEngine):
        def run(self, workload: Workload, variant: int) -> Batch:
            super().run(workload, variant)
            return Batch(timelines=(steady_timeline(Workload(prompt_tokens=8, new_tokens=5), 0.5, 0.3),))

    _, summaries = run({"a": Short([0.3])})
    assert any("other work" in reason for reason in summaries["a"].reasons)


def test_an_arm_that_dies_leaves_the_others_measured():
    class Dying(ScriptedEngine):
        def run(self, workload: Workload, variant: int) -> Batch:
            if variant == 2:
                raise EngineFailedError("gone")
            return super().run(workload, variant)

    _, summaries = run({"a": Dying([0.3]), "b": ScriptedEngine([0.3], name="b")})
    assert (summaries["a"].status, summaries["b"].status) == ("failed", "VALID")
    assert summaries["a"].reasons == ("gone",)


def test_a_stopped_profile_goes_on_where_it_was(tmp_path):
    class Stopped(ScriptedEngine):
        def run(self, workload: Workload, variant: int) -> Batch:
            if variant == 4:
                raise KeyboardInterrupt
            return super().run(workload, variant)

    path = tmp_path / "journal.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run({"a": Stopped([0.3])}, journal=Journal(path))
    with path.open("a") as file:
        file.write('{"key": "cut in ha')  # what a kill leaves
    engine = ScriptedEngine([0.3])
    _, summaries = run({"a": engine}, journal=Journal(path))
    assert summaries["a"].num_resumed == 4
    assert [variant for variant in engine.variants if variant >= 0] == [4, 5]
    again = ScriptedEngine([0.3])
    _, summaries = run({"a": again}, journal=Journal(path))
    assert summaries["a"].num_resumed == 6
    other = Arm(spec=EngineSpec(engine="fake", model="a"), constraints=Constraints(cores=(0,)), name="a")
    session = profile([other], [WORKLOAD], Rules(), journal=Journal(path),
                      open_engine=lambda spec, limits: ScriptedEngine([0.3]))  # fmt: skip
    assert session.settings[0].num_resumed == 0  # other limits are another sample


def test_answers_keep_their_own_length_and_all_is_json():
    import json

    session, _ = run({"a": ScriptedEngine([0.3])}, prompts=["one", "three"], max_new_tokens=7)
    assert [line.new_tokens for line in session.answers["a"]] == [7, 7]
    json.dumps(as_dict(session, summarise(session, {}), {}), allow_nan=False)
