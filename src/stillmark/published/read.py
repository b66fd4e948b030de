"""Reading a registry file: YAML with the faults that YAML hides made loud, and each fault's line.

PyYAML keeps the last of two equal keys and reads `1e23` as text; both would be silent errors in a registry of
figures. Here the first is refused and the second is a number, as in a study file.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from stillmark.errors import UserError

# The C loader is about ten times faster; a PyYAML without libyaml still reads the file.
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KeyPath = tuple[str | int, ...]


class _StrictLoader(_BaseLoader):  # type: ignore[misc]
    """Refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """As PyYAML's, after a look at the keys."""
        keys = [key.value for key, _ in node.value]
        if len(set(keys)) != len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(
                None, None, f"the key `{twice}` stands twice in one mapping", node.start_mark
            )
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_yaml(text: str, name: str) -> Any:
    """The data in a YAML text; a `UserError` with file and line where it is not YAML."""
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{name}:{line}: not readable as YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not readable as YAML: {error}") from None


def read_text(path: Path) -> str:
    """The text of a user's file; a `UserError` where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable: {error}") from None


def line_of(text: str, path: KeyPath) -> int | None:
    """The line (from 1) where a value stands in a YAML text, or of the nearest thing around it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if node is None:
        return None
    line = node.start_mark.line + 1
    for step in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        elif isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == str(step)), None)
            if inner is None:
                break
            node = inner
        else:
            break
        line = node.start_mark.line + 1
    return line
