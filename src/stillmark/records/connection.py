"""SQLite whose faults are the user's to read: each names the file, and says what helps."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stillmark.errors import KEPT, MAKE_ROOM, UserError

# These themselves: what else derives from them is a bug of ours
OF_THE_FILE = (sqlite3.OperationalError, sqlite3.DatabaseError)
DAMAGED = "put back a copy of it, or move the file away: the same command makes it again"


class Cursor(sqlite3.Cursor):
    """Rows of a file that may turn out to be damaged at any of them."""

    connection: "Connection"

    def execute(self, *arguments: Any) -> Any:
        return self.connection.named(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self.connection.named(super().executemany, *arguments)

    def fetchone(self) -> Any:
        return self.connection.named(super().fetchone)

    def fetchall(self) -> Any:
        return self.connection.named(super().fetchall)

    def __next__(self) -> Any:
        try:  # not `named`: of millions of rows each would wait for it
            return super().__next__()
        except OF_THE_FILE as error:
            raise self.connection.fault(error) from error


class Connection(sqlite3.Connection):
    """A connection that raises UserError, with the file's name, where the file or its disk is at fault."""

    path: Path

    def fault(self, error: sqlite3.Error) -> Exception:
        """The error as the user's to mend, or itself where it is ours."""
        code = getattr(error, "sqlite_errorcode", None)  # None: Python could not decode what was read
        if type(error) not in OF_THE_FILE or code == sqlite3.SQLITE_ERROR:  # a wrong query
            return error
        if code == sqlite3.SQLITE_FULL:
            return UserError(f"{self.path}: there is no room left on the disk", f"{KEPT}: {MAKE_ROOM}")
        reason = str(error).partition(" with text ")[0]  # the text may be a whole study
        if code in (None, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return UserError(f"{self.path}: is not a sound file of records: {reason}", DAMAGED)
        return UserError(f"{self.path}: {reason}", KEPT)

    def named(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What the call returns; its faults with the file's name."""
        try:
            return call(*arguments)
        except OF_THE_FILE as error:
            raise self.fault(error) from error

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(factory)

    def execute(self, *arguments: Any) -> Any:
        return self.cursor().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        return self.cursor().executemany(*arguments)

    def executescript(self, script: str) -> Any:
        return self.named(super().executescript, script)

    def __exit__(self, *raised: Any) -> Any:
        return self.named(super().__exit__, *raised)


def connect(database: str | Path, path: Path) -> Connection:
    """A connection to a database whose faults name the file at `path`. Raises UserError where there can be none."""
    try:
        connection = sqlite3.connect(database, timeout=60, factory=Connection)
    except sqlite3.OperationalError as error:
        raise UserError(f"{path}: {error}") from error
    connection.path = path
    return connection
