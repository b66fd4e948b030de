"""The numbers of the paper report as links: each reference is listed once and opened by position."""

import json
from collections.abc import Iterable
from html import escape

from stillmark.report.paper_cells import Reference


class References:
    """The page's references, each once; a number names its own by position."""

    def __init__(self) -> None:
        self.known: dict[Reference, int] = {}

    def attributes(self, references: Iterable[Reference]) -> str:
        """The attributes of a link that opens these references; empty where there is none."""
        found = list(references)
        ids = [str(self.known.setdefault(reference, len(self.known))) for reference in found]
        if not ids:
            return ""
        url = next((reference.url for reference in found if reference.url), None)
        href = f'href="{escape(url)}" target="_blank" rel="noopener"' if url else 'href="#table-inputs"'
        return f'{href} data-r="{" ".join(ids)}"'

    def script_data(self) -> str:
        """All references as JSON that can stand inside a script element."""
        rows = [
            [item.what, item.value, item.method, item.source, item.url, item.where, item.seen, item.note]
            for item in self.known
        ]
        return json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c")
