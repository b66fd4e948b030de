"""A user's own task: a JSONL (or JSON, CSV, Parquet) file and a few lines of YAML.

    name: capitals
    file: capitals.jsonl              # relative to the YAML file
    question: "What is the capital of {country}?"
    answer: "{capital}"
    scorer: exact                     # exact, contains, number, math or choice

Multiple choice: `choices: options` names the column with the list of choices, and `answer` is an index from 0, a
letter, or the text of the right choice (`answer_is` says which, where a row could mean two). Then the task can be
asked by likelihood too.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError

from stillmark.errors import UserError, did_you_mean
from stillmark.study.base import Name, Strict
from stillmark.tasks.arc import choice_row
from stillmark.tasks.benchmark import Benchmark, Form, Mode, Row
from stillmark.tasks.choice_scorer import LETTERS, ChoiceScorer
from stillmark.tasks.forms import letter_forms, text_forms
from stillmark.tasks.math_scorer import MathScorer
from stillmark.tasks.number_scorer import NumberScorer, number_of
from stillmark.tasks.sources import RawRow, Source
from stillmark.tasks.verdict import Reading, Scorer


class UserTask(Strict):
    """What the YAML file may say."""

    name: Name
    file: str
    question: str
    answer: str
    choices: str | None = None
    answer_is: Literal["index", "letter", "text"] | None = None  # of multiple choice; None: whichever fits
    scorer: Literal["exact", "contains", "number", "math", "choice"] | None = None  # None: exact, or choice
    likelihood: Literal["letters", "texts"] = "letters"  # what is compared in multiple choice
    prompt: str = "Question: {question}\nAnswer:"
    worked: str | None = None  # a reply with reasoning, for examples
    instruction: str = ""
    examples: str | None = None  # a file of examples; else the other rows
    num_fewshot: Annotated[int, Field(ge=0)] = 0
    shots: Literal["by_item", "fixed"] = "by_item"
    stop: list[str] | None = None  # None: a next question
    max_new_tokens: Annotated[int, Field(gt=0)] = 256
    group: str | None = None  # column of a subject


class TextScorer:
    """The reply (or its first line, or what follows "answer is") is the target, or contains it as words."""

    version = 1

    def __init__(self, kind: Literal["exact", "contains"]) -> None:
        self.kind = kind

    def readings(self, answer: str, target: str) -> list[Reading]:
        bare = plain(answer)
        if self.kind == "contains":
            is_in = re.search(rf"(?<!\w){re.escape(plain(target))}(?!\w)", bare) is not None
            return [
                Reading(
                    extractor="contains",
                    value=answer.strip() or None,
                    is_right=is_in if bare else None,
                    is_explicit=is_in,  # a reply that was cut may yet have come to it
                )
            ]
        marked = re.findall(r"\banswer(?: is|:)[ \t]*(.+)", answer, re.IGNORECASE)
        lines = [line for line in answer.strip().splitlines() if line.strip()]
        found = {"phrase": marked[-1] if marked else None, "first_line": lines[0] if lines else None}
        return [
            Reading(
                extractor=name,
                value=text,
                is_right=None if text is None else plain(text) == plain(target),
                is_explicit=name == "phrase",
            )
            for name, text in found.items()
        ]


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" .*\"'`").casefold()


def load_user_task(path_text: str) -> Benchmark:
    """The benchmark that a YAML file describes."""
    path = Path(path_text)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        task = UserTask.model_validate(content)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        near = did_you_mean(where, UserTask.model_fields)
        raise UserError(f"{path}: `{where}`: {first['msg']}", hint=near) from error
    return benchmark_of(task, path)


def benchmark_of(task: UserTask, path: Path) -> Benchmark:
    def source(file: str) -> Source:
        return Source(files=(str((path.parent / file).resolve()),))

    def read(raw: RawRow) -> Row:
        group = str(raw[task.group]) if task.group else ""
        question, worked = filled(task.question, raw), filled(task.worked, raw) if task.worked else None
        if task.choices is not None:
            choices = [str(choice) for choice in raw[task.choices]]
            return choice_row(question, choices, correct_of(task, raw, choices), group, worked)
        answer = filled(task.answer, raw)
        if task.scorer == "number" and number_of(answer) is None:
            raise ValueError(f"the answer {answer!r} is not a number")
        return Row(question=question, target=answer, answer=answer, worked=worked, group=group)

    return Benchmark(
        name=task.name,
        source=source(task.file),
        shots=source(task.examples) if task.examples else None,
        read=read,
        scorer=scorer_of(task, path),
        forms=forms_of(task),
        num_fewshot=task.num_fewshot,
        shot_order=task.shots,
        settings={"task": task.model_dump()},
    )


def scorer_of(task: UserTask, path: Path) -> Scorer:
    kind = task.scorer or ("choice" if task.choices else "exact")
    if (kind == "choice") != (task.choices is not None):
        raise UserError(f"{path}: `scorer: choice` goes with `choices`, the column with the list of choices")
    makers: dict[str, Callable[[], Scorer]] = {
        "choice": ChoiceScorer,
        "number": NumberScorer,
        "math": MathScorer,
        "exact": lambda: TextScorer("exact"),
        "contains": lambda: TextScorer("contains"),
    }
    return makers[kind]()


def forms_of(task: UserTask) -> dict[Mode, Form]:
    def instruction(row: Row) -> str:
        return task.instruction

    if task.choices is not None:
        if task.likelihood == "letters":
            return letter_forms(instruction=instruction, max_new_tokens=task.max_new_tokens)
        return {mode: replace(form, instruction=instruction) for mode, form in text_forms().items()}
    return {
        "generation": Form(
            question=lambda row: filled(task.prompt, {"question": row.question}),
            answer=lambda row: f" {row.worked or row.answer}",
            instruction=instruction,
            stop=("\nQuestion:",) if task.stop is None else tuple(task.stop),
            max_new_tokens=task.max_new_tokens,
        )
    }


def filled(template: str, raw: RawRow) -> str:
    """The template with {column} replaced. Other braces, as in LaTeX or JSON, stay as they are."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in raw:
            columns = ", ".join(str(key) for key in raw if not str(key).startswith("_"))
            raise ValueError(f"there is no column `{name}`; there are {columns}")
        return str(raw[name])

    return re.sub(r"\{([A-Za-z_]\w*)\}", value, template).strip() if template else template


def correct_of(task: UserTask, raw: RawRow, choices: list[str]) -> int:
    """Which choice `answer` names: by index from 0, letter or text. Where these differ, the file must say which."""
    answer = filled(task.answer, raw)
    named = {
        "index": int(answer) if answer.isdecimal() and int(answer) < len(choices) else None,
        "letter": LETTERS.find(answer.upper())
        if answer.upper() in LETTERS[: len(choices)] and answer
        else None,
        "text": choices.index(answer) if choices.count(answer) == 1 else None,
    }
    if task.answer_is is not None:
        found = {named[task.answer_is]} - {None}
    else:
        found = {index for index in named.values() if index is not None}
    if not found:
        raise ValueError(f"the answer {answer!r} is none of the choices {choices}")
    if len(found) > 1:
        raise ValueError(
            f"the answer {answer!r} may be an index, a letter or a text of {choices}: say `answer_is: index`"
        )
    return next(index for index in found if index is not None)
