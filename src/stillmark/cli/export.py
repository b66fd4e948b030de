"""`stillmark export`: a study's records as files that other tools read."""

import sys
from pathlib import Path
from typing import Annotated

import typer

EXPORT_EPILOG = """\b
Examples:
  stillmark export runs/quickstart --to records
  stillmark export runs/quickstart --to records --format csv
In Python:  samples = stillmark.open_run("runs/quickstart").frame("samples")
"""


def export_command(
    folder: Annotated[Path, typer.Argument(help="The study's folder.", metavar="FOLDER")],
    to: Annotated[Path, typer.Option("--to", help="Where the files go.")],
    kind: Annotated[str, typer.Option("--format", help="parquet or csv.")] = "parquet",
) -> None:
    """Write every table of a study's records to a file, each row with its arm, seed, stage and checkpoint."""
    from stillmark.records.export import export_run

    for path in export_run(folder, to, kind):
        print(path)
    print(f"exported {folder} to {to}", file=sys.stderr)
