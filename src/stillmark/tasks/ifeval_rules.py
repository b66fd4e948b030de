"""IFEval's instructions as rules on a text (Zhou et al., arXiv:2311.07911; google-research, Apache-2.0).

Written anew from the paper's descriptions and the public checkers' behaviour, and compared with them rule by rule on
real texts (`tests/tasks/data/README.md`). What differs: sentences and capital words are told without nltk
(`ifeval_text.py`), and a "letter" that is none, such as `#`, is counted; there a random letter is counted in its place.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from stillmark.tasks.ifeval_text import count_capital_words, count_sentences, is_in_language

Arguments = Mapping[str, Any]


def related(count: int, relation: str | None, limit: int) -> bool:
    """The data set knows two relations."""
    if relation == "less than":
        return count < limit
    if relation == "at least":
        return count >= limit
    raise ValueError(f"unknown relation {relation!r}")


def keyword_count(text: str, a: Arguments) -> bool:
    return related(len(re.findall(a["keyword"], text, re.IGNORECASE)), a["relation"], a["frequency"])


def letter_count(text: str, a: Arguments) -> bool:
    return related(text.lower().count(a["letter"].lower()), a["let_relation"], a["let_frequency"])


def no_forbidden_words(text: str, a: Arguments) -> bool:
    return not any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for word in a["forbidden_words"])


def paragraph_count(text: str, a: Arguments) -> bool:
    """Paragraphs between `***`; an empty one counts as missing, but at the ends."""
    parts = re.split(r"\s?\*\*\*\s?", text)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    return bool(sum(bool(part.strip()) for part in parts) == a["num_paragraphs"])


def word_count(text: str, a: Arguments) -> bool:
    return related(len(re.findall(r"\w+", text)), a["relation"], a["num_words"])


def nth_paragraph_starts(text: str, a: Arguments) -> bool:
    """Paragraphs between empty lines; the nth begins with the word, quotes and punctuation aside."""
    parts = text.split("\n\n")
    num, nth = sum(bool(part.strip()) for part in parts), a["nth_paragraph"]
    if nth > num or nth > len(parts) or not parts[nth - 1].strip():
        return False
    first = parts[nth - 1].split()[0].lstrip("'\"")
    word = re.split(r"[.,?!'\"]", first)[0]
    return bool(num == a["num_paragraphs"] and word.lower() == a["first_word"].lower())


def has_postscript(text: str, a: Arguments) -> bool:
    marker = a["postscript_marker"]
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s", "P.S.": r"\s*p\.\s?s\."}
    return re.search(patterns.get(marker, r"\s*" + re.escape(marker.lower())), text.lower()) is not None


def bullet_count(text: str, a: Arguments) -> bool:
    stars = re.findall(r"^\s*\*[^*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return bool(len(stars) + len(dashes) == a["num_bullets"])


def highlight_count(text: str, a: Arguments) -> bool:
    single = [part for part in re.findall(r"\*[^\n*]*\*", text) if part.strip("*").strip()]
    double = [part for part in re.findall(r"\*\*[^\n*]*\*\*", text) if part.strip("*").strip()]
    return bool(len(single) + len(double) >= a["num_highlights"])


def section_count(text: str, a: Arguments) -> bool:
    parts = re.split(rf"\s?{a['section_spliter']}\s?\d+\s?", text)
    return bool(len(parts) - 1 >= a["num_sections"])


def is_json(text: str, a: Arguments) -> bool:
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(bare)
    except ValueError:
        return False
    return True


def has_title(text: str, a: Arguments) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", text))


def two_responses(text: str, a: Arguments) -> bool:
    parts = text.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    whole = [part.strip() for part in parts if part.strip()]
    return len(whole) == 2 and whole[0] != whole[1]


RULES: dict[str, Callable[[str, Arguments], bool]] = {
    "keywords:existence": lambda t, a: all(re.search(k, t, re.IGNORECASE) for k in a["keywords"]),
    "keywords:frequency": keyword_count,
    "keywords:forbidden_words": no_forbidden_words,
    "keywords:letter_frequency": letter_count,
    "language:response_language": lambda t, a: is_in_language(t, a["language"]),
    "length_constraints:number_sentences": lambda t, a: related(
        count_sentences(t), a["relation"], a["num_sentences"]
    ),
    "length_constraints:number_paragraphs": paragraph_count,
    "length_constraints:number_words": word_count,
    "length_constraints:nth_paragraph_first_word": nth_paragraph_starts,
    "detectable_content:number_placeholders": lambda t, a: (
        len(re.findall(r"\[.*?\]", t)) >= a["num_placeholders"]
    ),
    "detectable_content:postscript": has_postscript,
    "detectable_format:number_bullet_lists": bullet_count,
    "detectable_format:constrained_response": lambda t, a: any(
        f"My answer is {word}." in t for word in ("yes", "no", "maybe")
    ),
    "detectable_format:number_highlighted_sections": highlight_count,
    "detectable_format:multiple_sections": section_count,
    "detectable_format:json_format": is_json,
    "detectable_format:title": has_title,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": lambda t, a: (
        t.strip().lower().startswith(a["prompt_to_repeat"].strip().lower())
    ),
    "startend:end_checker": lambda t, a: (
        t.strip().strip('"').lower().endswith(a["end_phrase"].strip().lower())
    ),
    "startend:quotation": lambda t, a: len(t.strip()) > 1 and t.strip()[0] == '"' and t.strip()[-1] == '"',
    "change_case:capital_word_frequency": lambda t, a: related(
        count_capital_words(t), a["capital_relation"], a["capital_frequency"]
    ),
    "change_case:english_capital": lambda t, a: t.isupper() and is_in_language(t, "en"),
    "change_case:english_lowercase": lambda t, a: t.islower() and is_in_language(t, "en"),
    "punctuation:no_comma": lambda t, a: "," not in t,
}
