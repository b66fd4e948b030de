"""Each of IFEval's rules on a text that follows it and one that does not, by the paper's descriptions."""

import json

import pytest

from stillmark.tasks.ifeval import InstructionScorer, read
from stillmark.tasks.ifeval_rules import RULES
from stillmark.tasks.ifeval_text import count_capital_words, count_sentences
from stillmark.tasks.verdict import judge

CASES = [
    ("keywords:existence", {"keywords": ["sun", "moon"]}, "Sun and moon", "Sun only"),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "a A", "a b"),
    ("keywords:forbidden_words", {"forbidden_words": ["art"]}, "a start", "the Art of"),
    ("keywords:letter_frequency", {"letter": "z", "let_frequency": 2, "let_relation": "less than"}, "z", "Zz"),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "less than"}, "It rained. Why?", "It rained. Why? So."),
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
    ("change_case:english_capital", {}, "THIS IS ALL BIG", "THIS IS ALL Big"),
    ("change_case:english_lowercase", {}, "this is all small", "This is all small"),
    ("punctuation:no_comma", {}, "one and two", "one, two"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "follows", "breaks"), CASES)
def test_rule(name, arguments, follows, breaks):
    if name.startswith("change_case:english"):
        pytest.importorskip("langdetect")
    assert RULES[name](follows, arguments)
    assert not RULES[name](breaks, arguments)


def test_all_but_the_language_are_tested():
    assert set(RULES) - {name for name, *_ in CASES} == {"language:response_language"}


def test_language_as_langdetect_tells_it():
    pytest.importorskip("langdetect")
    rule = RULES["language:response_language"]
    assert rule("Dies ist ein deutscher Satz über das Wetter.", {"language": "de"})
    assert not rule("This is an English sentence about the weather.", {"language": "de"})
    assert rule("42 !!!", {"language": "de"})  # nothing to detect: right, as in the published checkers
    assert not RULES["change_case:english_lowercase"]("dies ist ein deutscher satz über das wetter.", {})


# Counted by nltk 3.10's sent_tokenize and word_tokenize, on which the published checkers rest
COUNTS = [
    ("Dr. Smith met Mr. Jones at 5 p.m. on Friday. They talked.", 2, 0),
    ("I. Introduction\n   - A. Importance", 3, 2),
    ("1. Bring it. 2. Take it!", 4, 0),
    ('Wait... what? Yes (really). "No." He left.', 4, 0),
    ("U.S. law is not U.K. law. The end", 2, 2),
    ("It is 3.5 cm. Not 4.", 2, 0),
    ("DON'T touch COVID-19 A/B tests, I'M told: NASA (USA) said **NO**.", 1, 9),
    ("", 0, 0),
    ("no end mark", 1, 0),
    ("THE SUN'S RAYS: 3 OF 4 ARE HOT.", 1, 7),
]


@pytest.mark.parametrize(("text", "num_sentences", "num_capital_words"), COUNTS)
def test_counts_are_those_of_nltk(text, num_sentences, num_capital_words):
    assert (count_sentences(text), count_capital_words(text)) == (num_sentences, num_capital_words)


def test_each_instruction_may_be_followed_by_another_reading():
    """Loose: without its first line the reply is quoted, with its asterisks it has a bullet; no reading has both."""
    rules = [["startend:quotation", {}], ["detectable_format:number_bullet_lists", {"num_bullets": 2}]]
    verdict = judge(InstructionScorer(), '* So:\n"one\n* two"', json.dumps(rules), "stop")
    assert verdict.grades == {"strict": False, "loose": True}


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
