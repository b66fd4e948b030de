"""The verdict on one setting: VALID, or INVALID with every rule that it broke."""

import os

from stillmark.profiling import metrics
from stillmark.profiling.quantiles import median
from stillmark.profiling.session import Session, Setting
from stillmark.profiling.workload import Timeline

MAX_SPIN_INTERFERENCE = 0.15


def broken_rules(setting: Setting, session: Session, num_cores: int) -> list[str]:
    """Empty where the measurement is valid."""
    if setting.failure is not None:
        return [setting.failure]
    reasons = []
    rules = session.rules
    if len(setting.repetitions) < rules.min_repetitions:
        reasons.append(
            f"{len(setting.repetitions)} repetitions in {rules.budget_seconds:g} s, {rules.min_repetitions} needed"
        )
    if not setting.is_steady:
        reasons.append(
            f"not steady: {len(setting.warmups)} warm-up runs, the last two more than {rules.warmup_spread:.0%} apart"
        )
    return [
        *reasons,
        *_wrong_work(setting),
        *_noise(setting, session, num_cores),
        *_drift(setting, session),
    ]


def _wrong_work(setting: Setting) -> list[str]:
    """Every request must have done the work that was asked: a shorter answer is not a faster engine."""
    reasons = []
    lines = [line for batch in setting.batches for line in batch.timelines]
    errors = [line.error for line in lines if line.error]
    if errors:
        reasons.append(f"{len(errors)} of {len(lines)} requests failed: {errors[0]}")
    done = [line for line in lines if not line.error]
    wrong = [line for line in done if not _did_the_work(setting, line)]
    if wrong:
        got = f"{wrong[0].prompt_tokens}+{wrong[0].new_tokens}"
        asked = setting.workload.label
        reasons.append(f"{len(wrong)} of {len(lines)} requests did other work than {asked}: {got}")
    return reasons


def _did_the_work(setting: Setting, line: Timeline) -> bool:
    """A server counts the prompt by its own tokenizer (or not at all): there only the answer's length is held."""
    asked = setting.workload
    is_prompt_right = line.prompt_tokens == asked.prompt_tokens or setting.arm.spec.engine == "endpoint"
    return is_prompt_right and line.new_tokens == asked.new_tokens


def foreign_cores(setting: Setting) -> float | None:
    """Mean over the repetitions, by time; None where one is not known.

    A server's work cannot be told from others': it may run on this machine.
    """
    if setting.arm.spec.engine == "endpoint":
        return None
    shares = [(r.foreign_cores, r.batch.wall_seconds) for r in setting.repetitions]
    if not shares or any(share is None for share, _ in shares):
        return None
    return sum((share or 0.0) * seconds for share, seconds in shares) / sum(seconds for _, seconds in shares)


def is_quiet(session: Session) -> bool:
    """Whether no neighbour was seen at work during any setting's runs."""
    return not any(_noise(setting, session, os.cpu_count() or 1) for setting in session.settings)


def _noise(setting: Setting, session: Session, num_cores: int) -> list[str]:
    limit = session.rules.max_foreign_share * num_cores
    during = foreign_cores(setting)
    if during is not None:
        if during <= limit:
            return []
        return [f"others kept {during:.2f} of {num_cores} cores busy during the runs (limit {limit:.2f})"]
    worst = max(session.before.spin_interference, session.after.spin_interference)
    if worst <= MAX_SPIN_INTERFERENCE:
        return []
    return [
        f"the spin probe lost {worst:.0%} of its time to interruptions (limit {MAX_SPIN_INTERFERENCE:.0%})"
    ]


def _drift(setting: Setting, session: Session) -> list[str]:
    limit = session.rules.max_drift
    reasons = []
    values = metrics.values_of(setting.batches).get("end_to_end_seconds", [])
    half = len(values) // 2
    first, second = median(values[:half]), median(values[half:])
    if first and second and abs(second / first - 1) > limit:
        reasons.append(
            f"drift: the second half of the repetitions took {second / first - 1:+.0%} of the first"
        )
    before, after = session.before.state.clock_hertz, session.after.state.clock_hertz
    if before and after and abs(after / before - 1) > limit:
        reasons.append(f"the clock went from {before / 1e9:.2f} to {after / 1e9:.2f} GHz")
    return reasons
