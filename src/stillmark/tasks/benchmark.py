"""A benchmark: rows of one schema, the prompt that each makes, and the scorer.

A benchmark may be asked in two modes: by generation (the model writes, the scorer reads) and by loglikelihood (the
choices' probabilities are compared). Both share rows and item ids, so an API model that can only write and a local
model can be compared pairwise on the same items.
"""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from stillmark.errors import UserError, did_you_mean
from stillmark.records import ItemRecord
from stillmark.tasks.sources import Generated, RawRow, Source, load
from stillmark.tasks.verdict import Scorer

T = TypeVar("T")
Mode = Literal["generation", "loglikelihood"]
Shots = Literal["by_item", "fixed"]
LikelihoodRule = Literal["sum", "per_character"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One question. `choices` and `correct` are those of multiple choice; `worked` is a reply with reasoning."""

    question: str
    target: str  # all that the scorer needs
    answer: str  # as a reply
    worked: str | None = None
    choices: tuple[str, ...] = ()
    group: str = ""  # subject or sub-task
    instruction: str = ""  # that belongs to the row's group


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a row is put to a model in one mode."""

    question: Callable[[Row], str]
    answer: Callable[[Row], str]  # what a few-shot example shows, with the space before it
    instruction: Callable[[Row], str] = lambda row: ""
    zero_shot_instruction: str = ""  # how to answer, where no example shows it
    chat_instruction: str = ""  # in a chat template only
    stop: tuple[str, ...] = ()
    chat_stop: tuple[str, ...] | None = None  # in a chat template; None: the same
    max_new_tokens: int = 0
    continuations: Callable[[Row], tuple[str, ...]] = lambda row: ()
    rule: LikelihoodRule = "sum"  # by which likelihoods are compared first


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A named benchmark: `forms` says in which modes it can be asked, the usual one first."""

    name: str
    source: Source | Generated
    read: Callable[[RawRow], Row | None]  # None: the row is not part of this split
    scorer: Scorer
    forms: dict[Mode, Form]
    shots: Source | None = None  # where examples come from; None: the benchmark's own other rows
    read_shots: Callable[[RawRow], list[Row]] | None = None  # None: as `read`
    num_fewshot: int = 0  # the usual number
    shot_order: Shots = "by_item"
    version: int = 1  # raised when prompts change
    settings: dict[str, Any] = field(default_factory=dict)
    group: str | None = None  # only this subject

    @property
    def usual_mode(self) -> Mode:
        return next(iter(self.forms))

    def form(self, mode: Mode | None) -> tuple[Mode, Form]:
        mode = mode or self.usual_mode
        if mode not in self.forms:
            raise UserError(f"{self.name} cannot be asked by {mode}", hint=f"it has {', '.join(self.forms)}")
        return mode, self.forms[mode]


class BenchmarkData:
    """A benchmark with its rows read: items, prompts and examples. `origin` says where from."""

    def __init__(self, benchmark: Benchmark, data: Path | None) -> None:
        self.benchmark = benchmark
        self.data = data
        loaded = load(benchmark.source, data, benchmark.name)
        rows = [row for raw in loaded.rows if (row := self._read(benchmark.read, raw)) is not None]
        self.rows = [row for row in rows if benchmark.group in (None, row.group)]
        if not self.rows:
            groups = sorted({row.group for row in rows})
            near = did_you_mean(benchmark.group or "", groups)
            raise UserError(
                f"{benchmark.name}: no rows of `{benchmark.group}`; there are {', '.join(groups)}", hint=near
            )
        self.origin: dict[str, Any] = {"samples": loaded.origin}
        self.item_ids = item_ids(benchmark.name.partition(":")[0], self.rows)

    def _read(self, reader: Callable[[RawRow], T], raw: RawRow) -> T:
        try:
            return reader(raw)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            shown = str({key: str(value)[:60] for key, value in raw.items()})[:400]
            raise UserError(
                f"{self.benchmark.name}: a row does not have the expected columns: {error!r}\n{shown}"
            ) from error

    @cached_property
    def pool(self) -> list[tuple[str, Row]]:
        """(id, row) of every row that can be an example."""
        benchmark = self.benchmark
        if benchmark.shots is None:
            return list(zip(self.item_ids, self.rows, strict=True))
        loaded = load(benchmark.shots, self.data, f"{benchmark.name} (examples)")
        self.origin["examples"] = loaded.origin
        read_shots = benchmark.read_shots or (lambda raw: [row] if (row := benchmark.read(raw)) else [])
        rows = [row for raw in loaded.rows for row in self._read(read_shots, raw)]
        return list(zip(item_ids(benchmark.name.partition(":")[0], rows), rows, strict=True))

    @cached_property
    def _pool_of_group(self) -> dict[str, list[tuple[str, Row]]]:
        groups: dict[str, list[tuple[str, Row]]] = {}
        for entry in self.pool:
            groups.setdefault(entry[1].group, []).append(entry)
        return groups

    def examples(self, index: int, count: int, order: Shots) -> list[Row]:
        """The examples of one item: they depend on the item and the pool alone, not on the run.

        `fixed`: the pool's first; `by_item`: drawn by the item's id. Never the item itself.
        """
        if count == 0:
            return []
        own_id, row = self.item_ids[index], self.rows[index]
        candidates = self._pool_of_group.get(row.group) or self.pool
        others = [other for other_id, other in candidates if other.question != row.question]
        if len(others) < count:
            raise UserError(
                f"{self.benchmark.name}: {count} examples asked for, there are {len(others)}",
                hint=f"give --num-fewshot {len(others)} or fewer",
            )
        return others[:count] if order == "fixed" else random.Random(own_id).sample(others, count)

    def prompt(self, index: int, mode: Mode, count: int, order: Shots, *, is_chat: bool = False) -> str:
        """The text that is put to the model, before any chat template."""
        _, form = self.benchmark.form(mode)
        row = self.rows[index]
        shots = self.examples(index, count, order)
        instruction = form.instruction(shots[0] if shots and not row.instruction else row)
        more = [form.chat_instruction if is_chat else "", "" if shots else form.zero_shot_instruction]
        instruction = "\n".join(filter(None, [instruction, *more]))
        parts = [instruction] if instruction else []
        parts += [form.question(shot) + form.answer(shot) for shot in shots]
        return "\n\n".join([*parts, form.question(row)])

    def item(self, index: int) -> ItemRecord:
        row = self.rows[index]
        return ItemRecord(
            item_id=self.item_ids[index],
            task=self.benchmark.name.partition(":")[0] + (f":{row.group}" if row.group else ""),
            level=0,
            prompt=row.question,
            target=row.target,
        )

    def chosen(self, limit: int | None) -> list[int]:
        """Indices of the rows to ask: all, or `limit` picked by their ids, the same whatever the model.

        A smaller limit's items are among a larger one's; no subject is favoured for being first in the file.
        """
        indices = range(len(self.rows))
        if limit is None or limit >= len(self.rows):
            return list(indices)
        return sorted(sorted(indices, key=lambda index: self.item_ids[index])[:limit])

    @property
    def chance(self) -> float | None:
        """Accuracy of a guess among the choices; None where answers are open."""
        return self.chance_of(range(len(self.rows)))

    def chance_of(self, indices: Sequence[int]) -> float | None:
        """The same, of some of the rows."""
        rows = [self.rows[index] for index in indices]
        if not all(row.choices for row in rows):
            return None
        return sum(1 / len(row.choices) for row in rows) / len(rows)


def item_ids(task: str, rows: Sequence[Row]) -> list[str]:
    """A hash of each question, its choices and its target; a question that comes again is counted in it."""
    seen: dict[str, int] = {}
    ids = []
    for row in rows:
        text = "\0".join((task, row.group, row.question, *row.choices, row.target))
        seen[text] = seen.get(text, 0) + 1
        again = f"\0{seen[text]}" if seen[text] > 1 else ""
        ids.append(hashlib.sha256((text + again).encode()).hexdigest()[:20])
    return ids
