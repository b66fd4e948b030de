"""What the schema alone cannot see: names that refer to nothing, cycles, keys that contradict one another.

Works on the raw mapping, so that these faults are reported together with the schema's and not one run later.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stillmark.errors import did_you_mean


def reference_faults(raw: Mapping[str, Any]) -> list[str]:
    """One line for each fault, with its path in the file."""
    arms = {name: arm for name, arm in mapping(raw.get("arms")).items() if isinstance(arm, Mapping)}
    models, tasks = mapping(raw.get("models")), mapping(raw.get("tasks"))
    faults: list[str] = []
    for name, arm in arms.items():
        faults += missing(f"arms.{name}.model", arm.get("model"), models, "model")
        faults += missing(f"arms.{name}.task", arm.get("task"), tasks, "task")
        for role in ("teacher", "base"):
            faults += missing(f"arms.{name}.{role}", arm.get(role), arms, "arm")
        faults += contradictions(name, arm, arms, models, len(tasks))
    faults += cycles(arms)
    conclusion = mapping(raw.get("conclusion"))
    for key in ("students", "vanilla", "controls"):
        named = conclusion.get(key)
        for index, arm_name in enumerate(named if isinstance(named, list) else []):
            faults += missing(f"conclusion.{key}[{index}]", arm_name, arms, "arm")
    seeds = raw.get("seeds")
    if isinstance(seeds, list) and len(seeds) != len({str(seed) for seed in seeds}):
        faults.append(f"seeds: the same seed is given twice in {seeds}")
    for name, task in tasks.items():
        faults += swaps_faults(f"tasks.{name}", mapping(task))
    return faults


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def missing(path: str, name: Any, possible: Mapping[str, Any], noun: str) -> Iterator[str]:
    if isinstance(name, str) and name not in possible:
        near = did_you_mean(name, possible)
        yield f"{path}: there is no {noun} `{name}`; " + (
            near or f"{noun}s: " + ", ".join(map(str, possible))
        )


def contradictions(
    name: str, arm: Mapping[str, Any], arms: Mapping[str, Any], models: Mapping[str, Any], num_tasks: int
) -> Iterator[str]:
    """An arm whose own keys do not go together."""
    recipe = mapping(arm.get("recipe"))
    text, loss, kind = recipe.get("text"), recipe.get("loss", "cross_entropy"), arm.get("kind")
    needs_teacher = text == "traces" or loss != "cross_entropy"
    if needs_teacher and not arm.get("teacher"):
        yield f"arms.{name}.teacher: is missing, and text `{text}` with loss `{loss}` needs one"
    if arm.get("teacher") and not needs_teacher:
        yield f"arms.{name}.teacher: is given, but text `{text}` with loss `{loss}` learns nothing from it"
    if kind == "vanilla" and arm.get("teacher"):
        yield f"arms.{name}.kind: a vanilla arm has no teacher; did you mean `distilled`?"
    if kind == "distilled" and not arm.get("teacher"):
        yield f"arms.{name}.kind: a distilled arm has a teacher; name it, or did you mean `vanilla`?"
    if text == "traces" and "traces" not in recipe:
        yield f"arms.{name}.recipe.traces: is missing: say how many prompts the teacher answers"
    if text in ("answers", "solutions") and "traces" in recipe:
        yield f"arms.{name}.recipe.traces: is given, but text is `{text}`"
    base = arms.get(arm.get("base", ""))
    if (
        base
        and base.get("model") != arm.get("model")
        and {base.get("model"), arm.get("model")} <= set(models)
    ):
        yield f"arms.{name}.base: `{arm['base']}` is a `{base.get('model')}`, this arm a `{arm.get('model')}`"
    if num_tasks > 1 and not arm.get("task"):
        yield f"arms.{name}.task: is missing, and the study has {num_tasks} tasks"


def cycles(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Arms that need themselves, by way of teacher or base: each cycle once."""
    reported: set[frozenset[str]] = set()
    for start in arms:
        stack = [(start, [start])]
        while stack:
            name, trail = stack.pop()
            for role in ("teacher", "base"):
                needed = arms[name].get(role)
                if not isinstance(needed, str):
                    continue
                if needed == start and frozenset(trail) not in reported:
                    reported.add(frozenset(trail))
                    yield f"arms.{name}.{role}: a cycle: " + " needs ".join([*trail, start])
                elif needed in arms and needed not in trail:
                    stack.append((needed, [*trail, needed]))


def swaps_faults(path: str, task: Mapping[str, Any]) -> Iterator[str]:
    least, most = task.get("min_swaps", 1), task.get("max_swaps", 6)
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{path}.min_swaps: {least} is more than max_swaps, {most}"
