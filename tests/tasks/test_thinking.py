"""Thinking apart from the answer, by hand-worked replies."""

import pytest

from stillmark.tasks.thinking import ThinkingTags, budget_cuts, split_thinking


@pytest.mark.parametrize(
    ("text", "starts", "thinking", "answer", "is_closed"),
    [
        ("<think>so</think>\n\n42", False, "so", "42", True),
        ("so</think>42", True, "so", "42", True),
        ("so</think>42", False, "so", "42", True),  # the template opened it and nobody said so
        ("<think>so</think>42", True, "so", "42", True),  # opened twice
        ("<think>still", False, "still", "", False),
        ("still", True, "still", "", False),
        ("42", False, "", "42", True),
        ("    return 1", False, "", "    return 1", True),  # indentation is code
        ("a<think>b</think>c<think>d</think>e", False, "bd", "ace", True),
        ("a<think>b</think>c<think>d", False, "bd", "ac", False),
    ],
)
def test_split(text, starts, thinking, answer, is_closed):
    parts = split_thinking(text, starts_thinking=starts)
    assert (parts.thinking, parts.answer, parts.is_closed) == (thinking, answer, is_closed)


def test_other_tags_and_none():
    tags = ThinkingTags(opening="[T]", closing="[/T]")
    assert split_thinking("[T]x[/T]y", tags).answer == "y"
    assert split_thinking("<think>x</think>y", None).answer == "<think>x</think>y"


def test_cuts_only_where_the_tokens_are_accounted_for():
    ends = list(range(2, 82, 2))  # 40 tokens of two characters
    assert budget_cuts(ends, 40) == {16: 32, 32: 64}
    assert budget_cuts(ends, 41) == {16: 32, 32: 64}  # and the end token
    assert budget_cuts(ends, 60) == {}
    assert budget_cuts(ends, 39) == {}
