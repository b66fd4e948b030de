"""When a row is finished: an end token, a stop string, or the length."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stillmark.backends.tokens import TextCodec

WINDOW_SLACK_TOKENS = 16


@dataclass(kw_only=True)
class Written:
    """What one row generated."""

    ids: list[int] = field(default_factory=list)
    is_stopped: bool = False  # by an end token or a stop string
    prefill_seconds: float | None = None
    decode_seconds: float | None = None


class StopRule:
    """End tokens and stop strings, checked row by row at little cost.

    A stop string is complete only when its last character appears. So a row's text is decoded only after a
    token whose own text holds such a character (or is not a whole character by itself), and then only its
    tail.
    """

    def __init__(self, codec: TextCodec, end_ids: frozenset[int], stop: Sequence[str]) -> None:
        self._codec = codec
        specials = {text: codec.special_id(text) for text in stop}
        # A stop string that is one special token never shows in decoded text: it is an end token
        self.end_ids = end_ids | {token_id for token_id in specials.values() if token_id is not None}
        self.strings = tuple(text for text in stop if text and specials[text] is None)
        self._last_characters = {text[-1] for text in self.strings}
        # Some tokenizers drop a leading space from a token decoded alone: do not trust single tokens there
        self._always_look = any(character.isspace() for character in self._last_characters)
        self._may_end: dict[int, bool] = {}
        longest = max((len(text) for text in self.strings), default=0)
        self._window_tokens = 4 * longest + WINDOW_SLACK_TOKENS

    def stops_at(self, ids: Sequence[int]) -> bool:
        """Whether the last of these generated ids ends the row."""
        last = ids[-1]
        if last in self.end_ids:
            return True
        if not self.strings or not self._may_complete(last):
            return False
        tail = self._codec.decode(ids[-self._window_tokens :])
        return any(text in tail for text in self.strings)

    def reply_text(self, ids: Sequence[int]) -> str:
        """The text before the first stop string, and without the end token."""
        text = self._codec.decode(ids[:-1] if ids and ids[-1] in self.end_ids else ids)
        cuts = [position for string in self.strings if (position := text.find(string)) >= 0]
        return text[: min(cuts)] if cuts else text

    def _may_complete(self, token_id: int) -> bool:
        if self._always_look:
            return True
        known = self._may_end.get(token_id)
        if known is None:
            text = self._codec.token_text(token_id)
            known = "�" in text or not text or any(c in text for c in self._last_characters)
            self._may_end[token_id] = known
        return known


def end_ids_of(model: Any, tokenizer: Any) -> frozenset[int]:
    """The end tokens that the model's generation settings and the tokenizer name."""
    named = [getattr(getattr(model, "generation_config", None), "eos_token_id", None), tokenizer.eos_token_id]
    ids: set[int] = set()
    for value in named:
        if isinstance(value, int):
            ids.add(value)
        elif value is not None:
            ids |= {int(item) for item in value}
    return frozenset(ids)
