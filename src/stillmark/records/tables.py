"""The tables of a store, in SQL, and the columns that came after files were written."""

import sqlite3

TABLES = """
CREATE TABLE IF NOT EXISTS study (
  id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, text TEXT NOT NULL, resolved TEXT NOT NULL,
  plan TEXT NOT NULL, provenance TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
  key TEXT PRIMARY KEY, stage TEXT NOT NULL, inputs TEXT NOT NULL, provenance TEXT NOT NULL,
  started_at TEXT NOT NULL, finished_at TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
  item_id TEXT PRIMARY KEY, task TEXT NOT NULL, level INTEGER NOT NULL, prompt TEXT NOT NULL,
  target TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
  job_key TEXT NOT NULL REFERENCES jobs, item_id TEXT NOT NULL REFERENCES items, repeat INTEGER NOT NULL,
  position INTEGER NOT NULL, response TEXT NOT NULL, outcome TEXT NOT NULL, stop_reason TEXT NOT NULL,
  prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL, seconds REAL,
  PRIMARY KEY (job_key, item_id, repeat)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sample_details (
  job_key TEXT NOT NULL, item_id TEXT NOT NULL, repeat INTEGER NOT NULL, prompt_sha256 TEXT NOT NULL, extracted TEXT,
  extractor TEXT, grades TEXT NOT NULL, nats TEXT, cuts TEXT, thinking_tokens INTEGER, prefill_seconds REAL,
  decode_seconds REAL, flops INTEGER, price_usd REAL, is_cached INTEGER NOT NULL, error TEXT, served_model TEXT,
  PRIMARY KEY (job_key, item_id, repeat), FOREIGN KEY (job_key, item_id, repeat) REFERENCES samples) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS text_scores (
  job_key TEXT NOT NULL REFERENCES jobs, "index" INTEGER NOT NULL, nats REAL NOT NULL, tokens INTEGER NOT NULL,
  num_bytes INTEGER NOT NULL, truncated_tokens INTEGER NOT NULL, seconds REAL, flops INTEGER,
  source TEXT, teacher_kl_nats REAL,
  PRIMARY KEY (job_key, "index")) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS prompts (sha256 TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (
  job_key TEXT NOT NULL REFERENCES jobs, part TEXT NOT NULL, "index" INTEGER NOT NULL, flops INTEGER,
  flops_method TEXT NOT NULL, tokens INTEGER, positions INTEGER, seconds REAL, cpu_seconds REAL,
  device TEXT NOT NULL, joules REAL, joules_method TEXT, joules_source TEXT,
  PRIMARY KEY (job_key, part, "index")) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS checkpoints (
  job_key TEXT NOT NULL REFERENCES jobs, "index" INTEGER NOT NULL, step INTEGER NOT NULL,
  samples_seen INTEGER NOT NULL, tokens INTEGER NOT NULL, train_flops INTEGER NOT NULL, loss REAL,
  path TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (job_key, "index")) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS profiles (
  job_key TEXT NOT NULL REFERENCES jobs, engine TEXT NOT NULL, format TEXT NOT NULL, setting TEXT NOT NULL,
  metric TEXT NOT NULL, value REAL, low REAL, high REAL, unit TEXT NOT NULL, method TEXT NOT NULL,
  verdict TEXT NOT NULL, reason TEXT, PRIMARY KEY (job_key, engine, format, setting, metric)) WITHOUT ROWID;
"""
NEW_COLUMNS = (
    ("sample_details", "served_model", "TEXT"),
    ("ledger", "joules", "REAL"),
    ("ledger", "joules_method", "TEXT"),
    ("ledger", "joules_source", "TEXT"),
)


def add_columns(connection: sqlite3.Connection) -> None:
    """Columns that came after a file was written; its rows have NULL there: not known."""
    for table, column, kind in NEW_COLUMNS:
        if column not in {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
