"""Reads a study file and checks it whole: every fault in one go, each with its path in the file."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from stillmark.errors import UserError, did_you_mean
from stillmark.study.references import reference_faults
from stillmark.study.schema import (
    GivenModel,
    ModelSpec,
    PrunedModel,
    PublishedStudy,
    ShuffledObjects,
    Study,
    Text,
)

VARIANTS: dict[str, type[BaseModel]] = {
    "random": ModelSpec, "given": GivenModel, "pruned": PrunedModel, "shuffled_objects": ShuffledObjects, "text": Text,
}  # fmt: skip


class StudyLoader(yaml.SafeLoader):
    """YAML as people mean it: `3e12` is a number, and a key given twice is a fault and not the later one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in seen and key != "<<":
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key `{key}` is given twice", key_node.start_mark
                ) from UserError(f"line {line}")
            seen.add(key)
        return super().construct_mapping(node, deep)


StudyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_study(path: str | Path, settings: Sequence[str] = ()) -> Study | PublishedStudy:
    """The study in a file, with settings such as `models.teacher.checkpoint=DIR` put over what it says.

    Raises UserError with every fault that was found.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        near = did_you_mean(str(path), [str(p) for p in sorted(path.parent.glob("*.yaml"))])
        raise UserError(f"{path}: cannot be read: {error}", hint=near) from error
    return study_from_text(text, name=str(path), settings=settings)


def study_from_text(
    text: str, name: str = "study.yaml", settings: Sequence[str] = ()
) -> Study | PublishedStudy:
    """The study in a YAML text; `name` is what faults are reported under."""
    try:
        raw = yaml.load(text, StudyLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        raise UserError(f"{where}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{name}: not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        found = "an empty file" if raw is None else f"a {type(raw).__name__}"
        raise UserError(f"{name}: a study is a mapping of keys to values, this is {found}")
    for setting in settings:
        put_over(raw, setting)
    return checked_study(raw, name)


def put_over(raw: dict[str, Any], setting: str) -> None:
    """Sets one value of a study by its path: `a.b=value`, the value in YAML; a list is walked by place."""
    path, equals, value = setting.partition("=")
    *outer, last = path.split(".")
    place: Any = raw
    try:
        for part in outer:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if not equals or not isinstance(place, (dict, list)):
            raise KeyError(path)
        key: Any = int(last) if isinstance(place, list) else last
        place[key] = yaml.load(value, StudyLoader)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        hint = "give the path of a key in the file, such as models.teacher.checkpoint=DIR"
        raise UserError(f"--set {setting}: the study has no `{path}`", hint) from error


def checked_study(raw: dict[str, Any], name: str) -> Study | PublishedStudy:
    """The study that plain values say. Raises UserError with every fault, under `name`."""
    kind: type[Study] | type[PublishedStudy] = PublishedStudy if "published" in raw else Study
    faults: list[str] = []
    study = None
    try:
        study = kind.model_validate(raw)
    except ValidationError as error:
        faults += [describe(fault, kind) for fault in error.errors()]
    if kind is Study:
        faults += reference_faults(raw)
    if faults or study is None:
        lines = "\n".join(f"  {fault}" for fault in faults)
        raise UserError(f"{name}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n{lines}")
    return study


def describe(fault: Any, kind: type[BaseModel]) -> str:
    """One line for one of pydantic's errors: the path in the file, what is wrong, what was possible."""
    location = fault["loc"]
    is_tag = len(location) > 2 and location[0] in ("tasks", "models") and location[2] in VARIANTS
    shown_location = (*location[:2], *location[3:]) if is_tag else location
    path = ".".join(str(part) for part in shown_location if part != "[key]")
    fault_kind, value, context = fault["type"], fault.get("input"), fault.get("ctx", {})
    if fault_kind == "extra_forbidden":
        possible = possible_keys(kind, location[:-1])
        near = did_you_mean(str(location[-1]), possible)
        return f"{path}: unknown key; " + (near or "possible: " + ", ".join(possible))
    if fault_kind == "missing":
        return f"{path}: is missing"
    if fault_kind == "literal_error":
        possible_values = [part.strip(" '") for part in context["expected"].replace(" or ", ", ").split(",")]
        near = did_you_mean(str(value), possible_values)
        return f"{path}: `{value}` is not possible; " + (near or "possible: " + ", ".join(possible_values))
    message = fault["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    if message == fault["msg"]:
        return f"{path}: {message}"
    is_nested = isinstance(value, (dict, list))
    shown = f"a {'mapping' if isinstance(value, dict) else 'list'}" if is_nested else repr(value)
    return f"{path}: should be {message}, is {shown}"


def possible_keys(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the schema knows at a place in the file, found by walking down its annotations."""
    model: Any = kind
    for part in location:
        if part in VARIANTS:
            model = VARIANTS[str(part)]
            continue
        fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
        annotation = fields[str(part)].annotation if str(part) in fields else None
        inner = list(models_in(annotation)) if annotation is not None else []
        model = inner[0] if inner else model
    return list(model.model_fields)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that an annotation such as `dict[str, Arm]` or `Traces | None` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from models_in(argument)
