"""A fault of a registry file, and the line that tells a person of it: file, line, path in words, what is wrong."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stillmark.published.read import KeyPath, line_of


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fault: where in the file, and what."""

    path: KeyPath
    message: str


def schema_problems(error: ValidationError, data: Any) -> Iterator[Problem]:
    """Pydantic's errors as lines of ours; of a union's many complaints about one value, one."""
    seen: set[KeyPath] = set()
    for detail in error.errors():
        path = _clean(detail["loc"], data)
        if path in seen:
            continue
        seen.add(path)
        yield Problem(path=path, message=_schema_message(detail, path))


def _schema_message(detail: ErrorDetails, path: KeyPath) -> str:
    """What a person needs to hear instead of pydantic's own words."""
    key = path[-1] if path else ""
    match detail["type"]:
        case "missing":
            return f"missing `{key}`"
        case "extra_forbidden":
            return f"unknown key `{key}`"
        case "literal_error":
            expected = detail.get("ctx", {}).get("expected", "")
            what = "wrong unit" if key == "unit" else f"wrong `{key}`"
            return f"{what}: `{detail['input']}` is not one of {expected}"
        case "string_pattern_mismatch" if key in ("url", "items_source"):
            return f"`{detail['input']}` is not an http(s) address"
        case _:
            return f"`{key}`: {detail['msg']}, not {detail['input']!r}"


def _clean(location: tuple[str | int, ...], data: Any) -> KeyPath:
    """A path without the names that pydantic adds for the members of a union."""
    path: list[str | int] = []
    here = data
    for position, step in enumerate(location):
        is_last = position == len(location) - 1
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            if is_last and isinstance(here, dict) and not str(step).startswith(("strict", "constrained")):
                path.append(step)
            break
        path.append(step)
    return tuple(path)


def problem_line(problem: Problem, text: str, name: str, data: Any) -> str:
    """`file:line: models[0] `id`, figures[2] `params_total`, unit: what is wrong`."""
    line = line_of(text, problem.path)
    where = ", ".join(_steps(problem.path, data)) or "file"
    return f"{name}:{line}: {where}: {problem.message}"


def _steps(path: KeyPath, data: Any) -> Iterable[str]:
    """The path in words: list positions with the name of what stands there."""
    here = data
    words: list[str] = []
    for step in path:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, int):
            label = ""
            if isinstance(here, dict):
                label = (
                    here.get("id") or here.get("name") or here.get("printed") or here.get("benchmark") or ""
                )
            words[-1] += f"[{step}]" + (f" `{label}`" if label else "")
        else:
            words.append(str(step))
    return words


def joined(message: str, hint: str | None) -> str:
    return f"{message}; {hint}" if hint else message
