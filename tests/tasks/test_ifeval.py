"""Each of IFEval's rules on a text that follows it and one that does not, by the paper's descriptions."""

import json

import pytest

from stillmark.tasks.ifeval import InstructionScorer, read
from stillmark.tasks.ifeval_rules import RULES
from stillmark.tasks.verdict import judge

CASES = [
    ("keywords:existence", {"keywords": ["sun", "moon"]}, "Sun and moon", "Sun only"),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "a A", "a b"),
    ("keywords:forbidden_words", {"forbidden_words": ["art"]}, "a start", "the Art of"),
    ("keywords:letter_frequency", {"letter": "z", "let_frequency": 2, "let_relation": "less than"}, "z", "Zz"),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "A b. C!", "A. B? C."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo", "one\n\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two, three", "one two"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "so"},
     "a\n\nSo, it is", "so\n\nit is"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] of [town]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\nP.S. More", "Bye. PS more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "Maybe."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and *b*", "*a* and **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Part", "num_sections": 2}, "Part 1 a Part 2 b", "Part 1"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<Sun>>\nIt", "<< >> Sun"),
    ("combination:two_responses", {}, "a******b", "a******a"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, "say hi. Hi!", "Hi!"),
    ("startend:end_checker", {"end_phrase": "The end."}, 'It is "the end."', "The end. Or"),
    ("startend:quotation", {}, '"Hello"', '"Hello'),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, "THE BIG dog", "THE Dog"),
    ("change_case:english_capital", {}, "ALL BIG 1", "ALL Big"),
    ("change_case:english_lowercase", {}, "all small", "All small"),
    ("punctuation:no_comma", {}, "one and two", "one, two"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "follows", "breaks"), CASES)
def test_rule(name, arguments, follows, breaks):
    assert RULES[name](follows, arguments)
    assert not RULES[name](breaks, arguments)


def test_all_but_the_language_are_tested():
    assert set(RULES) - {name for name, *_ in CASES} == {"language:response_language"}


def test_outcomes_strict_and_loose():
    raw = {"prompt": "P", "instruction_id_list": ["punctuation:no_comma", "startend:quotation"],
           "kwargs": [{"num_words": None}, {}]}  # fmt: skip
    target = read(raw).target
    scorer = InstructionScorer()
    assert json.loads(target) == [["punctuation:no_comma", {}], ["startend:quotation", {}]]
    assert judge(scorer, '"Hello there"', target, "stop").outcome == "correct"
    wrong = judge(scorer, 'Sure, here it is:\n"Hello there"', target, "stop")
    assert (wrong.outcome, wrong.grades) == ("wrong", {"strict": False, "loose": True})
    assert judge(scorer, "", target, "stop").outcome == "unparsed"
    assert judge(scorer, '"Hello there" "and', target, "length").outcome == "truncated"
    assert judge(scorer, "", target, "length").outcome == "truncated"
