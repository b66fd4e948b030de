"""Thinking taken apart from the answer, and a trace cut at a smaller budget.

A reasoning model writes `<think> ... </think>` and then its answer. Some chat templates open the block in the
prompt, so that the reply begins inside it: then only the closing tag is seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ThinkingTags:
    """The marks around thinking."""

    opening: str = "<think>"
    closing: str = "</think>"


DEFAULT_TAGS = ThinkingTags()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A reply in two parts. `is_closed` is False where the reply ends while still thinking: no answer."""

    thinking: str
    answer: str
    is_closed: bool


def starts_thinking(sent: str, tags: ThinkingTags | None) -> bool:
    """The prompt ends by opening a thinking block, as some chat templates do."""
    return tags is not None and sent.rstrip().endswith(tags.opening)


def split_thinking(
    text: str, tags: ThinkingTags | None = DEFAULT_TAGS, *, starts_thinking: bool = False
) -> Parts:
    """Thinking and answer of a reply; `starts_thinking`: the prompt has opened the block.

    A closing tag without an opening one ends thinking that began with the reply. Several blocks are joined;
    what stands before the first opening tag is part of the answer. Without tags the whole reply is the answer.
    """
    if tags is None:
        return Parts(thinking="", answer=text, is_closed=True)
    first_open, first_close = text.find(tags.opening), text.find(tags.closing)
    if first_close >= 0 and (first_open < 0 or first_close < first_open):
        starts_thinking = True
    thinking: list[str] = []
    answer: list[str] = []
    is_inside, rest = starts_thinking, text
    if starts_thinking:
        rest = rest.removeprefix(tags.opening)
    while True:
        part, tag, rest = rest.partition(tags.closing if is_inside else tags.opening)
        (thinking if is_inside else answer).append(part)
        if not tag:
            break
        is_inside = not is_inside
    # Spaces before the first word may be code's indentation; the line breaks after a block are no part of it
    whole = "".join(answer)
    return Parts(
        thinking="".join(thinking), answer=whole.lstrip("\n") if thinking else whole, is_closed=not is_inside
    )


BUDGETS = tuple(2**power for power in range(4, 18))  # tokens: 16 to 131,072


def budget_cuts(token_ends: Sequence[int], num_tokens: int) -> dict[int, int]:
    """For each budget below `num_tokens`, the number of characters that so many tokens had written.

    `token_ends[i]` is the length of the text after i + 1 tokens. Empty where it does not account for all the
    tokens: then the cut would be a guess.
    """
    if not num_tokens - 1 <= len(token_ends) <= num_tokens:  # the end token writes nothing
        return {}
    return {budget: token_ends[budget - 1] for budget in BUDGETS if budget < num_tokens}
