"""Rows of instruct models: the ids are the tokenizer's own of the whole conversation, and nothing is doubled."""

import os
from pathlib import Path

import pytest
from tests.backends.tiny import char_tokenizer

from stillmark.distill.chat import ChatFormat, chat_format
from stillmark.distill.text import IGNORED, TextPair, rows_of
from stillmark.errors import UserError

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As Gemma's: begins with <bos>, has a name of its own for the assistant, and an end that is not the tokenizer's
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + (m['role'] | replace('assistant', 'model')) + '\n' + "
    "m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PAIR = TextPair(prompt="What is it?", response="red")


def tokenizer_with(template: str, *specials: str, adds_bos: bool = False):
    tokenizer = char_tokenizer(adds_bos=adds_bos)
    tokenizer.add_special_tokens({"additional_special_tokens": list(specials)})
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "specials"),
    [(CHATML, ("<|im_start|>", "<|im_end|>")), (GEMMA, ("<start_of_turn>", "<end_of_turn>"))],
)
@pytest.mark.parametrize("adds_bos", [False, True])
def test_a_row_is_the_conversation_as_the_tokenizer_reads_it(
    template: str, specials: tuple[str, ...], adds_bos: bool
):
    tokenizer = tokenizer_with(template, *specials, adds_bos=adds_bos)
    messages = [{"role": "user", "content": PAIR.prompt}, {"role": "assistant", "content": PAIR.response}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"][:-1]  # but the line break after the end
    if adds_bos and template is CHATML:
        whole = [2, *whole]
    assert whole.count(2) == (adds_bos or template is GEMMA)
    (row,) = rows_of([PAIR], tokenizer, chat=chat_format(tokenizer))
    sequence = row.sequence
    assert [*sequence.token_ids, sequence.targets[-1]] == whole
    end = tokenizer.convert_tokens_to_ids(specials[1])
    written = [*tokenizer("red", add_special_tokens=False)["input_ids"], end]
    assert [target for target in sequence.targets if target != IGNORED] == written
    assert (row.text.text, row.text.turns) == ("red", (("user", PAIR.prompt),))
    read = [tokenizer.decode(sequence.token_ids[index]) for index, end in enumerate(row.text.ends) if end]
    assert "".join(read) == "red"
    assert len(row.text.ends) == len(sequence.token_ids)


def test_turns_come_before_the_reply_and_a_bare_prompt_is_the_users():
    tokenizer = tokenizer_with(CHATML, "<|im_start|>", "<|im_end|>")
    chat = ChatFormat(tokenizer)
    turns = (("system", "Short."), ("user", "What is it?"))
    (with_turns,), (bare,) = (
        rows_of([TextPair(prompt="What is it?", response="red", turns=given)], tokenizer, chat=chat)
        for given in (turns, ())
    )

    def shown(row):
        return tokenizer.decode(row.sequence.token_ids, skip_special_tokens=False)

    asked = "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nred"
    assert shown(bare) == asked
    assert shown(with_turns) == "<|im_start|>system\nShort.<|im_end|>\n" + asked


def test_a_template_that_ends_replies_with_nothing_leaves_the_end_token():
    tokenizer = tokenizer_with("{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}")
    assert ChatFormat(tokenizer).end_ids == (1,)
    assert chat_format(char_tokenizer()) is None


def test_templates_that_refuse_or_leave_out_turns_are_told():
    refusing = (
        GEMMA + "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    )
    chat = ChatFormat(tokenizer_with(refusing, "<start_of_turn>", "<end_of_turn>"))
    with pytest.raises(UserError, match="refuses turns of system, user: no system turn"):
        chat.prompt_ids([("system", "a"), ("user", "b")])
    with pytest.raises(UserError, match="leaves out what the assistant says"):
        ChatFormat(tokenizer_with("{{ messages[0]['content'] }}"))


@pytest.mark.skipif("STILLMARK_SMOLLM2" not in os.environ, reason="needs SmolLM2-135M-Instruct")
def test_smollm2s_own_template():
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(Path(os.environ["STILLMARK_SMOLLM2"]))
    messages = [{"role": "user", "content": "What is 2+2?"}, {"role": "assistant", "content": "It is 4."}]
    whole = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    pair = TextPair(prompt="What is 2+2?", response="It is 4.")
    (row,) = rows_of([pair], tokenizer, chat=chat_format(tokenizer))
    assert [*row.sequence.token_ids, row.sequence.targets[-1]] == whole[:-1]
    assert row.sequence.targets[-1] == tokenizer.eos_token_id
