"""How far a machine's pace moved between sessions: what is kept of it, and the intervals that it widens."""

import json

import pytest
from tests.profiling.scripted import QUIET, ScriptedEngine

from stillmark.analysis.intervals import Interval
from stillmark.profiling import pace, procedure
from stillmark.profiling.constraints import Constraints
from stillmark.profiling.journal import Journal
from stillmark.profiling.pace import PaceProbe, PaceRange, keep, machine_of, pace_range
from stillmark.profiling.procedure import profile
from stillmark.profiling.quantiles import median_interval
from stillmark.profiling.session import Arm, Rules
from stillmark.profiling.summary import summarise
from stillmark.profiling.workload import EngineSpec, Workload

WORKLOAD = Workload(prompt_tokens=8, new_tokens=11)


@pytest.fixture(autouse=True)
def own_history(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLMARK_CACHE", str(tmp_path))
    monkeypatch.setattr(procedure, "noise", lambda rules: QUIET)
    monkeypatch.setattr(procedure.power, "idle_watts", lambda device: None)
    monkeypatch.setattr(procedure.machine, "foreign_cores", lambda before, after, own: 0.0)
    return tmp_path / "paces.jsonl"


class ScriptedProbe:
    def __init__(self, seconds: float) -> None:
        self.threads, self.taken, self._seconds = 2, [], seconds

    def take(self) -> None:
        self.taken.append(self._seconds)

    def complete(self) -> None:
        self.taken += [self._seconds] * (pace.MIN_PROBES - len(self.taken))

    def close(self) -> None:
        pass


def session(pace_seconds: float, tpots: list[float], journal: Journal | None = None, **options: object):
    arm = Arm(spec=EngineSpec(engine="fake", model="a", threads=2, options=options), name="a")
    seen = profile([arm], [WORKLOAD], Rules(), journal=journal, open_engine=lambda spec, limits: ScriptedEngine(tpots),
                   open_probe=lambda threads: ScriptedProbe(pace_seconds))  # fmt: skip
    return summarise(seen, {})[0]


def overlap(one, other) -> bool:
    return one.low <= other.high and other.low <= one.high


@pytest.mark.parametrize("slowdown", [1.3, 1 / 1.3])
def test_two_sessions_of_one_study_agree_when_the_machine_is_slower_in_one(slowdown):
    spread = [0.100, 0.101, 0.099, 0.102, 0.098, 0.100, 0.101, 0.099]
    first = session(0.1, spread)
    second = session(0.1 * slowdown, [value * slowdown for value in spread])
    assert (first.status, second.status) == ("VALID", "VALID"), (first.reasons, second.reasons)
    for name in ("tpot_seconds", "decode_tokens_per_second"):
        alone = median_interval(second.samples[name])
        assert not overlap(first.figures[name], alone), "or this test would show nothing"
        assert overlap(first.figures[name], second.figures[name])
        assert second.figures[name].value == alone.value, "the value itself stays as measured"


def test_a_first_session_knows_of_no_other():
    found = session(0.1, [0.3, 0.301, 0.299, 0.3, 0.302, 0.3, 0.3])
    alone = median_interval(found.samples["tpot_seconds"])
    figure = found.figures["tpot_seconds"]
    assert (figure.low, figure.high) == (alone.low, alone.high)
    assert found.pace.earlier_seconds == ()


def test_a_gpus_times_do_not_go_with_the_processors_pace():
    session(0.1, [0.3])
    found = session(0.2, [0.3], device="cuda")
    assert found.pace is None
    assert found.figures["tpot_seconds"].high == pytest.approx(0.3)


def test_a_session_beside_a_busy_neighbour_is_not_kept(monkeypatch, own_history):
    monkeypatch.setattr(procedure.machine, "foreign_cores", lambda before, after, own: 64.0)
    assert session(0.5, [0.3]).status == "INVALID"
    assert not own_history.exists()


def test_cores_of_the_users_choice_and_a_resumed_profile_are_of_their_repetitions_alone(tmp_path):
    session(0.1, [0.1])
    pinned = Arm(spec=EngineSpec(engine="fake", model="a", threads=2), constraints=Constraints(cores=(0,)))
    assert pinned.paced_threads is None
    for expected in (PaceRange, type(None)):  # the second goes on with the first's repetitions
        found = session(0.2, [0.1], journal=Journal(tmp_path / "journal.jsonl"))
        assert isinstance(found.pace, expected)


def test_widening_is_that_of_the_extreme_paces():
    """By hand: this session took 2, others 1 and 5: half to 2.5 times the time, 0.4 to twice the rate."""
    found = PaceRange(threads=2, seconds=2.0, num_probes=3, earlier_seconds=(1.0, 5.0))
    interval = Interval(value=10.0, low=8.0, high=12.0, confidence=0.95, method="")
    assert found.widened(interval, is_rate=False) == (4.0, 30.0)
    assert found.widened(interval, is_rate=True) == pytest.approx((3.2, 24.0))


def test_only_sessions_of_this_machine_at_as_many_threads_count(own_history):
    for threads, seconds in ((2, 1.0), (1, 9.0), (2, 3.0)):
        keep(PaceRange(threads=threads, seconds=seconds, num_probes=5, earlier_seconds=()), "2026-11-27")
    other = json.loads(own_history.read_text().split("\n")[1]) | {"machine": ["elsewhere"], "seconds": 7.0}
    with own_history.open("a") as file:
        wrong = [
            json.dumps(other | {"machine": machine_of(2), "seconds": bad})
            for bad in (0.0, -1.0, float("nan"), "1", 1)
        ]
        file.write("\n".join([json.dumps(other), "nonsense", *wrong, '{"machine": ["cut in ha']))
    with own_history.open("ab") as file:
        file.write(b"\xff")
    keep(PaceRange(threads=2, seconds=4.0, num_probes=5, earlier_seconds=()), "2026-11-28")
    assert pace_range(2, [2.0, 2.0, 2.0]).earlier_seconds == (1.0, 3.0, 4.0), "also what follows a cut line"
    assert pace_range(2, [2.0, 2.0]) is None, "two probes say too little"


def test_a_home_that_cannot_be_written_to_keeps_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("where the folder should be")
    monkeypatch.setenv("STILLMARK_CACHE", str(tmp_path / "file"))
    keep(PaceRange(threads=2, seconds=1.0, num_probes=5, earlier_seconds=()), "2026-11-27")
    assert pace_range(2, [2.0] * 3).earlier_seconds == ()


def test_a_real_probe_takes_a_tenth_of_the_time_at_most():
    now = iter([0.0, 1.0, 5.0, 10.0, 11.0])  # 1 s from 0 on: nothing before 10
    probe = PaceProbe(1, clock=lambda: next(now))
    try:
        probe.take()
        probe.take()
        assert len(probe.taken) == 1
        probe.take()
        assert len(probe.taken) == 2
        assert all(seconds > 0 for seconds in probe.taken)
    finally:
        probe.close()
    assert probe._process.returncode == 0


def test_a_probe_that_died_leaves_the_pace_unknown():
    probe = PaceProbe(1)
    probe._process.kill()
    probe._process.wait()
    probe.take()
    probe.complete()
    probe.close()
    assert pace_range(1, probe.taken) is None


def test_a_short_session_has_its_pace_too():
    probe = PaceProbe(1)
    probe.take()
    probe.complete()
    probe.close()
    assert pace_range(1, probe.taken).num_probes == pace.MIN_PROBES
