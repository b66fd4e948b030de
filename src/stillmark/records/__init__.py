"""The records and the store that keeps them."""

from stillmark.records.rows import (
    CheckpointRecord,
    ItemRecord,
    JobRecord,
    LedgerEntry,
    Method,
    Outcome,
    ProfileRecord,
    SampleDetail,
    SampleRecord,
    TextScore,
)
from stillmark.records.store import FORMAT, Store, canonical, now

__all__ = [
    "FORMAT",
    "CheckpointRecord",
    "ItemRecord",
    "JobRecord",
    "LedgerEntry",
    "Method",
    "Outcome",
    "ProfileRecord",
    "SampleDetail",
    "SampleRecord",
    "Store",
    "TextScore",
    "canonical",
    "now",
]
