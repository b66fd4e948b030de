"""Measured inference as a conclusion holds it, and what each arm asks of a device: the inputs of `choose`."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from stillmark.analysis.economics import cost_per_correct
from stillmark.analysis.lineage import Lineage
from stillmark.compute.inference import ModelFacts, Workload
from stillmark.compute.predictor import Needs
from stillmark.records import ProfileRecord
from stillmark.study.profile import FLOAT32, SAME_WEIGHTS
from stillmark.study.schema import QuantisedArm

BYTES_PER_WEIGHT = {FLOAT32: 4.0, "F32": 4.0, "float16": 2.0, "bfloat16": 2.0, "F16": 2.0, "BF16": 2.0}
CACHE_BYTES = {FLOAT32: 4.0, "float16": 2.0, "bfloat16": 2.0}  # of transformers, in the weights' format
LLAMACPP_CACHE_BYTES = 2.0  # its default, float16
NO_PRICE = "no price of an hour of this machine is known"


def profile_rows(lineage: Lineage) -> list[dict[str, Any]]:
    """One row an arm, engine, format and setting, with its figures by name; none where nothing was profiled."""
    key = lineage.plan.profile_key
    if key is None or key not in lineage.finished:
        return []
    machine = next(job.provenance.get("cpu") for job in lineage.store.jobs() if job.key == key)
    groups: dict[tuple[str, str, str], list[ProfileRecord]] = {}
    for record in lineage.store.profiles(key):
        groups.setdefault((record.engine, record.format, record.setting), []).append(record)
    return [
        {
            "seed": lineage.plan.jobs[key].seed,
            "engine": engine,
            "format": format,
            **json.loads(setting),
            "machine": machine,
            "verdict": records[0].verdict,
            "reason": reason_of(records),
            "figures": {record.metric: figure_row(record) for record in records},
        }
        for (engine, format, setting), records in sorted(
            groups.items(), key=lambda group: place_of(lineage, *group[0])
        )
    ]


def place_of(lineage: Lineage, engine: str, format: str, setting: str) -> tuple[int, str, str, int]:
    """Arms as the study has them, of each the settings without a cap first."""
    said = json.loads(setting)
    return list(lineage.study.arms).index(said["arm"]), engine, format, said["memory_cap_bytes"] or 0


def reason_of(records: list[ProfileRecord]) -> str | None:
    """Why the whole run is not valid; a figure that is missing from a measured run has a reason of its own."""
    if records[0].verdict == "VALID":
        return None
    measured = [record for record in records if record.value is not None]
    return next((record.reason for record in measured or records if record.reason), None)


def figure_row(record: ProfileRecord) -> dict[str, Any]:
    names = ("value", "low", "high", "unit", "reason")
    return {name: getattr(record, name) for name in names} | {"method": str(record.method)}


def device_rows(
    lineage: Lineage, arms: list[dict[str, Any]], profiles: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What is needed to choose: each arm as evaluated, and each engine and format that was profiled.

    A format that rounds the weights has the accuracy of the arm that was quantised to it; without such an arm it has
    none: the float arm's is another model's.
    """
    rows = []
    for arm in arms:
        own = evaluated_as(lineage, arm["arm"])
        free = [
            row
            for row in profiles
            if row["memory_cap_bytes"] is None and model_of(lineage, row) == arm["arm"]
        ]
        if not any((row["engine"], row["format"]) == own for row in free):
            rows.append(device_row(lineage, arm, None))
        rows += [device_row(lineage, arm, row) for row in free]
    return rows


def evaluated_as(lineage: Lineage, arm: str) -> tuple[str, str]:
    """The engine and format in which an arm was evaluated."""
    spec = lineage.study.arms[arm]
    return ("llamacpp", spec.format) if isinstance(spec, QuantisedArm) else ("transformers", FLOAT32)


def model_of(lineage: Lineage, profile: Mapping[str, Any]) -> str:
    """The arm whose model was profiled: the quantised one where the study has it in this format."""
    formats = lineage.study.arms[profile["arm"]].quantise if profile["engine"] == "llamacpp" else []
    return f"{profile['arm']}-{profile['format']}" if profile["format"] in formats else str(profile["arm"])


def device_row(lineage: Lineage, arm: Mapping[str, Any], profile: Mapping[str, Any] | None) -> dict[str, Any]:
    own = evaluated_as(lineage, arm["arm"])
    engine, format = (profile["engine"], profile["format"]) if profile else own
    workload = workload_of(arm, profile)
    accuracy, why = arm.get("accuracy"), None
    if (engine, format) != own and not {format, own[1]} <= set(SAME_WEIGHTS):
        accuracy, why = None, f"its accuracy in {format} was not evaluated"
    elif accuracy is None:
        why = "no accuracy was measured"
    needs = (
        None
        if workload is None
        else Needs.of(facts_of(lineage, arm["arm"], engine, format, profile), workload)
    )
    seconds, memory = figure(profile, "end_to_end_seconds"), figure(profile, "peak_memory_bytes")
    return {
        "arm": arm["arm"],
        "engine": engine,
        "format": format,
        "accuracy": None if accuracy is None else {end: accuracy[end] for end in ("value", "low", "high")},
        "accuracy_reason": why,
        "prompt_tokens": workload.prompt_tokens if workload else None,
        "new_tokens": workload.new_tokens if workload else None,
        "measured": None if profile is None else {
            "verdict": profile["verdict"], "reason": profile["reason"], "machine": profile["machine"],
            "seconds": seconds, "memory_bytes": memory,
        },
        "needs": asdict(needs) if needs else None,
        "slowdown": slowdown_of(profile),
        "per_correct": costs(profile, accuracy),
    }  # fmt: skip


def workload_of(arm: Mapping[str, Any], profile: Mapping[str, Any] | None) -> Workload | None:
    """The lengths that were profiled, else the means of the arm's own answers; None for an arm that answers nothing."""
    if profile:
        return Workload(**{name: profile[name] for name in ("prompt_tokens", "new_tokens", "batch")})
    if arm.get("prompt_tokens") is None or arm.get("generated_tokens") is None:
        return None
    return Workload(
        prompt_tokens=max(1, round(arm["prompt_tokens"])), new_tokens=max(2, round(arm["generated_tokens"]))
    )


def facts_of(
    lineage: Lineage, arm: str, engine: str, format: str, profile: Mapping[str, Any] | None
) -> ModelFacts:
    """Sizes by formula where a weight has so many bytes; of a quantised file, the file's own."""
    shape, config = lineage.plan.shape(arm), lineage.plan.config(arm)
    unread = 0 if shape.is_tied else shape.embedding_params  # of an untied table a step reads one row
    size = BYTES_PER_WEIGHT.get(format)
    written = value_of(figure(profile, "file_bytes"))
    file_bytes = shape.params * size if size else written
    return ModelFacts(
        name=arm,
        engine=engine,
        file_bytes=None if file_bytes is None else int(file_bytes),
        weight_bytes_per_token=(shape.params - unread) * size if size else written,
        weight_format=format,
        cache_bytes_per_value=CACHE_BYTES[format] if engine == "transformers" else LLAMACPP_CACHE_BYTES,
        config=config,
    )


def slowdown_of(profile: Mapping[str, Any] | None) -> dict[str, float] | None:
    """How many times longer than this machine's ceilings allow: 1/MFU and 1/MBU of a valid run, never below 1."""
    if profile is None or profile["verdict"] != "VALID":
        return None
    mfu, mbu = (value_of(figure(profile, name)) for name in ("prefill_mfu", "decode_mbu"))
    return {"compute": max(1.0, 1 / mfu), "read": max(1.0, 1 / mbu)} if mfu and mbu else None


def costs(profile: Mapping[str, Any] | None, accuracy: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a correct answer costs in each resource: of all answers, wrong ones too, one after another."""
    share = accuracy["value"] if accuracy else None
    batch = profile["batch"] if profile else 1
    found: dict[str, Any] = {"money": {"value": None, "reason": NO_PRICE}}
    for name, metric in (("seconds", "end_to_end_seconds"), ("joules", "joules_per_answer")):
        known = figure(profile, metric)
        is_valid = profile is not None and profile["verdict"] == "VALID"
        value = value_of(known) if is_valid else None
        each = None if value is None else value / (batch if name == "seconds" else 1)
        cost = cost_per_correct(each, share)
        why = None
        if profile is None:
            why = "it was not profiled"
        elif not is_valid:
            why = f"its run is {profile['verdict']} ({profile['reason']})"
        elif cost is None:
            unknown = "its accuracy is not known" if share is None else "none is correct"
            why = (known or {}).get("reason") if value is None else unknown
        found[name] = {
            "value": cost,
            "reason": why,
            "method": known["method"] if known and cost is not None else None,
        }
    return found


def figure(profile: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    return None if profile is None else profile["figures"].get(name)


def value_of(found: Mapping[str, Any] | None) -> float | None:
    value: float | None = found["value"] if found else None
    return value
