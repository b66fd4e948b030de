"""Writes what is made from code and records: parts of README.md and docs/results, docs/reference/command-line.md.

python docs/generate.py            writes them
python docs/generate.py --check    says which are stale; exit 1 if any is
"""

import ast
import json
import sys
from pathlib import Path

import typer
import typer.testing

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "stillmark"
TREE_START, TREE_END = "<!-- tree: made by docs/generate.py -->", "<!-- end of tree -->"
QUICKSTART_START = (
    "<!-- quickstart: made by docs/generate.py from docs/results/quickstart/conclusion.json -->"
)
QUICKSTART_END = "<!-- end of quickstart -->"
SMOLLM2_START = "<!-- smollm2: made by docs/generate.py from docs/results/smollm2/conclusion.json -->"
SMOLLM2_END = "<!-- end of smollm2 -->"
SMOLLM2 = ROOT / "docs" / "results" / "smollm2"
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
from test_layers import LAYERS  # noqa: E402  (the one list of layers)


def first_sentence(path: Path) -> str:
    """The first line of a module's docstring, as far as its first full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.split("\n\n")[0].split())
    return sentence.split(". ")[0].rstrip(".")


def tree() -> str:
    """The package, one line a file, in the order in which imports go."""
    lines = ["src/stillmark/"]
    for layer in [*LAYERS, "__main__"]:
        folder, file = PACKAGE / layer, PACKAGE / f"{layer}.py"
        if file.is_file():
            lines.append(f"  {file.name:<28}{first_sentence(file)}")
        elif folder.is_dir():
            lines.append(f"  {layer + '/':<28}{first_sentence(folder / '__init__.py')}")
            for path in sorted(folder.rglob("*.py")):
                if path.name != "__init__.py":
                    lines.append(f"    {path.relative_to(folder).as_posix():<26}{first_sentence(path)}")
    return "```text\n" + "\n".join(lines) + "\n```"


def readme() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = between(text, TREE_START, TREE_END, tree())
    text = between(text, QUICKSTART_START, QUICKSTART_END, quickstart())
    return between(text, SMOLLM2_START, SMOLLM2_END, smollm2(with_details=False))


def between(text: str, start: str, end: str, content: str) -> str:
    before, rest = text.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n{content}\n{end}{after}"


def quickstart() -> str:
    """The answer of the recorded quickstart, its arms, and its ratios, as Markdown."""
    from stillmark.report import words
    from stillmark.report.answer import answer_of

    conclusion = json.loads((ROOT / "docs" / "results" / "quickstart" / "conclusion.json").read_text("utf-8"))
    answer = answer_of(conclusion)
    machine = conclusion["provenance"]
    lines = [f"**{answer.verdict}** {answer.sentence}", "", *(f"- {line}" for line in answer.details), ""]
    lines += [
        "| arm | learns from | parameters | accuracy, 95% interval | its training, FLOPs | everything, FLOPs |"
    ]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for arm in conclusion["arms"]:
        start = f", from {arm['base']}" if arm["base"] else ""
        lines.append(
            f"| {arm['arm']} | {arm['text']}, {arm['loss'].replace('_', ' ')}{start} | {arm['params']:,} | "
            f"{words.accuracy(arm['accuracy'])} | {words.quantity(arm['flops']['student'])} | "
            f"{words.quantity(arm['flops'][words.WIDEST])} |"
        )
    lines += ["", f"Over {len(conclusion['seeds'])} seeds, on {machine['cores']} cores of {machine['cpu']}."]
    return "\n".join(lines)


def smollm2(*, with_details: bool) -> str:
    """The answer of the recorded smollm2 study, with what it rests on and its arms where asked, as Markdown."""
    from stillmark.report.text_answer import text_answer_of
    from stillmark.report.text_tables import text_tables_of

    conclusion = json.loads((SMOLLM2 / "conclusion.json").read_text("utf-8"))
    answer = text_answer_of(conclusion)
    lines = [f"**{answer.verdict}** {answer.sentence}"]
    if with_details:
        tables = {table.name: table for table in text_tables_of(conclusion)}
        lines += ["", *(f"- {line}" for line in answer.details), "", tables["arms"].to_markdown().strip()]
    return "\n".join(lines)


def smollm2_result() -> str:
    text = (SMOLLM2 / "README.md").read_text(encoding="utf-8")
    return between(text, SMOLLM2_START, SMOLLM2_END, smollm2(with_details=True))


def command_line() -> str:
    """The help page of every command."""
    from stillmark.cli import app

    pages = ["# The command line", "", "Made from the code by `python docs/generate.py`.", ""]
    runner = typer.testing.CliRunner(env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})

    def add(names: list[str], group: typer.Typer | None) -> None:
        result = runner.invoke(
            app, [*names, "--help"], prog_name="stillmark", terminal_width=100, max_content_width=100
        )
        pages.extend(
            [f"## `{' '.join(['stillmark', *names])}`", "", "```text", result.output.strip(), "```", ""]
        )
        for command in group.registered_commands if group else []:
            name = command.name or command.callback.__name__.removesuffix("_command")  # type: ignore[union-attr]
            add([*names, name.replace("_", "-")], None)
        for child in group.registered_groups if group else []:
            add([*names, str(child.name)], child.typer_instance)

    add([], app)
    return "\n".join(line.rstrip() for line in "\n".join(pages).splitlines()) + "\n"


def generated() -> dict[Path, str]:
    return {
        ROOT / "README.md": readme(),
        SMOLLM2 / "README.md": smollm2_result(),
        ROOT / "docs" / "reference" / "command-line.md": command_line(),
    }


def main() -> None:
    stale = [
        path for path, text in generated().items() if not path.is_file() or path.read_text("utf-8") != text
    ]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run `python docs/generate.py`", file=sys.stderr)
        sys.exit(1 if stale else 0)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(generated()[path], encoding="utf-8")


if __name__ == "__main__":
    main()
