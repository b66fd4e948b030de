"""A response cache: replies keyed by the model's whole identity, the prompt as sent, and how it was sampled.

lm-evaluation-harness's cache leaves the model out of the key (#2715, #4063), so one model is graded on another's
answers. Here the key is a hash of everything that a reply depends on.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from stillmark.backends.protocol import Backend, Loglikelihood, Reply, Sampling, StopReason
from stillmark.backends.work import Work
from stillmark.errors import UserError
from stillmark.records import canonical

T = TypeVar("T")


class CachedBackend:
    """A backend that asks the engine only what it was not asked before. Errors are never stored."""

    def __init__(self, backend: Backend, identity: Mapping[str, Any], path: Path) -> None:
        self.backend = backend
        self.identity = canonical(dict(identity))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=60)
        try:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
            )
        except sqlite3.DatabaseError as error:
            raise UserError(f"{path}: not a response cache: {error}", hint="give another --cache") from error
        self.is_cached: list[bool] = []  # of the latest call, request by request

    @property
    def work(self) -> Work | None:
        """The engine's: what was found in the cache was not run."""
        return self.backend.work

    def generate(self, prompts: Sequence[str], sampling: Sampling) -> list[list[Reply]]:
        asked = [self._key("generate", prompt, asdict(sampling)) for prompt in prompts]
        return self._answer(
            asked,
            lambda missing: self.backend.generate([prompts[i] for i in missing], sampling),
            lambda replies: (
                None
                if any(r.stop_reason == StopReason.ERROR for r in replies)
                else [asdict(r) for r in replies]
            ),
            lambda value: [Reply(**{**r, "stop_reason": StopReason(r["stop_reason"])}) for r in value],
        )

    def loglikelihood(self, requests: Sequence[tuple[str, str]]) -> list[Loglikelihood]:
        asked = [self._key("loglikelihood", *request) for request in requests]
        return self._answer(
            asked,
            lambda missing: self.backend.loglikelihood([requests[i] for i in missing]),
            lambda scored: None if scored.error else asdict(scored),
            lambda value: Loglikelihood(**value),
        )

    def _key(self, *parts: Any) -> str:
        return hashlib.sha256(canonical([self.identity, *parts]).encode()).hexdigest()

    def _answer(
        self,
        keys: Sequence[str],
        ask: Callable[[list[int]], Sequence[T]],
        write: Callable[[T], Any],
        read: Callable[[Any], T],
    ) -> list[T]:
        known: dict[int, T] = {}
        for index, key in enumerate(keys):
            row = self._connection.execute("SELECT value FROM replies WHERE key = ?", (key,)).fetchone()
            if row is not None:
                known[index] = read(json.loads(row[0]))
        missing = [index for index in range(len(keys)) if index not in known]
        self.is_cached = [index in known for index in range(len(keys))]
        if missing:
            for index, result in zip(missing, ask(missing), strict=True):
                known[index] = result
            values = [(keys[index], write(known[index])) for index in missing]
            with self._connection:
                self._connection.executemany(
                    "INSERT OR IGNORE INTO replies VALUES (?, ?)",
                    [(key, canonical(value)) for key, value in values if value is not None],
                )
        return [known[index] for index in range(len(keys))]
