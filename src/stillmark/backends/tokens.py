"""Text to token ids and back, in the way that scores depend on: what is put before a prompt, and where a
continuation begins. The rules are those of lm-evaluation-harness (`TemplateLM._encode_pair`), so that
log-likelihoods can be compared with published ones.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from stillmark.errors import UserError

TokenIds = tuple[int, ...]


class TextCodec:
    """A tokenizer with the special tokens that it puts before a text, never twice and never after it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.prefix_ids = _special_ids_before(tokenizer)
        self._token_texts: dict[int, str] = {}

    def encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Token ids of each text. The prefix (such as BOS) is added unless the text already begins with it."""
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [self._with_prefix(tuple(ids)) for ids in encoded]

    def encode_prompts(self, prompts: Sequence[str]) -> list[TokenIds]:
        """As `encode`, and an empty prompt becomes the one token a model can start from (BOS, or else EOS)."""
        return [ids or self._start_ids() for ids in self.encode(prompts)]

    def encode_pairs(self, requests: Sequence[tuple[str, str]]) -> list[tuple[TokenIds, TokenIds]]:
        """(prompt ids, continuation ids) of each request.

        Spaces at the end of a prompt go to the continuation, and the continuation's tokens are those of the
        whole text after as many as the prompt alone has. Both as lm-evaluation-harness does.
        """
        pairs = [_move_spaces(prompt, continuation) for prompt, continuation in requests]
        prompts = list(dict.fromkeys(prompt for prompt, _ in pairs if prompt))
        ids_of_prompt = dict(zip(prompts, self.encode(prompts), strict=True))
        wholes = list(dict.fromkeys(prompt + continuation for prompt, continuation in pairs))
        ids_of_whole = dict(zip(wholes, self.encode(wholes), strict=True))
        result = []
        for prompt, continuation in pairs:
            whole_ids = ids_of_whole[prompt + continuation]
            if prompt:
                prompt_ids = ids_of_prompt[prompt]
                continuation_ids = whole_ids[len(prompt_ids) :]
            else:
                prompt_ids = self._start_ids()
                has_prefix = whole_ids[: len(prompt_ids)] == prompt_ids
                continuation_ids = whole_ids[len(prompt_ids) :] if has_prefix else whole_ids
            if not continuation_ids:
                raise UserError(
                    f"the continuation {continuation!r} has no tokens of its own after the prompt that ends "
                    f"in {prompt[-40:]!r}",
                    "give a continuation with at least one token, such as one that begins with a space",
                )
            result.append((prompt_ids, continuation_ids))
        return result

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids, without special tokens."""
        text: str = self.tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def token_text(self, token_id: int) -> str:
        """The text of one token by itself; kept, since a run meets few of a vocabulary's tokens."""
        text = self._token_texts.get(token_id)
        if text is None:
            text = self._token_texts[token_id] = self.decode([token_id])
        return text

    def special_id(self, text: str) -> int | None:
        """The id of a text that is exactly one special token, such as `<|im_end|>`, or None."""
        if text not in self.tokenizer.all_special_tokens:
            return None
        token_id: int = self.tokenizer.convert_tokens_to_ids(text)
        return token_id

    def _with_prefix(self, ids: TokenIds) -> TokenIds:
        if not ids or ids[: len(self.prefix_ids)] == self.prefix_ids:
            return ids
        return self.prefix_ids + ids

    def _start_ids(self) -> TokenIds:
        if self.prefix_ids:
            return self.prefix_ids
        for token_id in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token_id is not None:
                return (int(token_id),)
        raise UserError(
            "an empty prompt has no token to start from: the tokenizer has neither a BOS nor an EOS token",
            "begin each prompt with some text",
        )


def _special_ids_before(tokenizer: Any) -> TokenIds:
    """What the tokenizer puts before a text by itself. What it puts after (EOS) would end the prompt: left
    out.
    """
    bare = list(tokenizer(["a"], add_special_tokens=False)["input_ids"][0])
    full = list(tokenizer(["a"])["input_ids"][0])
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start])
    return ()


def _move_spaces(prompt: str, continuation: str) -> tuple[str, str]:
    bare = prompt.rstrip()
    return bare, prompt[len(bare) :] + continuation


def common_length(a: TokenIds, b: TokenIds) -> int:
    """How many leading tokens two sequences share, by halving: comparing slices is fast, Python loops are
    not.
    """
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def num_distinct_positions(sequences: Iterable[TokenIds]) -> int:
    """Token positions of the sequences, where a beginning that several share counts once."""
    return sum(len(ids) - common_length(before, ids) for before, ids in pairwise([(), *sorted(sequences)]))
