"""The errors that are the user's to mend: printed as one clear message, without a traceback."""

import difflib
import errno
from collections.abc import Iterable

KEPT = "what is recorded is kept"
GOES_ON = "the same command goes on from here"
MAKE_ROOM = f"make room, and {GOES_ON}"


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


def fault_of_machine(error: BaseException) -> UserError | None:
    """A file or a disk that an error is about, as the user's to mend; None where it is about neither.

    Writers that are not Python (safetensors, tokenizers) have errors of their own, which tell the number in words.
    """
    number, file = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
    where = f"{file}: " if file is not None else ""
    if number in (errno.ENOSPC, errno.EDQUOT) or f"(os error {errno.ENOSPC})" in str(error):
        return UserError(f"{where}there is no room left on the disk", MAKE_ROOM)
    if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
        return None
    return UserError(where + " ".join((getattr(error, "strerror", None) or str(error)).split()))
