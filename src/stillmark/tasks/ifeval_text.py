"""Sentences, capital words and language of a text, as IFEval's published checkers tell them.

Those call nltk (its Punkt sentence splitter, trained on the Wall Street Journal, and its Treebank word splitter),
whose data come from a server. Here the same decisions are made from a short list of abbreviations and common words.
Measured against nltk 3.10 on 324 real texts: the number of sentences is equal on 307, of capital words on all
(`tests/tasks/data/README.md`). Language needs `langdetect`, as there.
"""

import re

ABBREVIATIONS = frozenset(
    re.findall(
        r"\S+",
        "mr mrs ms dr prof sr jr st gen gov sen rep reps lt col maj capt rev hon sgt messrs inc ltd co corp "
        "cos bros vs etc ft ave calif mass mich minn wis conn ariz okla tenn colo ill va pa ga fla jan feb "
        "aug sept oct nov dec mon tues wed fri u.s u.k u.n u.s.a a.m p.m d.c n.y n.j l.a ph.d b.c a.d",
    )
)
# Words that begin a sentence where they have a capital letter, though an abbreviation or "..." stands before them
COMMON = frozenset(
    re.findall(
        r"\S+",
        "the a an he she it we you they his her its our your their this that these those there here in on at "
        "by for from with to of and or but if so as is are was were be been has have had do does did no not "
        "all each some any what which who when where why how can could will would should may might must let "
        "also then now since both however instead under similarly though while despite although thus nor "
        "moreover yet many according among meanwhile even indeed nevertheless",
    )
)
LETTERS = frozenset("bcdfhlmnrstvw")  # that Punkt has met as abbreviations
MARK = r""")";}\]*:@'({\[!?"""  # that ends a word without a space
END = re.compile(rf"[.?!](?=(?P<after>[{MARK}])|\s+(?P<next>\S+))")
LAST_WORD = re.compile(rf"[^\s{MARK}]+\Z")
FIRST_WORD = re.compile(rf"[^\s{MARK},]+")
CLOSING = re.compile(r"""["')\]}]+?(?:\s+|(?=--)|\Z)""")  # belongs to the sentence before
BETWEEN_WORDS = re.compile(
    r"""[\s;@#$%&?!()\[\]{}<>"“”«»—]+|--|\.{2,}|[:,](?!\d)|(?<=\S)\.(?=[\])}>"'»”’ ]*\s|\Z)"""
    r"""|(?<!\w)['‘’`]+|['’`](?!\w)"""
)
CONTRACTION = re.compile(r"(.+?)('(?:S|M|D|LL|RE|VE)|N'T|(?<=\ACAN)NOT)\Z", re.IGNORECASE)


def count_sentences(text: str) -> int:
    """Sentences, as Punkt splits them: an end mark and a space or a closing mark, unless the word is an
    abbreviation, an initial or a list's letter, or the next word is small."""
    text = text.rstrip() if text.strip() else ""
    starts = [0, *(match.start("next") if match["next"] else match.end() for match in sentence_ends(text))]
    num_sentences, skipped = 0, 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        num_sentences += start + skipped < end
        closing = CLOSING.match(text, end) if end < len(text) else None
        skipped = closing.end() - end if closing else 0
    return num_sentences


def sentence_ends(text: str) -> list[re.Match[str]]:
    return [match for match in END.finditer(text) if match.group() != "." or is_end(text, match)]


def is_end(text: str, match: re.Match[str]) -> bool:
    """Whether the full stop of `match` ends its sentence."""
    found = LAST_WORD.search(text[max(0, match.start() - 80) : match.end()])
    word = found.group() if found else "."
    kind = word[:-1].lower()
    is_dots = word.endswith("..")
    is_abbreviation = kind in ABBREVIATIONS or kind.rpartition("-")[2] in ABBREVIATIONS
    if not match["next"]:
        return not (is_dots or is_abbreviation)
    is_initial = re.fullmatch(r"[^\W\d_]\.", word) is not None
    is_number = re.fullmatch(r"-?[.,]?\d[\d,.-]*\.", word) is not None
    following = match["next"]
    first = FIRST_WORD.match(following)
    is_common = (first.group() if first else following).lower().strip(".") in COMMON
    has_capital = following[0].isupper()
    if is_initial:
        line = text[: match.start() - 1].rpartition("\n")[2]
        is_of_list = not re.search(r"\w", line)  # else the initial of a name
        return kind not in LETTERS and has_capital and (is_common or is_of_list)
    if is_number:
        return not (following[0].islower() or following[0] in ";:,.!?")
    if is_dots or is_abbreviation:
        return has_capital and is_common
    return True


def count_capital_words(text: str) -> int:
    """Words without a small letter, as the Treebank splitter tells words: DON'T is two, COVID-19 and A/B are one."""
    num_words = 0
    for word in filter(None, BETWEEN_WORDS.split(text)):
        contraction = CONTRACTION.match(word)
        num_words += sum(part.isupper() for part in (contraction.groups() if contraction else (word,)))
    return num_words


def is_in_language(text: str, language: str) -> bool:
    """By langdetect, whose random numbers are fixed here so that a text has one language. Text without letters,
    in which it finds nothing, counts as right, as in the published checkers."""
    import langdetect

    langdetect.DetectorFactory.seed = 0
    try:
        return bool(langdetect.detect(text) == language)
    except langdetect.LangDetectException:
        return True
