"""Documents of a study's text task: text files, and JSONL files of texts, of prompts with responses, or of chats.

    - file: corpus.txt                  # one document; with `held_out_share` its last lines are another, held out
    - file: pages.jsonl                 # a document a line: its field `text`
    - file: traces.jsonl                # a document for each entry of `code`, where that is a list
      prompt: question
      response: code
    - file: chats.jsonl                 # a list of {role, content}: the last assistant turn is the response
      text: messages

Where no field is named, those called `messages`, `conversations` (ShareGPT), `text`, or a prompt with its response are
taken: `prompt` and `response` or `completion`, `instruction` (with `input`, Alpaca) and `output`. Documents of blanks
alone are left out. Relative paths are relative to the current directory.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from stillmark.errors import UserError, did_you_mean
from stillmark.study.schema import TextFile
from stillmark.tasks.overlap import MIN_RUN_WORDS, plain, words_of

ALPACA = {"prompt": "instruction", "response": "output"}
USUAL_FIELDS = (  # the second ways are looked at where none of the first is there
    ({"text": "messages"}, {"text": "text"}, {"prompt": "prompt", "response": "response"}),
    ({"text": "conversations"}, ALPACA, {"prompt": "prompt", "response": "completion"}),
)
AS_JSONL = {  # Python that prints a file's rows, an object a line
    ".csv": "import csv, json; [print(json.dumps(row)) for row in csv.DictReader(open('{file}'))]",
    ".json": "import json; [print(json.dumps(row)) for row in json.load(open('{file}'))]",
    ".parquet": "import pandas; print(pandas.read_parquet('{file}').to_json(orient='records', lines=True))",
}
ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names
KINDS = {str: "text", list: "a list", dict: "an object", type(None): "null", bool: "true or false"}


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text to learn from: all of it (`prompt` is empty), or a response to a prompt that is read without a loss.

    `turns` are the chat's (role, content) before the response, for a tokenizer with a chat template; `prompt` is
    then their contents, parted by empty lines. `line`, where it begins, counts from 1.
    """

    prompt: str
    response: str
    file: str
    line: int
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        """The turns before the response: a prompt without turns is the user's; none of a document that is all text."""
        return self.turns or ((("user", self.prompt),) if self.prompt else ())


def read_documents(files: Sequence[TextFile]) -> tuple[list[Document], list[Document]]:
    """The documents to train on and those held out, in the files' order. Raises UserError: file, line, what is wrong.

    Which of a JSONL file's are held out depends on the prompt (or text) alone: all responses to one prompt are on one
    side. Where a share of a few prompts would hold none out, the first by that hash is. Of a text file its end is held
    out (`parts_of_text`).
    """
    train: list[Document] = []
    held_out: list[Document] = []
    for file in files:
        documents = list(islice(documents_of(file), file.max_documents))
        if not documents:
            raise UserError(f"{file.file}: has no document: every text in it is blank")
        if Path(file.file).suffix == ".txt" and file.held_out_share:
            before, after = parts_of_text(file.file, documents[0], file.held_out_share)
            train += [before] if before.response.strip() else []
            held_out.append(after)
            continue
        places = [place_of(document) for document in documents]
        share = file.held_out_share
        if share and min(places) < max(places):
            share = max(share, math.nextafter(min(places), 2))
        for document, place in zip(documents, places, strict=True):
            (held_out if place < share else train).append(document)
    shares = [file.held_out_share for file in files]
    for side, name in ((train, "train on"), (held_out, "hold out")):
        if not side and any(shares):
            raise UserError(
                f"{', '.join(file.file for file in files)}: no document is left to {name}: of "
                f"{len(train) + len(held_out)}, `held_out_share` {max(shares)} keeps {len(held_out)} from training",
                hint="change `held_out_share`, or put the held-out documents in a file of their own under `test`",
            )
    return train, held_out


def place_of(document: Document) -> float:
    """A hash of the prompt (or the text, where there is none), as a number from 0 to 1: below the share it is held out.

    Case and white space do not count, so that two writings of one prompt are on one side.
    """
    text = " ".join((document.prompt or document.response).lower().split())
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def parts_of_text(file: str, document: Document, share: float) -> tuple[Document, Document]:
    """A text file's beginning, to train on, and its end, held out: whole lines, as near to the share as they come.

    A line of the end that the beginning has too is left out of the beginning, unless it is one of a few words (a
    heading, a bracket of code), which repeat everywhere.
    """
    content = document.response
    _, *starts = [line.start() for line in re.finditer(r"^.*\S", content, re.MULTILINE)]
    if not starts:
        raise UserError(f"{file}: is a single line, so no share of its lines can be held out",
                        hint="put the held-out text in a file of its own")  # fmt: skip
    cut = min(starts, key=lambda start: abs(start - (1 - share) * len(content)))
    end = content[cut:]
    known = {plain(line) for line in end.split("\n") if len(words_of(line)) >= MIN_RUN_WORDS}
    beginning = "\n".join(line for line in content[:cut].split("\n") if plain(line) not in known)
    return replace(document, response=beginning), replace(
        document, response=end, line=1 + content.count("\n", 0, cut)
    )


def documents_of(file: TextFile) -> Iterator[Document]:
    """All documents of one file that are not blank."""
    path = Path(file.file)
    fields = {name: getattr(file, name) for name in ("text", "prompt", "response") if getattr(file, name)}
    if path.suffix not in (".txt", ".jsonl"):
        written = AS_JSONL.get(path.suffix)
        raise UserError(
            f"{file.file}: is neither .txt (one document) nor .jsonl (an object a line)",
            written and f'python -c "{written.format(file=file.file)}" > {path.stem}.jsonl',
        )
    if "text" in fields and len(fields) > 1:
        raise UserError(
            f"{file.file}: `text` is a whole document: it goes with neither `prompt` nor `response`"
        )
    if "prompt" in fields and "response" not in fields:
        raise UserError(f"{file.file}: `prompt` needs `response`, the field with what is written after it")
    content = content_of(path)
    if path.suffix == ".txt":
        if fields:
            raise UserError(
                f"{file.file}: `{next(iter(fields))}` is of .jsonl files; a .txt file has no fields"
            )
        yield from [Document(prompt="", response=content, file=path.name, line=1)] if content.strip() else []
        return
    for number, line in enumerate(content.split("\n"), start=1):  # not splitlines: JSON may hold U+2028
        if line.strip():
            yield from documents_of_row(RowReader(file.file, number, line), fields)


def content_of(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        where = f" (in {Path.cwd()})" if not path.is_absolute() else ""
        if not path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {path.parent}{where}") from error
        near = did_you_mean(path.name, (other.name for other in path.parent.iterdir()))
        raise UserError(f"{path}: no such file{where}", hint=near) from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if not raw.strip():
        raise UserError(f"{path}: is empty")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        message = f"{path}, line {line}: is not UTF-8: byte {raw[error.start]:#04x}"
        raise UserError(message, hint=f"if it is Latin-1: iconv -f latin1 -t utf-8 {path}") from error


class RowReader:
    """One line of a JSONL file; every fault found in it names the file and the line."""

    def __init__(self, file: str, line: int, text: str) -> None:
        self.file, self.line = file, line
        try:
            self.row = json.loads(text)
        except json.JSONDecodeError as error:
            raise self.fault(f"is not JSON: {error.msg} at column {error.colno}") from error
        except (ValueError, RecursionError) as error:  # thousands of digits; brackets in brackets
            raise self.fault(f"cannot be read: {str(error).partition(';')[0]}") from error
        if not isinstance(self.row, dict):
            raise self.fault(f"is {kind_of(self.row)}, not an object with fields")

    def fault(self, message: str, hint: str | None = None) -> UserError:
        return UserError(f"{self.file}, line {self.line}: {message}", hint)

    def value(self, field: str) -> Any:
        if field not in self.row:
            there = ", ".join(map(str, self.row)) or "none"
            raise self.fault(f"no field `{field}`; there are: {there}", did_you_mean(field, self.row))
        return self.row[field]

    def text(self, field: str, value: Any) -> str:
        if not isinstance(value, str):
            raise self.fault(f"`{field}` is {kind_of(value)}, not text")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            half = f"\\u{ord(value[error.start]):04x}"
            raise self.fault(f"`{field}` is not text: {half} at character {error.start + 1} is half a pair",
                             "such a text was cut inside an emoji, say: leave the half out") from error  # fmt: skip
        return value

    def chat(self, field: str, value: Any) -> list[tuple[str, str]]:
        """The turns of a chat as (role, content)."""
        turns = []
        for place, turn in enumerate(value):
            keys = turn.keys() if isinstance(turn, dict) else ()
            role, content = ("from", "value") if "from" in keys else ("role", "content")
            if not {role, content} <= set(keys):
                shown = f" with {', '.join(keys)}" if keys else ""
                raise self.fault(
                    f"`{field}[{place}]` is {kind_of(turn)}{shown}, not one with role and content"
                )
            if turn[content] is None:
                raise self.fault(f"`{field}[{place}].{content}` is null, not text",
                                 "of a tool call, say: write it as text, or leave the chat out")  # fmt: skip
            said, where = self.text(f"{field}[{place}].{role}", turn[role]), f"{field}[{place}].{content}"
            turns.append((ROLES.get(said, said), self.text(where, joined_parts(turn[content]))))
        return turns


def joined_parts(content: Any) -> Any:
    """The text of a turn that is given as a list of texts; anything else as it is."""
    if isinstance(content, list) and all(
        isinstance(part, dict) and part.get("type") == "text" for part in content
    ):
        return "".join(str(part.get("text", "")) for part in content)
    return content


def kind_of(value: Any) -> str:
    return KINDS.get(type(value), "a number")


def is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def documents_of_row(row: RowReader, named: dict[str, str]) -> Iterator[Document]:
    fields = named or usual_fields(row)
    field = fields.get("response") or fields["text"]
    prompt, turns = prompt_of(row, fields["prompt"]) if "prompt" in fields else ("", ())
    if fields is ALPACA and row.row.get("input"):
        prompt = "\n\n".join(filter(str.strip, (prompt, row.text("input", row.row["input"]))))
    value = row.value(field)
    for entry in value if isinstance(value, list) and not is_chat(value) else [value]:
        if is_chat(entry):
            before, response = split_chat(row, field, entry)
            before = (*turns, *before)
            document = document_of(row, contents(before), response, before)
        else:
            document = document_of(row, prompt, row.text(field, entry), turns)
        if document.response.strip():
            yield document


def usual_fields(row: RowReader) -> dict[str, str]:
    """The fields of the usual names, where there is one way to take them."""
    found = ([way for way in ways if set(way.values()) <= row.row.keys()] for ways in USUAL_FIELDS)
    possible = next(filter(None, found), [])
    if len(possible) == 1:
        return possible[0]
    there = ", ".join(map(str, row.row)) or "none"
    said = "could be several kinds of document" if possible else "has none of the usual fields"
    raise row.fault(
        f"{said}; there are: {there}", "name the field with `text`, or with `prompt` and `response`"
    )


def prompt_of(row: RowReader, field: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    value = row.value(field)
    if is_chat(value):
        turns = tuple(row.chat(field, value))
        return contents(turns), turns
    return row.text(field, value), ()


def split_chat(row: RowReader, field: str, value: Any) -> tuple[tuple[tuple[str, str], ...], str]:
    """The turns before the last assistant's, and what it says; what comes after that is no part of the document."""
    turns = row.chat(field, value)
    last = max((place for place, (role, _) in enumerate(turns) if role == "assistant"), default=None)
    if last is None:
        roles = ", ".join(dict.fromkeys(role for role, _ in turns))
        raise row.fault(f"`{field}` has no turn of the role assistant to learn; there are: {roles}")
    return tuple(turns[:last]), turns[last][1]


def contents(turns: Sequence[tuple[str, str]]) -> str:
    return "\n\n".join(content for _, content in turns)


def document_of(row: RowReader, prompt: str, response: str, turns: tuple[tuple[str, str], ...]) -> Document:
    return Document(prompt=prompt, response=response, file=Path(row.file).name, line=row.line, turns=turns)
