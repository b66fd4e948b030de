"""`stillmark published`: what others have published about a model, with the source of every figure."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from stillmark.published.registry import Figure, Model, Registry, Score

app = typer.Typer(
    help="What others have published about models: figures and scores, each with its source.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ModelId = Annotated[str, typer.Argument(help="A model's id or name; `list` shows them.", show_default=False)]
Files = Annotated[
    list[Path] | None, typer.Option("--file", help="A registry file of your own, read as well.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


@app.command("list", epilog="Example: stillmark published list --kind distilled")
def list_models(
    kind: Annotated[str | None, typer.Option(help="Only vanilla, distilled, teacher, ... models.")] = None,
    family: Annotated[str | None, typer.Option(help="Only models of one family, such as qwen2.5.")] = None,
    file: Files = None,
    as_json: AsJson = False,
) -> None:
    """List the models, with how much is known of each."""
    from stillmark.published.amounts import figure_text

    registry = _registry(file)
    models = [model for model in registry.models if kind in (None, model.kind)]
    models = [model for model in models if family in (None, model.family)]
    if not models:
        kinds = ", ".join(sorted({model.kind for model in registry.models}))
        families = ", ".join(sorted({model.family for model in registry.models}))
        _fail(f"no model of this kind and family\nkinds: {kinds}\nfamilies: {families}")
    if as_json:
        _write_json([_summary(model) for model in models])
        return
    rows = [
        [
            model.id,
            model.kind,
            figure_text(size) if (size := model.figure("params_total")) else "unknown",
            model.base.printed if model.base else "",
            model.teacher or "",
            str(len(model.figures)),
            str(len(model.scores)),
        ]
        for model in models
    ]
    figures, scores = sum(len(m.figures) for m in models), sum(len(m.scores) for m in models)
    _print_table(
        f"{len(models)} models, {figures} figures, {scores} scores",
        ["model", "kind", "params", "base", "teacher", "figures", "scores"],
        rows,
        numbers={2, 5, 6},
    )


@app.command(epilog="Example: stillmark published show deepseek-r1-distill-llama-8b --json | jq .scores")
def show(model: ModelId, file: Files = None, as_json: AsJson = False) -> None:
    """Show every figure and score of one model with its source. Disagreements stand side by side."""
    from stillmark.published.amounts import figure_text, score_text

    found = _registry(file).model(model)
    if as_json:
        _write_json(_details(found))
        return
    print(f"{found.name} ({found.id}): {found.kind}")
    for label, text in (
        ("base", found.base.printed if found.base else None),
        ("teacher", found.teacher),
        ("method", found.distillation),
    ):
        if text:
            print(f"  {label}: {text}")
    if found.figures:
        rows = [
            [item.name, figure_text(item), item.unit, item.method, _figure_source(item), item.note or ""]
            for item in found.figures
        ]
        _print_table("figures", ["figure", "value", "unit", "method", "source", "note"], rows, numbers={1})
    if found.scores:
        rows = [
            [
                item.benchmark.name,
                score_text(item),
                item.metric,
                _setting(item),
                item.reported_by,
                _place(item.source.key, item.where),
            ]
            for item in found.scores
        ]
        _print_table(
            "scores", ["benchmark", "score", "metric", "setting", "reported by", "source"], rows, numbers={1}
        )
    _print_addresses(found)


@app.command(
    epilog="Example: stillmark published compare deepseek-r1-distill-llama-8b qwen2.5-72b\n\n"
    "Scores are compared only on one test set, by one metric, of one variant."
)
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A model.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="B", help="Another model.", show_default=False)],
    file: Files = None,
    as_json: AsJson = False,
) -> None:
    """Compare two models where their scores can be compared, with what differs between the settings."""
    from stillmark.analysis.claims_size import are_comparable, judge
    from stillmark.published.amounts import score_text
    from stillmark.published.settings import Claims

    registry = _registry(file)
    one, other = registry.model(first), registry.model(second)
    claims = Claims()
    pairs = [judge(a, b, claims) for a in one.scores for b in other.scores if are_comparable(a, b)]
    words = {"supported": "A higher", "contradicted": "B higher", "tie": "tie"}
    if as_json:
        _write_json(
            {
                "a": one.id,
                "b": other.id,
                "pairs": [
                    {
                        "benchmark": pair.student.benchmark.key,
                        "metric": pair.student.metric,
                        "a": pair.student.value,
                        "b": pair.comparator.value,
                        "difference": round(pair.difference, 6),
                        "verdict": words[pair.verdict],
                        "tie_limit": pair.tie_limit,
                        "tie_reason": pair.tie_reason,
                        "differs": pair.differs,
                        "source_a": _source(pair.student),
                        "source_b": _source(pair.comparator),
                    }
                    for pair in pairs
                ],
            }
        )
        return
    rows = [
        [
            pair.student.benchmark.name,
            score_text(pair.student),
            score_text(pair.comparator),
            f"{pair.difference:+.1f}",
            words[pair.verdict],
            f"{pair.tie_limit:.1f}",
            _place(pair.student.source.key, pair.student.where),
            _place(pair.comparator.source.key, pair.comparator.where),
            "; ".join(pair.differs),
        ]
        for pair in pairs
    ]
    if not rows:
        _fail(f"no score of {one.name} and {other.name} is on one test set, by one metric and of one variant")
    columns = ["benchmark", "A", "B", "A - B", "", "tie within", "source of A", "source of B", "what differs"]
    _print_table(f"A = {one.name}, B = {other.name}", columns, rows, numbers={1, 2, 3, 5})


@app.command(epilog="Example: stillmark published check my-model.yaml\n\nThe form: docs/guide/add-a-model.md")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A registry file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Check a registry file of your own: one line for each fault, or what the file would add."""
    from stillmark.published.registry import check_file, load_registry

    checked = check_file(file, load_registry())
    added: dict[str, Any] = {
        "file": str(file),
        "sources": sorted(checked.sources),
        "models": [
            {"id": model.id, "figures": len(model.figures), "scores": len(model.scores)}
            for model in checked.models
        ],
    }
    if as_json:
        _write_json(added)
        return
    print(f"{file}: no fault")
    for model in added["models"]:
        print(f"  adds {model['id']}: {model['figures']} figures, {model['scores']} scores")


def _registry(files: list[Path] | None) -> "Registry":
    from stillmark.published.registry import load_with

    return load_with(files or [])


def _summary(model: "Model") -> dict[str, Any]:
    params = model.figure("params_total")
    return {
        "id": model.id,
        "name": model.name,
        "kind": model.kind,
        "family": model.family,
        "params": params.value if params else None,
        "base": model.base.printed if model.base else None,
        "teacher": model.teacher,
        "figures": len(model.figures),
        "scores": len(model.scores),
    }


def _details(model: "Model") -> dict[str, Any]:
    """A model as plain data: every entry with its source spelled out."""
    from dataclasses import asdict

    details = asdict(model)
    for score in details["scores"] + details["answer_lengths"]:
        score["benchmark"] = score["benchmark"]["key"]
        del score["model_id"]
    return details


def _figure_source(figure: "Figure") -> str:
    formula = f"= {figure.formula}" if figure.formula else ""
    if figure.source is None:
        return formula
    return " ".join(part for part in (_place(figure.source.key, figure.where), formula) if part)


def _place(key: str, where: str | None) -> str:
    return f"{key}, {where}" if where else key


def _setting(score: "Score") -> str:
    """What the source states of how the score was taken."""
    parts = [score.variant]
    if score.thinking is not None:
        parts.append("thinking" if score.thinking else "not thinking")
    for value, words in (
        (score.checkpoint, "{}"),
        (score.num_fewshot, "{}-shot"),
        (score.num_responses, "{} responses a query"),
        (score.decoding, "{}"),
        (score.harness, "{}"),
    ):
        if value is not None:
            parts.append(words.format(value))
    return ", ".join(parts)


def _source(score: "Score") -> dict[str, Any]:
    source = score.source
    return {"key": source.key, "url": source.url, "where": score.where, "seen": source.seen}


def _print_addresses(model: "Model") -> None:
    """The address of each source that was named."""
    named = [figure.source for figure in model.figures] + [score.source for score in model.scores]
    print("sources")
    for source in dict.fromkeys(source for source in named if source):
        print(f"  {source.key} ({source.kind}): {source.url}\n    {source.seen}")


def _print_table(title: str, columns: list[str], rows: list[list[str]], numbers: set[int]) -> None:
    """A table on stdout: as wide as the terminal, or whole where stdout is not one."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=240)
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    console.print(table)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # brackets of a source are text, not markup


def _write_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    print()


def _fail(message: str) -> None:
    from stillmark.errors import UserError

    raise UserError(message)
