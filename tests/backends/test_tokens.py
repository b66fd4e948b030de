"""Prompts and continuations as token ids."""

import pytest
from tests.backends.tiny import char_tokenizer

from stillmark.backends.stopping import StopRule
from stillmark.backends.tokens import TextCodec


def test_the_beginning_token_is_added_once_and_no_end_token():
    codec = TextCodec(char_tokenizer(adds_bos=True))
    assert codec.prefix_ids == (2,)
    plain, given = codec.encode(["ab", "<bos>ab"])
    assert plain == given == (2, 3, 4)
    assert codec.encode_prompts([""]) == [(2,)]


def test_pairs_split_where_the_prompt_ends():
    codec = TextCodec(char_tokenizer(adds_bos=True))
    [spaced, first, empty] = codec.encode_pairs([("ab ", "c"), ("ab", " c"), ("", "c")])
    assert spaced == first == ((2, 3, 4), (29, 5))
    assert empty == ((2,), (5,))


@pytest.mark.parametrize("stop", [("bc",), ("\n\n",), ("a b",), ("z", "cd"), ("<bos>",)])
def test_stops_exactly_where_the_text_first_holds_a_stop_string(stop):
    tokenizer = char_tokenizer()
    rule = StopRule(TextCodec(tokenizer), frozenset({1}), stop)
    for text in ("xxabcd", "a\nb\n\nc", "aa bz", "no such", "a<bos>b"):
        ids = tokenizer(text)["input_ids"]
        stops = [length for length in range(1, len(ids) + 1) if rule.stops_at(ids[:length])]
        found = [text.find(s) + len(s) for s in stop if s in text and s != "<bos>"]
        if stop == ("<bos>",):
            found = [text.find("<bos>") + 1] if "<bos>" in text else []
        assert stops[:1] == ([min(found)] if found else [])
        expected = min([text.find(s) for s in stop if s in text], default=len(text))
        if stops:
            assert rule.reply_text(ids[: stops[0]]) == text[:expected]
