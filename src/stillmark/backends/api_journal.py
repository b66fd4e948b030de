"""Replies that were paid for, kept in a file as each arrives: a run that was cut off asks only for the rest.

One JSON line a reply, written and flushed before the reply is used. A line that a crash cut short is dropped when
the file is opened again. The file is locked while it is open, since two runs with one journal would both pay.
"""

import fcntl
import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from stillmark.backends.protocol import Loglikelihood, Reply, StopReason
from stillmark.errors import UserError


class Journal(Protocol):
    """Where finished replies are kept; keyed by the whole request."""

    def get(self, key: str) -> Reply | None: ...

    def get_score(self, key: str) -> Loglikelihood | None: ...

    def put(self, key: str, answer: Reply | Loglikelihood) -> None: ...


class MemoryJournal:
    """Kept for as long as the backend is: the same request is not paid for twice in one run."""

    def __init__(self) -> None:
        self._answers: dict[str, Reply | Loglikelihood] = {}

    def get(self, key: str) -> Reply | None:
        answer = self._answers.get(key)
        return answer if isinstance(answer, Reply) else None

    def get_score(self, key: str) -> Loglikelihood | None:
        answer = self._answers.get(key)
        return answer if isinstance(answer, Loglikelihood) else None

    def put(self, key: str, answer: Reply | Loglikelihood) -> None:
        self._answers[key] = answer


class FileJournal(MemoryJournal):
    """Kept in a file, for a run that is started again."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        self._lock = threading.Lock()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UserError(
                f"{path} is in use by another run", "wait for it, or give another journal"
            ) from error
        try:
            self._load()
        except BaseException:
            self._file.close()
            raise

    def put(self, key: str, answer: Reply | Loglikelihood) -> None:
        kind = "reply" if isinstance(answer, Reply) else "score"
        line = json.dumps({"key": key, kind: asdict(answer)}).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            super().put(key, answer)

    def close(self) -> None:
        self._file.close()  # and with it the lock

    def _load(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        end = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:end].splitlines(), start=1):
            try:
                entry = json.loads(line)
                answer = _answer(entry)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}, line {number}: not a reply ({error})",
                    "the file was changed or is another version's: mend the line, or give another journal",
                ) from error
            super().put(entry["key"], answer)
        if end < len(content):
            self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)


def _answer(entry: dict[str, Any]) -> Reply | Loglikelihood:
    """What a line of the file holds; KeyError, TypeError or ValueError where it is none of ours."""
    if "score" in entry:
        return Loglikelihood(**entry["score"])
    fields = entry["reply"]
    return Reply(**{**fields, "stop_reason": StopReason(fields["stop_reason"])})
