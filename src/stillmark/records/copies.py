"""A store's content as bytes, and a store in memory made of them: what a process reads that must write nothing."""

import sqlite3
from pathlib import Path

from stillmark.records.store import Store

FORMAT_VERSIONS = slice(18, 20)  # of the file's header: 2 is write-ahead logging, which memory does not have
ROLLBACK_JOURNAL = b"\x01\x01"


def content_of(store: Store) -> bytes:
    """Everything that the store holds at this moment."""
    content = bytearray(store.connection.serialize())
    content[FORMAT_VERSIONS] = ROLLBACK_JOURNAL
    return bytes(content)


def store_in_memory(path: Path, content: bytes) -> Store:
    """A store with this content. What is written to it is gone with it; files are looked for beside `path`."""
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    return Store(path, connection)
