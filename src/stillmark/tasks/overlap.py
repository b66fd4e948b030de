"""Training text that holds evaluation items: found by equality and by shared runs of words.

Two texts are equal where they differ in case and white space alone. They share a run where 13 words in a row are the
same (GPT-3's rule, arXiv:2005.14165, appendix C): words are runs of letters and digits, in lower case, so digits
count and punctuation does not. Of an item with 8 to 12 words, all of them in a row are its run; a shorter one can
only be equal. Runs that more than 10 items share are a template's, and tell nothing (the same appendix).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
RUN_WORDS = 13
MIN_RUN_WORDS = 8
MAX_ITEMS_OF_RUN = 10
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Which evaluation item a text holds, by its place, and how that was seen."""

    kind: Literal["equal", "shared_run"]
    item: int


class EvaluationItems:
    """The prompts of evaluation items, to be looked for in training text. Instructions that all share are ignored.

    `with_runs`: False finds equal texts alone, for questions composed of few words, which share runs by chance.
    """

    def __init__(self, prompts: Iterable[str], *, with_runs: bool = True) -> None:
        self._equal: dict[str, int] = {}
        items_of_run: dict[int, list[int]] = {}  # the hash of a run -> its items, no more than needed
        self._lengths: set[int] = set()
        for item, prompt in enumerate(prompts):
            self._equal.setdefault(plain(prompt), item)
            words = words_of(prompt)
            length = min(len(words), RUN_WORDS)
            if length < MIN_RUN_WORDS or not with_runs:
                continue
            self._lengths.add(length)
            for run in set(runs(words, length)):
                items = items_of_run.setdefault(run, [])
                if len(items) <= MAX_ITEMS_OF_RUN:
                    items.append(item)
        self._item_of_run = {
            run: items[0] for run, items in items_of_run.items() if len(items) <= MAX_ITEMS_OF_RUN
        }

    def overlap(self, text: str) -> Overlap | None:
        """The first item that the text equals, or else shares a run of words with; None where there is none."""
        item = self._equal.get(plain(text))
        if item is not None:
            return Overlap(kind="equal", item=item)
        words = words_of(text)
        for length in sorted(self._lengths, reverse=True):
            for run in runs(words, length):
                item = self._item_of_run.get(run)
                if item is not None:
                    return Overlap(kind="shared_run", item=item)
        return None


@dataclass(frozen=True, kw_only=True)
class OverlapCounts:
    """How many training texts were dropped, by what was seen."""

    equal: int
    shared_run: int


def without_overlap(
    texts: Sequence[T], prompt_of: Callable[[T], str], items: EvaluationItems
) -> tuple[list[T], OverlapCounts]:
    """The training texts whose prompts hold no evaluation item, in order, and how many the others were."""
    found = [items.overlap(prompt_of(text)) for text in texts]
    kinds = [overlap.kind for overlap in found if overlap]
    kept = [text for text, overlap in zip(texts, found, strict=True) if overlap is None]
    return kept, OverlapCounts(equal=kinds.count("equal"), shared_run=kinds.count("shared_run"))


def plain(text: str) -> str:
    """In lower case, with single spaces: punctuation stays, since `3+4` and `3-4` are two questions."""
    return " ".join(text.lower().split())


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def runs(words: Sequence[str], length: int) -> Iterator[int]:
    """A 64-bit hash of each `length` words in a row."""
    for start in range(len(words) - length + 1):
        yield hash((length, *words[start : start + length]))
