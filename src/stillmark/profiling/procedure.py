"""How arms are timed: by rules that are written down, with every repetition kept.

1. Noise check: who else uses the machine, before and after, and during every repetition.
2. Warm-up with the same work that is measured, until it is steady; the warm-up runs are kept apart.
3. Rounds: each round runs every unfinished setting once, in a random order (machines drift; what is measured
   together drifts together), until a setting's interval is narrow enough or its time is spent.
4. Nothing is removed: outliers are marked and count. Medians, with order-statistic intervals.
5. Beside the repetitions, the machine's pace: the intervals are widened by how far it moved from earlier sessions to
   this one (pace.py).
6. A setting that broke a rule is INVALID and says why (validity.py). One that needs more memory than it may
   have "does not fit": a result.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial

from stillmark.compute.energy import EnergyMeter
from stillmark.compute.hardware import Device
from stillmark.errors import UserError
from stillmark.profiling import machine, metrics, power
from stillmark.profiling.constraints import Constraints
from stillmark.profiling.journal import Journal
from stillmark.profiling.pace import PaceProbe, keep, pace_range
from stillmark.profiling.quantiles import median_interval
from stillmark.profiling.remote import DoesNotFitError, EngineFailedError, RemoteEngine
from stillmark.profiling.session import Arm, Noise, Repetition, Rules, Session, Setting, TimedEngine
from stillmark.profiling.validity import is_quiet
from stillmark.profiling.workload import Batch, EngineSpec, Workload

STEADY_METRICS = ("tpot_seconds", "ttft_seconds")  # what warm-up and interval are judged by

OpenEngine = Callable[[EngineSpec, Constraints], TimedEngine]


def profile(
    arms: Sequence[Arm],
    workloads: Sequence[Workload],
    rules: Rules,
    *,
    device: Device | None = None,
    prompts: Sequence[str] = (),
    max_new_tokens: int = 256,
    lengths: Sequence[Workload] = (),
    journal: Journal | None = None,
    open_engine: OpenEngine = RemoteEngine,
    open_probe: Callable[[int], PaceProbe] | None = PaceProbe,
    progress: Callable[[str], None] = lambda message: None,
) -> Session:
    """Time every arm on every workload (or its own), its answers to `prompts`, one answer of each of `lengths`.

    Without `open_probe` the intervals are of this session alone: for a machine that is held back on purpose.
    """
    labels = [arm.label for arm in arms]
    if len(set(labels)) < len(labels):
        raise UserError(f"two arms have the same name: {', '.join(labels)}")
    began_at = now()
    progress("noise check")
    before, idle = noise(rules), power.idle_watts(device)
    settings = [Setting(arm=arm, workload=workload) for arm in arms
                for workload in ([arm.workload] if arm.workload else workloads)]  # fmt: skip
    session = Session(settings=settings, rules=rules, before=before, after=before, device=device,
                      idle_watts=idle, facts={}, memory={}, load_seconds={}, answers={}, began_at=began_at)  # fmt: skip
    with ExitStack() as opened:
        probes = open_probes(arms, open_probe, opened) if open_probe else []
        for arm in arms:
            progress(f"loading {arm.label}")
            open_arm(session, arm, open_engine, opened)
        for setting in settings:
            if setting.engine is not None:
                progress(f"warm-up {setting.arm.label}, {setting.workload.label}")
                guarded(setting, partial(warm_up, setting=setting, rules=rules))
                if journal:
                    setting.repetitions = journal.repetitions(setting)
                    setting.num_resumed = len(setting.repetitions)
        run_rounds(session, probes, journal, progress)
        for probe in probes:
            probe.complete()
        answer_all(session, prompts, max_new_tokens)
        answer_at_lengths(session, lengths, progress)
        for setting in settings:
            if setting.engine is not None:
                session.memory[setting.arm.label] = setting.engine.memory
    session.after = noise(rules)
    state_paces(session, probes)
    return session


def open_arm(session: Session, arm: Arm, open_engine: OpenEngine, opened: ExitStack) -> None:
    """Load an arm's engine for all its settings, or write down why not."""
    mine = [setting for setting in session.settings if setting.arm is arm]
    try:
        engine = open_engine(arm.spec, arm.constraints)
    except (DoesNotFitError, EngineFailedError) as error:
        for setting in mine:
            fail(setting, error)
        return
    opened.callback(engine.close)
    session.facts[arm.label] = engine.facts
    session.load_seconds[arm.label] = engine.load_seconds
    for setting in mine:
        setting.engine = engine


def guarded(setting: Setting, work: Callable[[TimedEngine], None]) -> None:
    """An arm that dies or does not fit ends itself, not the session."""
    if setting.engine is None or setting.failure is not None:
        return
    try:
        work(setting.engine)
    except (DoesNotFitError, EngineFailedError) as error:
        fail(setting, error)


def fail(setting: Setting, error: Exception) -> None:
    setting.does_not_fit = isinstance(error, DoesNotFitError)
    setting.ended_because = "does not fit" if setting.does_not_fit else "failed"
    setting.failure, _, setting.failure_detail = str(error).partition("\n")


def warm_up(engine: TimedEngine, *, setting: Setting, rules: Rules) -> None:
    """The work that will be measured, until two runs in a row agree."""
    spent = 0.0
    while len(setting.warmups) < rules.max_warmups:
        batch = engine.run(setting.workload, -1 - len(setting.warmups))
        setting.warmups.append(batch)
        spent += batch.wall_seconds
        if len(setting.warmups) >= 2 and agree(setting.warmups[-2], batch, rules.warmup_spread):
            setting.is_steady = True
            return
        if spent > rules.warmup_budget_seconds and len(setting.warmups) >= 2:
            return


def agree(one: Batch, other: Batch, spread: float) -> bool:
    """Whether two runs differ by less than `spread` in total time."""
    return abs(one.wall_seconds - other.wall_seconds) <= spread * min(one.wall_seconds, other.wall_seconds)


def open_probes(
    arms: Sequence[Arm], open_probe: Callable[[int], PaceProbe], opened: ExitStack
) -> list[PaceProbe]:
    """One for each number of threads that an arm has, and a first look at each; none where no process can be had."""
    probes = []
    counts = {arm.paced_threads for arm in arms if arm.paced_threads is not None}
    for threads in sorted(counts):
        with suppress(OSError):
            probes.append(open_probe(threads))
            opened.callback(probes[-1].close)
            probes[-1].take()
    return probes


def state_paces(session: Session, probes: Sequence[PaceProbe]) -> None:
    """The session's paces beside earlier ones; left for later ones where no neighbour was at work."""
    is_kept = is_quiet(session)
    for probe in probes:
        pace = pace_range(probe.threads, probe.taken)
        if pace is not None:
            session.paces[probe.threads] = pace
            if is_kept:
                keep(pace, session.began_at)


def run_rounds(
    session: Session,
    probes: Sequence[PaceProbe],
    journal: Journal | None,
    progress: Callable[[str], None],
) -> None:
    """Rounds in a random order until every setting has ended."""
    order = random.Random(session.rules.seed)
    num_rounds = 0
    while True:
        unfinished = [s for s in session.settings if s.ended_because is None]
        for setting in unfinished:
            setting.ended_because = reason_to_end(setting, session.rules)
        unfinished = [s for s in unfinished if s.ended_because is None]
        if not unfinished:
            return
        num_rounds += 1
        progress(f"round {num_rounds}: {len(unfinished)} of {len(session.settings)} settings")
        order.shuffle(unfinished)
        for probe in probes:
            probe.take()
        for setting in unfinished:
            guarded(setting, partial(repeat, session=session, setting=setting, journal=journal))


def repeat(engine: TimedEngine, *, session: Session, setting: Setting, journal: Journal | None) -> None:
    """One timed run, with who else was at work and the energy of it."""
    began_at, books, own = now(), machine.cpu_books(), machine.own_cpu_seconds()
    with EnergyMeter(device=session.device) as meter:
        batch = engine.run(setting.workload, len(setting.repetitions))
    own = machine.own_cpu_seconds() - own + (batch.cpu_seconds or 0.0)
    foreign = machine.foreign_cores(books, machine.cpu_books(), own)
    repetition = Repetition(batch=batch, foreign_cores=foreign, energy=meter.reading, began_at=began_at)
    setting.repetitions.append(repetition)
    if journal:
        journal.add(setting, repetition)


def reason_to_end(setting: Setting, rules: Rules) -> str | None:
    """None: go on."""
    number = len(setting.repetitions)
    if number >= rules.max_repetitions:
        return f"{number} repetitions"
    if (
        number >= rules.min_repetitions
        and setting.timed_seconds >= rules.min_seconds
        and is_narrow(setting, rules)
    ):
        return "narrow"
    return "out of time" if setting.timed_seconds >= rules.budget_seconds else None


def is_narrow(setting: Setting, rules: Rules) -> bool:
    values = metrics.values_of(setting.batches)
    intervals = [median_interval(values[name]) for name in STEADY_METRICS if name in values]
    return all(
        interval is not None
        and (interval.high - interval.low) / 2 <= rules.relative_half_width * interval.value
        for interval in intervals
    )


def answer_all(session: Session, prompts: Sequence[str], max_new_tokens: int) -> None:
    """Each arm's own answers, at the lengths that it really writes; prompt by prompt over the arms."""
    one_each = {setting.arm.label: setting for setting in session.settings if setting.engine is not None}
    for prompt in prompts:
        for setting in one_each.values():
            guarded(setting, partial(answer_one, session=session, setting=setting, prompt=prompt,
                                     max_new_tokens=max_new_tokens))  # fmt: skip


def answer_one(
    engine: TimedEngine, *, session: Session, setting: Setting, prompt: str, max_new_tokens: int
) -> None:
    session.answers.setdefault(setting.arm.label, []).append(engine.answer(prompt, max_new_tokens))


def answer_at_lengths(session: Session, lengths: Sequence[Workload], progress: Callable[[str], None]) -> None:
    """One answer a length and arm, arms in turns."""
    one_each = {setting.arm.label: setting for setting in session.settings if setting.engine is not None}
    if lengths:
        progress(f"answers at {len(lengths)} recorded lengths")
    for number, workload in enumerate(lengths):
        for setting in one_each.values():
            guarded(setting, partial(one_of_length, session=session, setting=setting, workload=workload,
                                     number=number))  # fmt: skip


def one_of_length(
    engine: TimedEngine, *, session: Session, setting: Setting, workload: Workload, number: int
) -> None:
    """Its prompt is not one that was timed before."""
    variant = session.rules.max_repetitions + number
    session.at_lengths.setdefault(setting.arm.label, []).extend(engine.run(workload, variant).timelines)


def noise(rules: Rules) -> Noise:
    return Noise(
        state=machine.machine_state(),
        foreign_cores=machine.foreign_cores_over(rules.noise_seconds),
        spin_interference=machine.spin_interference(),
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
