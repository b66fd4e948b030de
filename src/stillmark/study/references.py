"""What the schema alone cannot see: names that refer to nothing, cycles, keys that contradict one another.

Works on the raw mapping, so that these faults are reported together with the schema's and not one run later.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stillmark.errors import did_you_mean
from stillmark.study.benchmarks import benchmark_faults
from stillmark.study.profile import FORMATS, format_faults, profile_faults
from stillmark.study.recipe import Recipe, recipe_faults


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
        faults += contradictions(name, arm, len(tasks))
        faults += starting_faults(name, arm, arms, models)
        faults += quantised_faults(name, arm, arms)
    faults += cycles(arms)
    conclusion = mapping(raw.get("conclusion"))
    for key in ("students", "vanilla", "controls"):
        named = conclusion.get(key)
        for index, arm_name in enumerate(named if isinstance(named, list) else []):
            faults += missing(f"conclusion.{key}[{index}]", arm_name, arms, "arm")
    is_text = any(mapping(task).get("kind") == "text" for task in tasks.values())
    if conclusion and not conclusion.get("vanilla") and not is_text:
        faults.append("conclusion.vanilla: is missing: name the vanilla arms that students are held against")
    if raw.get("benchmarks") is not None:
        faults += benchmark_faults(mapping(raw["benchmarks"]), arms, is_text=is_text)
    if raw.get("profile") is not None:
        faults += profile_faults(mapping(raw["profile"]), arms, is_text=is_text)
    seeds = raw.get("seeds")
    if isinstance(seeds, list) and len(seeds) != len({str(seed) for seed in seeds}):
        faults.append(f"seeds: the same seed is given twice in {seeds}")
    for name, model in models.items():
        faults += missing(f"models.{name}.pruned_from", mapping(model).get("pruned_from"), models, "model")
    for name, task in tasks.items():
        faults += swaps_faults(f"tasks.{name}", mapping(task))
    return [*faults, *text_faults(tasks, models, arms)]


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def missing(path: str, name: Any, possible: Mapping[str, Any], noun: str) -> Iterator[str]:
    if isinstance(name, str) and name not in possible:
        near = did_you_mean(name, possible)
        yield f"{path}: there is no {noun} `{name}`; " + (
            near or f"{noun}s: " + ", ".join(map(str, possible))
        )


def contradictions(name: str, arm: Mapping[str, Any], num_tasks: int) -> Iterator[str]:
    """An arm whose own keys do not go together."""
    kind, teacher = arm.get("kind"), arm.get("teacher")
    if kind == "vanilla" and teacher:
        yield f"arms.{name}.kind: a vanilla arm has no teacher; did you mean `distilled`?"
    if kind == "distilled" and not teacher:
        yield f"arms.{name}.kind: a distilled arm has a teacher; name it, or did you mean `vanilla`?"
    if arm.get("control") and kind != "distilled":
        yield f"arms.{name}.control: belongs to a distilled arm, which it is held against"
    if num_tasks > 1 and not arm.get("task"):
        yield f"arms.{name}.task: is missing, and the study has {num_tasks} tasks"
    try:
        recipe = Recipe.model_validate(arm.get("recipe"))
    except ValidationError:
        return  # the schema's own faults are reported elsewhere
    for fault in recipe_faults(recipe):
        yield f"arms.{name}.recipe.{fault}"
    said = f"text `{recipe.text}` with loss `{recipe.loss}`"
    if recipe.needs_teacher and not teacher:
        yield f"arms.{name}.teacher: is missing, and {said} needs one"
    if teacher and not recipe.needs_teacher:
        yield f"arms.{name}.teacher: is given, but {said} learns nothing from it"


def quantised_faults(name: str, arm: Mapping[str, Any], arms: Mapping[str, Any]) -> Iterator[str]:
    """Formats that are not written here, and arms that another would take the name of."""
    formats = arm.get("quantise")
    yield from format_faults(f"arms.{name}.quantise", formats, FORMATS["llamacpp"])
    for format in formats if isinstance(formats, list) else ():
        if f"{name}-{format}" in arms:
            yield f"arms.{name}.quantise: {format} makes the arm `{name}-{format}`, and there is one of that name"


def starting_faults(
    name: str, arm: Mapping[str, Any], arms: Mapping[str, Any], models: Mapping[str, Any]
) -> Iterator[str]:
    """What an arm's weights start from: its model and its base must fit."""
    model = mapping(models.get(str(arm.get("model"))))
    base = mapping(arms.get(str(arm.get("base"))))
    if "checkpoint" in model:
        if arm.get("base"):
            yield f"arms.{name}.base: is given, but the model is a checkpoint, which has weights of its own"
    elif arm.get("recipe") is None and model:
        yield f"arms.{name}.recipe: is missing: only a given model (`checkpoint`) is used as it is"
    elif "pruned_from" in model:
        if base.get("model") != model["pruned_from"]:
            yield (f"arms.{name}.base: must be an arm of the model `{model['pruned_from']}`, "
                   f"which `{arm['model']}` is pruned from")  # fmt: skip
    elif (
        base
        and base.get("model") != arm.get("model")
        and {base.get("model"), arm.get("model")} <= set(models)
    ):
        yield f"arms.{name}.base: `{arm['base']}` is a `{base.get('model')}`, this arm a `{arm.get('model')}`"


def text_faults(
    tasks: Mapping[str, Any], models: Mapping[str, Any], arms: Mapping[str, Any]
) -> Iterator[str]:
    """A study is of text or of questions, not of both, and the arms' texts are of its kind."""
    kinds = {mapping(task).get("kind") == "text" for task in tasks.values()}
    if len(kinds) == 2:
        yield "tasks: text tasks and question tasks do not go into one study: their results are of another kind"
        return
    is_text = kinds == {True}
    given = [name for name, model in models.items() if "checkpoint" in mapping(model)]
    if is_text and not given:
        yield "models: a text task needs a given model (`checkpoint`), whose tokenizer it is read with"
    if not is_text and given:
        yield (f"models.{given[0]}: a given model goes with text tasks; question tasks made here have "
               "a vocabulary of their own (`stillmark eval` asks given models)")  # fmt: skip
    for name, task in tasks.items():
        train, test = (
            {Path(str(mapping(file).get("file"))).resolve() for file in mapping(task).get(part) or []}
            for part in ("train", "test")
        )
        for both in sorted(train & test):
            yield (f"tasks.{name}.test: `{both}` is trained on too; leave it out of one of them, or give it a "
                   "`held_out_share` under `train`")  # fmt: skip
    for name, arm in arms.items():
        text = mapping(arm.get("recipe")).get("text")
        if text is not None and (text == "corpus") != is_text:
            kind = "text" if is_text else "question"
            possible = "corpus" if is_text else "answers, solutions, traces"
            yield f"arms.{name}.recipe.text: is `{text}`, but the study has {kind} tasks; possible: {possible}"


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
