"""Prompts and replies as an instruct model reads and writes them: through its tokenizer's chat template.

The ids before a reply are those that evaluation gives (`backends/tokens.py`): the template's text, with the tokens
that the tokenizer puts before any text added unless the template has written them, so that they are never doubled.
A reply ends as the template ends an assistant's turn, such as `<|im_end|>` or `<end_of_turn>`, which need not be the
tokenizer's end token; what the template writes after that (a line break) belongs to the next turn and is left out.
"""

from collections.abc import Sequence
from typing import Any

from stillmark.backends.tokens import TextCodec, TokenIds
from stillmark.errors import UserError
from stillmark.tasks.documents import contents

Turns = Sequence[tuple[str, str]]  # (role, content)
PROBE = "stillmark"  # a reply that no template changes


class ChatFormat:
    """A tokenizer's chat template. `end_ids` are the tokens that end a reply.

    Raises UserError for a template that leaves out what the assistant says, and for turns that it refuses.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.codec = TextCodec(tokenizer)
        self.end_ids = self._end_of_reply()

    def prompt_ids(self, turns: Turns) -> TokenIds:
        """The ids of these turns and of what begins an assistant's reply."""
        return self.codec.encode([self._text(turns, is_prompt=True)])[0]

    def _text(self, turns: Turns, *, is_prompt: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=is_prompt
            )
        except Exception as error:  # a template is a program: it refuses in its own words
            roles = ", ".join(role for role, _ in turns)
            raise UserError(f"the chat template refuses turns of {roles}: {error}") from error
        return text

    def _end_of_reply(self) -> TokenIds:
        """What the template writes after a reply, up to the last special token; the end token where it writes none."""
        prompt: Turns = [("user", "a")]
        whole = self._text([*prompt, ("assistant", PROBE)], is_prompt=False)
        _, found, after = whole.rpartition(PROBE)
        if not found:
            raise UserError("the chat template leaves out what the assistant says", "train without it")
        ids: list[int] = self.tokenizer(after, add_special_tokens=False)["input_ids"]
        special = set(self.tokenizer.all_special_ids) | set(added_ids(self.tokenizer))
        while ids and ids[-1] not in special:
            ids.pop()
        if ids:
            return tuple(ids)
        if self.tokenizer.eos_token_id is None:
            raise UserError(
                "nothing ends a reply: neither the chat template nor the tokenizer has an end token"
            )
        return (int(self.tokenizer.eos_token_id),)


def chat_format(tokenizer: Any) -> ChatFormat | None:
    """The format of an instruct model's tokenizer; None where it has no template: a base model's has none."""
    return ChatFormat(tokenizer) if getattr(tokenizer, "chat_template", None) else None


def ids_before_reply(turns: Turns, tokenizer: Any, chat: ChatFormat | None) -> Sequence[int]:
    """What comes before a reply: the turns through the chat template, or their contents where there is none."""
    if chat:
        return chat.prompt_ids(turns)
    ids: list[int] = tokenizer(contents(turns))["input_ids"]
    return ids


def added_ids(tokenizer: Any) -> Sequence[int]:
    """Ids of tokens that were added as special ones, also where no name such as `eos_token` points at them."""
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    return [token_id for token_id, token in decoder.items() if token.special]
