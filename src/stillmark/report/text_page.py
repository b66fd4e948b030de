"""A text study's report as one HTML file, made as `page.py` makes that of a study of questions."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from stillmark.analysis import benchmark_rows, crossed, curves, frontier, text_pairs, text_scores
from stillmark.compute import flops, ledger
from stillmark.report import text_words, words
from stillmark.report.benchmarks import benchmark_measures, charted, others_of
from stillmark.report.page import BOUNDARY_TITLES, provenance_rows, rendered
from stillmark.report.parts import PART_WORDS, Tile, ledger_bars
from stillmark.report.reading import COUNTING
from stillmark.report.samples import OUTCOME_ORDER
from stillmark.report.style import ROLE_WORDS, styles_of
from stillmark.report.text_answer import FAIR, at_equal_compute, chosen_pair, telling_ratio, text_answer_of
from stillmark.report.text_tables import text_tables_of

SCRIPTS = ("chart.js", "points.js", "samples.js", "text_page.js")


def text_page_html(conclusion: Mapping[str, Any], samples: Sequence[Mapping[str, Any]] = ()) -> str:
    """The whole page; `samples` are the replies to benchmarks that `samples.browse_benchmarks` chose."""
    samples = samples if conclusion["arms"] else ()
    data = {**chart_data(conclusion), "samples": samples}
    return rendered("text_page.html", conclusion, {**context(conclusion), "samples": samples}, SCRIPTS, data)


def context(conclusion: Mapping[str, Any]) -> dict[str, Any]:
    """What the template reads."""
    return {
        "conclusion": conclusion,
        "answer": text_answer_of(conclusion),
        "tiles": tiles(conclusion),
        "tables": {table.name: table for table in text_tables_of(conclusion)},
        "grid": ratio_grid(conclusion),
        "ledger_bars": ledger_bars(conclusion),
        "ledger_parts": [(part.replace("_", "-"), name) for part, name in PART_WORDS.items()
                         if any(row["part"] == part for row in conclusion["ledger"])],
        "styles": styles_of(conclusion),
        "role_words": ROLE_WORDS,
        "boundaries": words.BOUNDARIES,
        "boundary_titles": BOUNDARY_TITLES,
        "fair": FAIR,
        "measures": measures_of(conclusion),
        "accuracies": benchmark_measures(conclusion),
        "counting": COUNTING,
        "methods": methods(conclusion),
        "provenance": provenance_rows(conclusion["provenance"]),
        "has_unknown": any(arm["unknown"] for arm in conclusion["arms"]),
    }  # fmt: skip


def tiles(conclusion: Mapping[str, Any]) -> list[Tile]:
    """The numbers of the pair that the answer is about."""
    pair = chosen_pair(conclusion)
    if pair is None:
        return []
    row, spent = at_equal_compute(pair)
    where = f"at {words.flops(spent)} each" if spent else "at the end of training"
    made = []
    for measure, label in (("bits_per_byte", "bits per byte"), ("kl_per_token", "KL to the teacher")):
        if row[measure] is not None:
            text = text_words.difference(row[measure])
            limits = text.partition(" (")[2].rstrip(")") or "no interval"
            made.append(Tile(label=f"{label} against {pair['other']}", value=text.split(" (")[0],
                             note=f"95%: {limits}; {where}; less is better", link="how-pairs"))  # fmt: skip
    for measure, label in (("bits_per_byte", "bits per byte"), ("kl_per_token", "KL")):
        ratio = telling_ratio(pair, measure)
        if ratio is not None and ratio["text"] != words.UNKNOWN:
            made.append(Tile(label=f"compute {pair['other']} needs, equal {label}", value=text_words.ratio(ratio),
                             note=f"95%: {words.ratio_limits(ratio)}; boundary: {FAIR}", link="how-ratio"))  # fmt: skip
    return made


def measures_of(conclusion: Mapping[str, Any]) -> dict[str, str]:
    """The text's measures that the chart has a curve of, in words: across vocabularies no divergence is known."""
    trained = [arm for arm in conclusion["arms"] if arm["role"] != "teacher"] or conclusion["arms"]
    return {measure: title for measure, title in text_words.TITLES.items()
            if any(point[measure] for arm in trained for point in arm["curve"])}  # fmt: skip


def ratio_grid(conclusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a pair, measure and end; one cell a boundary."""
    grid = []
    for pair in conclusion["pairs"]:
        for measure in ("bits_per_byte", "kl_per_token"):
            for at in ("other's end", "student's end"):
                found = {row["boundary"]: row for row in pair["ratios"]
                         if (row["measure"], row["at"]) == (measure, at)}  # fmt: skip
                if not found:
                    continue
                quality = next((row["quality"] for row in found.values() if row["quality"] is not None), None)
                end = pair["other"] if at == "other's end" else pair["student"]
                grid.append(
                    {
                        "student": pair["student"],
                        "other": pair["other"],
                        "measure": text_words.TITLES[measure],
                        "quality": text_words.value(measure, quality),
                        "at": f"where {end} ends",
                        "cells": [ratio_cell(found[boundary]) for boundary in words.BOUNDARIES],
                    }
                )
    return grid


def ratio_cell(row: Mapping[str, Any]) -> dict[str, Any]:
    is_known = row["text"] != words.UNKNOWN
    effect = "unknown"
    if is_known:
        is_less, is_more = (
            row["low"] is not None and row["low"] > 1,
            row["high"] is not None and row["high"] < 1,
        )
        effect = "saves" if is_less else "costs" if is_more else "unclear"
    return {"boundary": row["boundary"], "value": text_words.ratio(row), "effect": effect,
            "limits": "not recorded" if row["quality"] is None else words.ratio_limits(row),
            "notes": "; ".join(row["notes"])}  # fmt: skip


def chart_data(conclusion: Mapping[str, Any]) -> dict[str, Any]:
    """What the script draws."""
    pair = chosen_pair(conclusion)
    arms = {arm["arm"]: arm for arm in conclusion["arms"]}
    names = ("params", "unknown")
    return {
        "arms": [
            {
                **style.row(),
                "color": f"var(--arm-{index})",
                **{name: arms[style.arm][name] for name in names},
                **charted(conclusion, arms[style.arm]),
            }
            for index, style in enumerate(styles_of(conclusion).values())
        ],
        "roles": ROLE_WORDS,
        "counting": COUNTING,
        "measures": measures_of(conclusion) | benchmark_measures(conclusion),
        "others": others_of(conclusion),
        "boundary": FAIR,
        "outcomes": OUTCOME_ORDER,
        "student": pair["student"] if pair else None,
        "beside": pair["other"] if pair else None,
    }


def methods(conclusion: Mapping[str, Any]) -> list[dict[str, str]]:
    """How numbers are obtained, in the words of the modules that obtain them."""
    chosen = (
        ("how-measures", "Bits per byte, perplexity, KL", text_scores),
        ("how-intervals", "Intervals", crossed),
        ("how-pairs", "Differences and ratios against a control", text_pairs),
        ("how-curve", "What it means to reach a quality", curves),
        ("how-ratio", "How the compute ratio is defined", frontier),
        ("how-benchmarks", "Public benchmarks", benchmark_rows),
        ("how-flops", "How FLOPs are counted", flops),
        ("how-boundary", "What a boundary counts", ledger),
    )
    return [
        {"id": anchor, "title": title, "text": inspect.cleandoc(module.__doc__ or "")}
        for anchor, title, module in chosen
        if module is not benchmark_rows or "benchmarks" in conclusion
    ]
