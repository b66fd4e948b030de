"""The errors that are the user's to mend: printed as one clear message, without a traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What is wrong, where, and what was possible; `hint` says how to mend it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n\nhint: {self.hint}" if self.hint else self.message


def did_you_mean(name: str, possible: Iterable[str]) -> str | None:
    """`did you mean ...?` for the nearest of the possible names, or None where none is near."""
    near = difflib.get_close_matches(name, list(possible), n=1)
    return f"did you mean `{near[0]}`?" if near else None
