"""Makes a closed data file into blocks: beside it, checked, synced, and only then put in its place.

A crash before the rename leaves the old file and a half-made one that the next start removes; after it, the new file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from gateway.log import blocks, datafile
from gateway.log.blocks import Source
from gateway.log.datafile import DataFile, Row, translated
from gateway.log.errors import LogIOError
from gateway.log.identity import inode
from gateway.log.packing import block_of, source_of

_ROWS_AT_ONCE: Final = 16

Pause = Callable[[int], bool]
"""Called after each block with the bytes read for it: waits as long as the disk and the processor shall rest, and says
whether to go on."""


class Compacted(NamedTuple):
    """A file of blocks that waits to take the place of `file`."""

    file: DataFile
    path: Path
    bytes: int


def compact(file: DataFile, pause: Pause) -> Compacted | None:
    """Write `file`, which must be closed, as blocks into a file beside it, durable; None when `pause` said to stop.

    What cannot be read goes over as it is: its damage is still there to be counted. Raises LogCorruptError when the
    file as a whole cannot be read or a block does not give back what went in, LogFullError, LogIOError; then nothing
    is left of the new file.
    """
    path = file.path.with_name(datafile.COMPACT_NAME)
    with translated(path):
        datafile.remove(path)
        try:
            done = _write(file, path, pause)
            if done:
                _sync(path)
                return Compacted(file, path, path.stat().st_size)
        except BaseException:
            datafile.remove(path)
            raise
        datafile.remove(path)
    return None


def take_place(made: Compacted) -> DataFile:
    """Put the blocks where the file was; the caller sees to it that nobody in this process has the old one open.

    Raises LogFullError, LogIOError; then one of the two is there, whole.
    """
    path = made.file.path
    with translated(path):
        made.path.replace(path)
        datafile.sync_folder(path.parent)
        datafile.remove_beside(path)
    return made.file._replace(bytes=made.bytes, in_blocks=True)


def discard(made: Compacted) -> None:
    """Remove blocks that nobody needs."""
    datafile.remove(made.path)


def _write(file: DataFile, path: Path, pause: Pause) -> bool:
    old = datafile.connect(file.path, make=False)
    try:
        # Nothing may be left beside the file: its write-ahead log would be taken for the new one's.
        busy, _, _ = old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise LogIOError(f"{file.path}: its write-ahead log is in use")
        new = datafile.create_in_blocks(path)
        try:
            _copy_preamble(old, new, file, path)
            done = _copy_segments(old, new, file, pause)
            new.execute("COMMIT")
        finally:
            new.close()
    finally:
        old.close()
    return done


def _copy_preamble(old: sqlite3.Connection, new: sqlite3.Connection, file: DataFile, path: Path) -> None:
    datafile.read_preamble(old, file.path, file.first)  # a damaged one is not made to last
    new.execute("INSERT INTO preamble VALUES (1, ?, ?)", old.execute("SELECT head, body FROM preamble").fetchone())
    new.executemany("INSERT INTO session VALUES (?, ?)", old.execute("SELECT id, body FROM session").fetchall())
    if (session := datafile.read_session(old, file.path)) is not None:
        datafile.write_session(new, session.on({file.path.name: inode(path)}, session.end))


def _copy_segments(old: sqlite3.Connection, new: sqlite3.Connection, file: DataFile, pause: Pause) -> bool:
    gathered: list[Source] = []
    taken = 0
    for row in _rows(old, file):
        size = len(row.head) + len(row.body)
        source = source_of(row)
        if gathered and (source is None or taken + size > blocks.BLOCK_BYTES):
            _insert(new, block_of(gathered))
            if not pause(taken):
                return False
            gathered, taken = [], 0
        if source is None:
            new.execute("INSERT INTO segment VALUES (?, ?, ?)", row[:3])
        else:
            gathered.append(source)
            taken += size
    if gathered:
        _insert(new, block_of(gathered))
    return True


def _insert(new: sqlite3.Connection, row: Row) -> None:
    new.execute("INSERT INTO block VALUES (?, ?, ?, ?)", (row.position, row.last, row.head, row.body))


def _rows(old: sqlite3.Connection, file: DataFile) -> Iterator[Row]:
    at = file.first
    while rows := datafile.fetch(old, at, file.end, _ROWS_AT_ONCE):
        yield from rows
        at = rows[-1].end


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
