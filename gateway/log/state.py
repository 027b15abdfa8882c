"""Small state beside the log: positions, drop totals, dead letters. JSON under keys, with compare-and-set.

It may be lost: that costs duplicates, never readings. So a damaged file is set aside and a new one begun.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from gateway.log.datafile import connect_closed, connect_watching, side_files, translated
from gateway.log.errors import LogCorruptError, LogFormatError, StateConflictError

FORMAT: Final = 1
_APPLICATION_ID: Final = 0x45475354  # "EGST"
_WAL_PAGES: Final = 50
"""until the write-ahead log begins anew: while it still grows, each change costs the file system's journal as well"""

logger = logging.getLogger(__name__)


class Put(NamedTuple):
    """One change of `put_many`."""

    key: str
    value: Any
    """JSON-able; None removes the key"""
    expected_version: int
    """0 = must not exist yet"""


class StateStore:
    """The file `state.db` in the log's folder; open it after the log, whose lock guards it.

    May be called from any thread; every change is durable on return.
    """

    def __init__(self, path: Path, *, set_aside: bool = True) -> None:
        """Open or make the file; a damaged one is renamed to state.db.damaged and reported in `damage`.

        `set_aside` False leaves it where it is and raises LogCorruptError: for a look beside the process that owns it.
        Raises LogError where the folder cannot be written, LogFormatError for a newer version's state.
        """
        self._path = path
        self._lock = threading.Lock()
        self.damage: str | None = None
        """a sentence for the log line where the old state was lost"""
        try:
            self._connection = _connect(path)
        except LogCorruptError as error:
            if not set_aside:
                raise
            aside = path.with_name(path.name + ".damaged")
            with translated(path):
                path.replace(aside)
                for part in side_files(path):
                    part.unlink(missing_ok=True)
            self.damage = f"{error}; set aside as {aside.name}, positions are lost: expect duplicates"
            logger.error("%s", self.damage)
            self._connection = _connect(path)

    def get(self, key: str) -> tuple[int, Any] | None:
        """Version and value of a key; None when there is none. Raises LogCorruptError, LogIOError."""
        with self._lock, translated(self._path):
            row = self._connection.execute("SELECT version, value FROM state WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], orjson.loads(row[1]))

    def put(self, key: str, value: Any, expected_version: int) -> int:
        """Set a key that still has `expected_version` (0 = must not exist); returns its new version.

        Raises StateConflictError, LogFullError, LogIOError; then nothing is changed.
        """
        return self.put_many([Put(key, value, expected_version)])[0]

    def put_many(self, changes: Sequence[tuple[str, Any, int]]) -> list[int]:
        """All of (key, value, expected version), or none; returns the new versions. Raises as `put`."""
        with self._lock, translated(self._path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                versions = [self._put(*change) for change in changes]
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
        return versions

    def delete(self, key: str) -> None:
        """Remove a key if it is there. Raises LogFullError, LogIOError."""
        with self._lock, translated(self._path):
            self._connection.execute("DELETE FROM state WHERE key = ?", (key,))

    def items(self, prefix: str) -> Iterator[tuple[str, int, Any]]:
        """(key, version, value) of the keys that begin with `prefix`, in the keys' order."""
        sql = "SELECT key, version, value FROM state WHERE substr(key, 1, ?) = ? ORDER BY key"
        with self._lock, translated(self._path):
            rows = self._connection.execute(sql, (len(prefix), prefix)).fetchall()
        for key, version, value in rows:
            yield key, version, orjson.loads(value)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _put(self, key: str, value: Any, expected_version: int) -> int:
        row = self._connection.execute("SELECT version FROM state WHERE key = ?", (key,)).fetchone()
        found = 0 if row is None else int(row[0])
        if found != expected_version:
            raise StateConflictError(f"{self._path}: {key} has version {found}, expected {expected_version}")
        if value is None:
            self._connection.execute("DELETE FROM state WHERE key = ?", (key,))
            return 0
        sql = "INSERT INTO state VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET version = ?2, value = ?3"
        self._connection.execute(sql, (key, found + 1, orjson.dumps(value)))
        return found + 1


def glance(path: Path, prefix: str) -> dict[str, Any]:
    """The values of the keys that begin with `prefix`, beside the process that writes them; empty without a file.

    Raises LogCorruptError, LogIOError.
    """
    if not path.exists():
        return {}
    watching = connect_watching if side_files(path)[0].exists() else connect_closed
    sql = "SELECT key, value FROM state WHERE substr(key, 1, ?) = ? ORDER BY key"
    with translated(path), contextlib.closing(watching(path)) as connection:
        return {key: orjson.loads(value) for key, value in connection.execute(sql, (len(prefix), prefix))}


def _connect(path: Path) -> sqlite3.Connection:
    with translated(path):
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION_ID and version != FORMAT:
        raise LogFormatError(
            f"{path}: state format {version} found, this version reads {FORMAT}; use the newer version"
        )
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application not in (0, _APPLICATION_ID) or (tables and application == 0):
        raise LogCorruptError(f"{path}: not the gateway's state")
    (check,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if check != "ok":
        raise LogCorruptError(f"{path}: damaged: {check}")
    connection.executescript(
        f"BEGIN IMMEDIATE; PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={FORMAT};"
        "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL);"
        "COMMIT"
    )
