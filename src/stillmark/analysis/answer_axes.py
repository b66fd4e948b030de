"""What one answer of each arm takes beside its FLOPs: seconds, joules, money and memory, as axes for its accuracy.

An axis is obtained in one way for all arms, since two ways do not compare; an arm of which that way knows nothing is
unknown, with the reason, and stands off the axis. The way is the first of these that knows an arm:

    seconds   the profile's end_to_end_seconds / batch; else each answer's share of its batch in evaluation, mean
    joules    the profile's joules_per_answer; else evaluation's joules on the ledger / its answers
    money     the endpoint's price of each answer in evaluation, mean, in US dollars
    memory    the profile's peak_memory_bytes; else weights and KV cache by formula (counted)

A profile counts where its run is valid and its weights are those that were evaluated (float32), at one engine and
format: the one that knows most arms. Evaluation is that of the last checkpoint, over all seeds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stillmark.analysis.lineage import Lineage
from stillmark.analysis.profile_rows import NO_PRICE, figure, value_of
from stillmark.plan import Job
from stillmark.study.profile import FLOAT32, SAME_WEIGHTS

Row = Mapping[str, Any]
USUAL = ("transformers", FLOAT32)
PROFILED = "inference profile, {} {}, alone on the machine"
EVALUATED = "evaluation on the machine of the study: each answer's share of its batch"
LEDGER = "evaluation's joules on the ledger over its answers: the whole machine's counters, in batches"
ASKED = "the endpoint's price of each answer"
FORMULA = "weights and KV cache in float32 by formula, without the engine's own work space"


def answer_axes(
    lineage: Lineage, arms: Sequence[Row], profiles: Sequence[Row], devices: Sequence[Row]
) -> list[dict[str, Any]]:
    """One mapping an axis: how its values were obtained, and each arm's value, limits and reason.

    `arms`, `profiles` and `devices` as in a conclusion.
    """
    names = [arm["arm"] for arm in arms]
    spent = {name: evaluated(lineage, name) for name in names}
    joules = {name: evaluation_joules(lineage, name, spent[name]["samples"]) for name in names}
    plain = {row["arm"]: row for row in devices if (row["engine"], row["format"]) == USUAL}

    def from_profile(metric: str) -> tuple[str, dict[str, dict[str, Any]]] | None:
        return profile_axis(names, profiles, metric)

    seconds = {name: known(spent[name]["seconds"], "its answers have no seconds on record") for name in names}
    money = {name: known(spent[name]["usd"], NO_PRICE) for name in names}
    axes = [
        axis("seconds", "s", "measured", from_profile("end_to_end_seconds"), EVALUATED, seconds),
        axis("joules", "J", "measured", from_profile("joules_per_answer"), LEDGER, joules),
        axis("money", "USD", "published", None, ASKED, money),
    ]
    peak = from_profile("peak_memory_bytes")
    counted = {name: known((plain.get(name, {}).get("needs") or {}).get("memory_bytes"), "its shape is not known")
               for name in names}  # fmt: skip
    axes.append(axis("memory", "bytes", "measured" if peak else "counted", peak, FORMULA, counted))
    return axes


def axis(
    name: str, unit: str, method: str, profiled: tuple[str, dict[str, dict[str, Any]]] | None,
    other_source: str, other: dict[str, dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    source, values = profiled or (other_source, other)
    return {"name": name, "unit": unit, "method": method, "source": source, "arms": values}


def known(value: float | None, reason: str) -> dict[str, Any]:
    return {"value": value, "low": None, "high": None, "reason": reason if value is None else None}


def profile_axis(
    names: Sequence[str], profiles: Sequence[Row], metric: str
) -> tuple[str, dict[str, dict[str, Any]]] | None:
    """The metric at the engine and format that know most arms; None where none knows one."""
    free = [row for row in profiles if row["memory_cap_bytes"] is None and row["format"] in SAME_WEIGHTS]
    knowing: dict[tuple[str, str], int] = {}
    for row in free:
        if row["verdict"] == "VALID" and value_of(figure(row, metric)) is not None:
            pair = row["engine"], row["format"]
            knowing[pair] = knowing.get(pair, 0) + 1
    if not knowing:
        return None
    best = max(knowing, key=lambda pair: (knowing[pair], pair == USUAL, pair))
    rows = {row["arm"]: row for row in free if (row["engine"], row["format"]) == best}
    return PROFILED.format(*best), {name: profiled_value(rows.get(name), metric) for name in names}


def profiled_value(row: Row | None, metric: str) -> dict[str, Any]:
    """An arm's figure of one answer with its limits, or why there is none."""
    if row is None:
        return known(None, "it was not profiled")
    if row["verdict"] != "VALID":
        return known(None, f"its run is {row['verdict']}: {row['reason']}")
    found = row["figures"].get(metric)
    if found is None or found["value"] is None:
        return known(None, (found or {}).get("reason") or "it was not measured")
    share = (
        row["batch"] if metric == "end_to_end_seconds" else 1
    )  # the device's seconds are the whole batch's
    return {end: None if found[end] is None else found[end] / share for end in ("value", "low", "high")} | {
        "reason": None
    }


def evaluated(lineage: Lineage, arm: str) -> dict[str, float | None]:
    """How many answers an arm's last checkpoint gave, and their mean seconds and price; None where one has none."""
    sums = [lineage.store.answer_sums(job.key) for job in last_evaluations(lineage, arm)]
    num_samples = sum(one["samples"] for one in sums)

    def mean(count: str, total: str) -> float | None:
        is_whole = num_samples > 0 and sum(one[count] for one in sums) == num_samples
        return sum(one[total] for one in sums) / num_samples if is_whole else None

    return {"samples": num_samples, "seconds": mean("timed", "seconds"), "usd": mean("priced", "usd")}


def evaluation_joules(lineage: Lineage, arm: str, num_samples: float | None) -> dict[str, Any]:
    """Joules of an answer by the ledger of the arm's last evaluations; the ledger says why there are none."""
    jobs = last_evaluations(lineage, arm)
    entries = [entry for job in jobs for entry in lineage.store.ledger(job.key)]
    values = [entry.joules for entry in entries]
    found = [value for value in values if value is not None]
    if entries and num_samples and len(found) == len(values):
        return known(sum(found) / num_samples, "")
    why = next(
        (entry.joules_source for entry in entries if entry.joules is None and entry.joules_source), None
    )
    return known(None, why or "no energy is on record")


def last_evaluations(lineage: Lineage, arm: str) -> list[Job]:
    """The jobs that asked the arm's last checkpoint, one a seed."""
    return [
        lineage.evaluation(arm, seed, lineage.checkpoint_costs(arm, seed)[-1].index)
        for seed in lineage.study.seeds
    ]
