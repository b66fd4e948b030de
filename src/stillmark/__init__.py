"""Stillmark: is a distilled small language model worth it?"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from stillmark.records.export import Run

__version__ = "0.1.0"


def open_run(folder: "str | Path") -> "Run":
    """The records of a study's folder: `open_run("runs/quickstart").frame("samples")` is a pandas DataFrame."""
    from stillmark.records.export import Run

    return Run(folder)
