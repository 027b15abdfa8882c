"""Where a commit goes: straight into the data file, or by way of the ring on storage that wears out."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from gateway.log import codec, datafile
from gateway.log.blocks import Source
from gateway.log.datafile import Row, translated
from gateway.log.packing import in_blocks
from gateway.log.records import Segment
from gateway.log.ring import Ring

STRAIGHT_BYTES: Final = 256_000
"""encoded bytes of a commit from which on it is not worth being written twice"""
STAGED_BYTES: Final = 8_000_000
"""memory that waiting segments may take: many more bytes than the ring holds of them, unless all are alike"""


class Commits(Protocol):
    """The newest data file, for writing. `commit`, `settle` and `turn_over` belong to one thread at a time.

    Every method raises LogFullError and LogIOError; then nothing is changed, and the same may be tried again.
    """

    connection: sqlite3.Connection
    """to the newest data file"""
    in_blocks: bool
    """shall the next data file be one for blocks"""
    lock: threading.Lock
    """held while data files are read, removed, replaced, or written other than by a commit"""

    @property
    def staged(self) -> Sequence[Row]:
        """Segments that are durable and not in the data file yet, in order."""

    def commit(self, rows: Sequence[Row], segments: Sequence[Segment]) -> None:
        """Write segments, which are encoded as `rows`, durable on return."""

    def settle(self) -> None:
        """Have everything in the data file."""

    def turn_over(self, path: Path) -> None:
        """Everything is settled: go on in another data file."""

    def close(self) -> None:
        """Give the files back as they are."""


class Direct:
    """Each commit is a transaction of the data file."""

    in_blocks = False

    def __init__(self, path: Path) -> None:
        """Raises LogError."""
        self.lock = threading.Lock()
        self._path = path
        with translated(path):
            self.connection = datafile.connect(path)

    @property
    def staged(self) -> Sequence[Row]:
        """None, ever."""
        return ()

    def commit(self, rows: Sequence[Row], segments: Sequence[Segment]) -> None:
        """See Commits."""
        with translated(self._path):
            datafile.write_rows(self.connection, rows)

    def settle(self) -> None:
        """Everything is where it belongs."""

    def turn_over(self, path: Path) -> None:
        """See Commits."""
        with translated(path):
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection = datafile.connect(path)
            self.connection.close()
        self.connection, self._path = connection, path

    def close(self) -> None:
        """See Commits."""
        self.connection.close()


class Ringed:
    """Commits gather in the ring until it is full; then they go into the data file together, in blocks."""

    in_blocks = True

    def __init__(self, path: Path, ring: Ring) -> None:
        """The ring is this one's to close. Raises LogError."""
        self.lock = threading.Lock()
        self._path = path
        self._ring = ring
        self._staged: tuple[Row, ...] = ()
        self._staged_bytes = 0
        with translated(path):
            self.connection = datafile.connect(path, journal="PERSIST")

    @property
    def staged(self) -> Sequence[Row]:
        """See Commits."""
        return self._staged

    def commit(self, rows: Sequence[Row], segments: Sequence[Segment]) -> None:
        """See Commits."""
        size = sum(len(row.head) + len(row.body) for row in rows)
        if size > STRAIGHT_BYTES:
            self._straight(rows)
            return
        if self._staged_bytes + size > STAGED_BYTES:
            self.settle()
        sources = [
            Source(codec.decode_head(row.head, row.position), len(row.head) + len(row.body), segment.records)
            for row, segment in zip(rows, segments, strict=True)
        ]
        if not self._ring.append(sources):
            self.settle()
            if not self._ring.append(sources):
                self._straight(rows)
                return
        self._staged += tuple(rows)
        self._staged_bytes += size

    def settle(self) -> None:
        """See Commits."""
        if not self._staged:
            return
        rows = in_blocks(self._staged)
        with self.lock, translated(self._path):
            datafile.write_rows(self.connection, rows)
            self._staged = ()
        self._staged_bytes = 0
        self._ring.begin_round()

    def turn_over(self, path: Path) -> None:
        """See Commits."""
        with translated(path):
            connection = datafile.connect(path, journal="PERSIST")
            _finish(self.connection)
        self.connection, self._path = connection, path

    def close(self) -> None:
        """See Commits."""
        self._ring.close()
        self.connection.close()

    def _straight(self, rows: Sequence[Row]) -> None:
        self.settle()
        with self.lock, translated(self._path):
            datafile.write_rows(self.connection, rows)


def settle_into(path: Path, rows: Sequence[Row]) -> None:
    """Bring what a start found in the ring into the data file that it belongs to.

    Raises LogFullError, LogIOError, LogCorruptError for a file that is so damaged that it takes nothing more.
    """
    packed = in_blocks(rows)
    with translated(path):
        connection = datafile.connect(path, journal="PERSIST")
        try:
            datafile.write_rows(connection, packed)
        finally:
            _finish(connection)


def _finish(connection: sqlite3.Connection) -> None:
    """Close a file that goes on without us, and leave no journal beside it."""
    try:
        connection.execute("PRAGMA journal_mode=DELETE")
    finally:
        connection.close()
