"""How a conclusion is shown: a study of questions in one way, a text study in another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stillmark.records import Store
from stillmark.report.figures import picture_files
from stillmark.report.page import page_html
from stillmark.report.samples import browse, browse_benchmarks
from stillmark.report.table import Table
from stillmark.report.tables import tables_of
from stillmark.report.text_figures import text_picture_files
from stillmark.report.text_page import text_page_html
from stillmark.report.text_tables import text_tables_of


@dataclass(frozen=True, kw_only=True)
class Views:
    """What a report is made with."""

    tables: Callable[[Mapping[str, Any]], list[Table]]
    page: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str]
    pictures: Callable[[Mapping[str, Any]], dict[str, bytes]]
    browse: Callable[[Store, Mapping[str, Any]], list[dict[str, Any]]]


def views_of(conclusion: Mapping[str, Any]) -> Views:
    """The views of the conclusion's kind of study."""
    if conclusion.get("kind") == "text":
        return Views(tables=text_tables_of, page=text_page_html, pictures=text_picture_files,
                     browse=browse_benchmarks)  # fmt: skip
    return Views(tables=tables_of, page=page_html, pictures=picture_files, browse=browse)
