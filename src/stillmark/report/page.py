"""The report as one HTML file that opens from disk, offline, for years: no request leaves it.

Everything shown is from the conclusion. All text passes through the template's escaping, foreign text also through
`words.visible_text`; the data for the script are JSON in which no tag can end. The page's own policy allows only the
script whose hash it names, so that text from a model could not run even if it got through as markup.
"""

import base64
import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from stillmark.analysis import answer_axes, curves, frontier
from stillmark.analysis import choose as choose_module
from stillmark.analysis import worth as worth_module
from stillmark.analysis.shared_teacher import STUDENTS
from stillmark.analysis.worth import DEFAULT_QUERIES, RESOURCES, parts_of, worth_rows
from stillmark.compute import flops, ledger
from stillmark.report import words
from stillmark.report.answer import answer_of
from stillmark.report.answer_costs import chart_axes
from stillmark.report.device import picker_data
from stillmark.report.parts import ledger_bars, outcome_bars, ratio_grid, task_examples, tiles
from stillmark.report.reading import COUNTING, effect_of
from stillmark.report.samples import OUTCOME_ORDER
from stillmark.report.style import ROLE_WORDS, styles_of
from stillmark.report.tables import tables_of

TEMPLATE = files("stillmark.report") / "template"
SCRIPTS = ("chart.js", "points.js", "worth.js", "device.js", "samples.js", "page.js")
BOUNDARY_TITLES = {
    "student": "Training alone",
    "generation": "+ teacher's work",
    "teacher": "+ teacher's making",
    "base": "work + starting weights",
    "everything": "Everything",
}
OPEN_TABLES = ("arms", "differences", "levels", "outcomes", "stages")  # the others are folded


def page_html(conclusion: Mapping[str, Any], samples: Sequence[Mapping[str, Any]] = ()) -> str:
    """The whole page; `samples` are those that `samples.browse` chose."""
    data = {**chart_data(conclusion), "samples": samples}
    return rendered("page.html", conclusion, {**context(conclusion), "samples": samples}, SCRIPTS, data)


def rendered(
    name: str, conclusion: Mapping[str, Any], values: Mapping[str, Any], scripts: Sequence[str], data: Any
) -> str:
    """A template with styles, scripts and the scripts' data put in."""
    script = "\n".join((TEMPLATE / script).read_text(encoding="utf-8") for script in scripts)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
        loader=jinja2.FunctionLoader(lambda file: (TEMPLATE / file).read_text(encoding="utf-8")),
    )
    environment.filters.update(
        {
            name: getattr(words, name)
            for name in ("percent", "flops", "count", "seconds", "gibibytes", "quantity")
        }
    )
    environment.filters["visible"] = words.visible_text
    return environment.get_template(name).render(
        **values,
        css=Markup((TEMPLATE / "page.css").read_text(encoding="utf-8") + arm_colors(conclusion)),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(json_for_script(data)),
    )


def shown(value: Any) -> Any:
    """Every text that the template puts in, with its hidden characters made visible."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return words.visible_text(value, len(value)) if is_text else value


def context(conclusion: Mapping[str, Any]) -> dict[str, Any]:
    """What the template reads."""
    tables = {table.name: table for table in tables_of(conclusion)}
    return {
        "conclusion": conclusion,
        "answer": answer_of(conclusion),
        "tiles": tiles(conclusion),
        "tables": tables,
        "grid": ratio_grid(conclusion),
        "worth": {row["arm"]: row for row in worth_rows(conclusion, student=answer_of(conclusion).student)},
        "axes": chart_axes(conclusion),
        "device": picker_data(conclusion),
        "num_students_choices": len(STUDENTS),
        "default_queries": DEFAULT_QUERIES,
        "ledger_bars": ledger_bars(conclusion),
        "outcome_bars": outcome_bars(conclusion),
        "examples": task_examples(conclusion),
        "styles": styles_of(conclusion),
        "role_words": ROLE_WORDS,
        "boundaries": words.BOUNDARIES,
        "boundary_titles": BOUNDARY_TITLES,
        "counting": COUNTING,
        "methods": methods(),
        "interval_methods": interval_methods(conclusion),
        "provenance": provenance_rows(conclusion["provenance"]),
    }


def arm_colors(conclusion: Mapping[str, Any]) -> str:
    """CSS variables of the arms, by position, for light and dark pages."""
    styles = list(styles_of(conclusion).values())
    light = "".join(f"--arm-{index}:{style.light};" for index, style in enumerate(styles))
    dark = "".join(f"--arm-{index}:{style.dark};" for index, style in enumerate(styles))
    return (
        f":root{{{light}}}\n@media (prefers-color-scheme: dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=dark]{{{dark}}}\n"
    )


def chart_data(conclusion: Mapping[str, Any]) -> dict[str, Any]:
    """What the script draws."""
    arms = {arm["arm"]: arm for arm in conclusion["arms"]}
    names = ("params", "accuracy", "curve", "flops", "cpu_seconds", "answer_flops", "generated_tokens")
    return {
        "arms": [
            {**style.row(), "color": f"var(--arm-{index})", **{name: arms[style.arm][name] for name in names},
             "joules": arms[style.arm].get("joules") or dict.fromkeys(words.BOUNDARIES),
             "worth": {resource: asdict(parts_of(conclusion, arms[style.arm], resource)) for resource in RESOURCES}}
            for index, style in enumerate(styles_of(conclusion).values())
        ],
        "axes": chart_axes(conclusion),
        "roles": ROLE_WORDS,
        "counting": COUNTING,
        "chance": [
            task["chance"] for task in conclusion["tasks"].values() if task["chance"] is not None
        ],
        "comparisons": [
            {"arm": row["arm"], "ratios": [{**ratio_words(ratio), **ratio} for ratio in row["ratios"]],
             "by_students": [{**ratio_words(ratio), "students": ratio["students"], "boundary": ratio["boundary"],
                              "accuracy": ratio["accuracy"]} for ratio in row.get("by_students", [])]}
            for row in conclusion["comparisons"]
        ],
        "student": answer_of(conclusion).student,
        "students": STUDENTS,
        "students_per_teacher": conclusion["students_per_teacher"],
        "parts": {boundary: [str(part) for part in parts] for boundary, parts in ledger.PARTS_WITHIN.items()},
        "outcomes": OUTCOME_ORDER,
        "device": picker_data(conclusion),
    }  # fmt: skip


def ratio_words(row: Mapping[str, Any]) -> dict[str, str]:
    return {"shown": words.ratio(row), "limits": words.ratio_limits(row), "effect": effect_of(row)}


def json_for_script(value: Any) -> str:
    """JSON inside a script element: no character that could end it or begin a tag or a comment."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def methods() -> list[dict[str, str]]:
    """How numbers are obtained, in the words of the modules that obtain them."""
    chosen = (
        ("how-flops", "How FLOPs are counted", flops),
        ("how-boundary", "What a boundary counts", ledger),
        ("how-curve", "How the curve is made, and what it means to reach an accuracy", curves),
        ("how-ratio", "How the compute ratio is defined", frontier),
        ("how-worth", "What having an arm takes", worth_module),
        ("how-device", "How an arm is chosen for a device", choose_module),
        ("how-answer", "What an answer takes", answer_axes),
    )
    return [
        {"id": anchor, "title": title, "text": inspect.cleandoc(module.__doc__ or "")}
        for anchor, title, module in chosen
    ]


def interval_methods(conclusion: Mapping[str, Any]) -> str:
    found = {arm["accuracy"]["method"] for arm in conclusion["arms"] if arm["accuracy"]}
    return "; ".join(sorted(found)) or words.UNKNOWN


def provenance_rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the machine and the code, line by line."""
    rows = []
    for name, value in provenance.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {key}", words.UNKNOWN if v is None else str(v)) for key, v in value.items()]
        elif name == "memory_bytes":
            rows.append(("memory", words.gibibytes(value)))
        else:
            rows.append((name, words.UNKNOWN if value is None else str(value)))
    return [(words.visible_text(name, 200), words.visible_text(value, 400)) for name, value in rows]
