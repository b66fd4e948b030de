"""The answer of a text study: is a student better at equal compute than the same start without a teacher?

The comparison is at the most compute that both sides reach with the teacher's work counted (boundary generation);
where that is unknown or has no overlap, at the end of training. Better or worse is what the whole 95% interval of the
paired difference shows.
"""

import math
from collections.abc import Mapping
from typing import Any

from stillmark.report import text_words, words
from stillmark.report.answer import Answer, Tone, warning_of
from stillmark.report.benchmarks import benchmark_lines

FAIR = "generation"
RULE = (
    "Held against its control: the same start, seeds and order of text, without a teacher. Compared at equal compute "
    "with the teacher's work counted, as far as both sides went; better or worse is said where the whole 95% interval "
    "of the paired difference lies on one side of 0."
)
FAR_APART = 0.02  # of the matched amount: said in the answer


def text_answer_of(conclusion: Mapping[str, Any]) -> Answer:
    warning = warning_of(conclusion)
    pair = chosen_pair(conclusion)
    if pair is None:
        why = "No student and control are both recorded whole." if conclusion["unfinished"] else (
            "The study holds no distilled arm against a control (`control:` of an arm, or its `conclusion` part)."
        )  # fmt: skip
        return Answer(tone="none", verdict="No answer yet.", sentence=why, details=(), rule=RULE, student=None,
                      warning=warning)  # fmt: skip
    verdict, tone = verdict_of(pair)
    return Answer(
        tone=tone,
        verdict=verdict,
        sentence=sentence_of(conclusion, pair),
        details=tuple(details_of(conclusion, pair)),
        rule=RULE,
        student=pair["student"],
        warning=warning,
    )


def chosen_pair(conclusion: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The pair of the student that ends with the fewest bits per byte, held against its control where it has one."""
    scores = {arm["arm"]: arm["scores"] for arm in conclusion["arms"]}
    pairs = conclusion["pairs"]
    return min(pairs, default=None, key=lambda pair: (
        text_words.least(scores[pair["student"]], "bits_per_byte"), pair["role"] != "control"))  # fmt: skip


def at_equal_compute(pair: Mapping[str, Any]) -> tuple[Mapping[str, Any], float | None]:
    """(differences by measure, the compute at which they are); at the end of training where there is no such."""
    rows = pair["along"][FAIR]
    return (rows[-1], rows[-1]["flops"]) if rows else (pair["final"], None)


def verdict_of(pair: Mapping[str, Any]) -> tuple[str, Tone]:
    row, flops = at_equal_compute(pair)
    surprise, distance = (text_words.sign_of(row[m]) for m in ("bits_per_byte", "kl_per_token"))
    when = "At equal compute" if flops is not None else "At the end of training"
    if surprise == "better":
        return f"{when}, distilling predicts held-out text better than the control.", "good"
    if surprise == "worse" and distance == "better":
        return f"{when}, distilling comes nearer to the teacher but predicts held-out text worse.", "mixed"
    if surprise == "worse":
        return f"{when}, distilling predicts held-out text worse than the control.", "bad"
    if distance == "better":
        return f"{when}, distilling comes nearer to the teacher; no gain on held-out text is shown.", "mixed"
    return f"{when}, no gain from distilling is shown.", "none"


def sentence_of(conclusion: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    """Both measures with their intervals, where they were compared, and the compute ratio."""
    row, flops = at_equal_compute(pair)
    where = (
        f"At {words.flops(flops)} each, the teacher's work counted," if flops else "At the end of training"
    )
    text = (f"{where} {pair['student']} less {pair['other']} is {text_words.difference(row['bits_per_byte'])} "
            "bits per byte")  # fmt: skip
    if row["kl_per_token"] is not None:
        text += (
            f" and {text_words.difference(row['kl_per_token'])} nats a token in KL to {conclusion['judge']}"
        )
    return f"{text} (95% intervals; below 0 the student is better). {ratio_sentence(pair)}"


def telling_ratio(pair: Mapping[str, Any], measure: str) -> Mapping[str, Any] | None:
    """Of the ratios at either side's end, the one that says most: a number, else the bound that is farther from 1.

    Both sides get to the worse of the two ends, so a number is to be had there if anywhere.
    """
    rows: list[Mapping[str, Any]] = [
        row for row in pair["ratios"] if (row["measure"], row["boundary"]) == (measure, FAIR)
    ]
    exact = [row for row in rows if row["value"] is not None]
    if exact:
        return max(exact, key=lambda row: float(row["quality"]))
    bounds = [row for row in rows if row["bound"]]
    return max(bounds, key=lambda row: abs(math.log(row["bound"])), default=rows[0] if rows else None)


def ratio_sentence(pair: Mapping[str, Any]) -> str:
    """How much compute the other needs for the same bits per byte."""
    row = telling_ratio(pair, "bits_per_byte")
    if row is None or row["text"] == words.UNKNOWN:
        return "How much compute each needs for the same bits per byte is unknown."
    end = pair["other"] if row["at"] == "other's end" else pair["student"]
    return (f"For the {text_words.value('bits_per_byte', row['quality'])} bits per byte with which {end} "
            f"ends, as far as all its seeds went, {pair['other']} needs {words.ratio(row)} the compute of "
            f"{pair['student']} (95% interval: {words.ratio_limits(row)}; boundary {FAIR}).")  # fmt: skip


def details_of(conclusion: Mapping[str, Any], pair: Mapping[str, Any]) -> list[str]:
    arms = {arm["arm"]: arm for arm in conclusion["arms"]}
    student, other = arms[pair["student"]], arms[pair["other"]]
    teachers = [arm for arm in conclusion["arms"] if arm["role"] == "teacher"]
    lines = [score_line(arm) for arm in [student, other, *teachers]]
    lines += filter(None, [text_words.tokenizer_note([student, other, *teachers]).strip()])
    lines += benchmark_lines(conclusion, student["arm"], other["arm"])
    lines += [spent_line(pair)]
    lines += gap_lines(student, other, conclusion["judge"])
    lines += unknown_lines(student)
    lines.append(seeds_line(conclusion, student))
    return lines


def score_line(arm: Mapping[str, Any]) -> str:
    """An arm's measures at its end."""
    scores = arm["scores"]
    text = (f"{arm['arm']} {'ends' if arm['loss'] else 'is'} at "
            f"{text_words.estimate('bits_per_byte', scores['bits_per_byte'])} bits per byte, perplexity "
            f"{text_words.estimate('perplexity', scores['perplexity'])}")  # fmt: skip
    if scores["kl_per_token"] is not None and arm["role"] != "teacher":
        text += (
            f", KL to the teacher {text_words.estimate('kl_per_token', scores['kl_per_token'])} nats a token"
        )
    return text + "."


def spent_line(pair: Mapping[str, Any]) -> str:
    """How well the compute was matched."""
    spent = pair["spent"]
    boundary = spent["boundary"]
    first, second = spent["student"]["flops"][boundary], spent["other"]["flops"][boundary]
    text = f"{pair['other']} was given {text_words.MATCH_WORDS[pair['match']]}: " if pair["match"] else ""
    text += (f"counted to the end (boundary {boundary}), {pair['student']} took {words.flops(first)} and "
             f"{pair['other']} {words.flops(second)}")  # fmt: skip
    if (unit := spent["unit"]) in ("tokens", "steps"):
        text += f", in {words.count(spent['student'][unit])} and {words.count(spent['other'][unit])} {unit}"
    apart = spent["other_over_student"]
    if apart is not None:
        kept = "matched within" if abs(apart - 1) <= FAR_APART else "NOT well matched, apart by"
        text += f"; in {spent['unit']}, {kept} {100 * abs(apart - 1):.2g}%"
    return (text + ".")[0].upper() + (text + ".")[1:]


def gap_lines(student: Mapping[str, Any], other: Mapping[str, Any], judge: str | None) -> list[str]:
    """What share of the way to the teacher each has gone since its first checkpoint."""
    lines = []
    for measure, name in (("bits_per_byte", "in bits per byte"), ("kl_per_token", "in KL")):
        sides = [arm["gap"][measure]["estimate"] if arm["gap"] else None for arm in (student, other)]
        if None not in sides:
            lines.append(
                f"Of the way from its first checkpoint to {judge} {name}, {student['arm']} has gone "
                f"{text_words.share(sides[0])} and {other['arm']} {text_words.share(sides[1])}."
            )
    return lines


def unknown_lines(student: Mapping[str, Any]) -> list[str]:
    """Boundaries without a number, and why."""
    if not student["unknown"]:
        return []
    reasons = dict.fromkeys(part for reason in student["unknown"].values() for part in reason.split("; "))
    return [f"Under the boundaries {', '.join(student['unknown'])} no number is given, and none is taken for 0: "
            f"{'; '.join(reasons)}."]  # fmt: skip


def seeds_line(conclusion: Mapping[str, Any], student: Mapping[str, Any]) -> str:
    number = len(conclusion["seeds"])
    text = (
        f"{number} seeds"
        if number > 1
        else "One seed, which says nothing of how much another run would differ"
    )
    return f"{text}. Start: {student['start']}."
