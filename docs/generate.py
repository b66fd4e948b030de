"""Writes what is made from the code: the tree in README.md and docs/reference/command-line.md.

python docs/generate.py            writes them
python docs/generate.py --check    says which are stale; exit 1 if any is
"""

import ast
import sys
from pathlib import Path

import click
import typer

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "stillmark"
TREE_START, TREE_END = "<!-- tree: made by docs/generate.py -->", "<!-- end of tree -->"
sys.path.insert(0, str(ROOT / "tests"))
from test_layers import LAYERS  # noqa: E402  (the one list of layers)


def first_sentence(path: Path) -> str:
    """The first line of a module's docstring, as far as its first full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = " ".join(text.split("\n\n")[0].split())
    return sentence.split(". ")[0].rstrip(".")


def tree() -> str:
    """The package, one line a file, in the order in which imports go."""
    lines = ["src/stillmark/"]
    for layer in LAYERS:
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
    before, rest = text.split(TREE_START)
    _, after = rest.split(TREE_END)
    return f"{before}{TREE_START}\n{tree()}\n{TREE_END}{after}"


def command_line() -> str:
    """The help page of every command."""
    sys.path.insert(0, str(ROOT / "src"))
    from stillmark.cli import app

    root = typer.main.get_command(app)
    pages = ["# The command line", "", "Made from the code by `python docs/generate.py`.", ""]

    def add(command: click.Command, name: str, parent: click.Context | None) -> None:
        context = click.Context(
            command, info_name=name, parent=parent, max_content_width=100, terminal_width=100
        )
        pages.extend([f"## `{context.command_path}`", "", "```text", command.get_help(context), "```", ""])
        if isinstance(command, click.Group):
            for child in command.list_commands(context):
                found = command.get_command(context, child)
                assert found is not None, child
                add(found, child, context)

    add(root, "stillmark", None)
    return "\n".join(line.rstrip() for line in "\n".join(pages).splitlines()) + "\n"


def generated() -> dict[Path, str]:
    return {ROOT / "README.md": readme(), ROOT / "docs" / "reference" / "command-line.md": command_line()}


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
