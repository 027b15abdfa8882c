"""Makes a closed data file into blocks: beside it, checked, synced, and only then put in its place.

A crash before the rename leaves the old file and a half-made one that the next start removes; after it, the new file.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.contract.batch import Batch
from gateway.log import blocks, codec, datafile
from gateway.log.blocks import Source
from gateway.log.datafile import DataFile, Row, translated
from gateway.log.errors import LogCorruptError, LogFormatError, LogIOError
from gateway.log.identity import inode
from gateway.log.records import BatchRecord, Record

_ROWS_AT_ONCE: Final = 16
_COLUMNS: Final = ("points", "values", "valid", "status", "source_time", "basis", "flags", "original_time")
_SCALARS: Final = ("device", "type", "received_time", "monotonic")

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
        for part in datafile.side_files(path):
            part.unlink(missing_ok=True)
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
        source = _source(row)
        if gathered and (source is None or taken + size > blocks.BLOCK_BYTES):
            _write_block(new, gathered)
            if not pause(taken):
                return False
            gathered, taken = [], 0
        if source is None:
            new.execute("INSERT INTO segment VALUES (?, ?, ?)", row[:3])
        else:
            gathered.append(source)
            taken += size
    if gathered:
        _write_block(new, gathered)
    return True


def _rows(old: sqlite3.Connection, file: DataFile) -> Iterator[Row]:
    at = file.first
    while rows := datafile.fetch(old, at, file.end, _ROWS_AT_ONCE):
        yield from rows
        at = rows[-1].end


def _source(row: Row) -> Source | None:
    """The segment for a block; None for one that stays as it is: damaged, or holding what this version cannot read."""
    try:
        head = codec.decode_head(row.head, row.position)
        records = codec.decode_body(head, row.body)
    except (LogCorruptError, LogFormatError):
        return None
    return Source(head, len(row.head) + len(row.body), records)


def _write_block(new: sqlite3.Connection, sources: list[Source]) -> None:
    first, last = sources[0].head.position, sources[-1].head.position
    head, body = blocks.encode_block(sources)
    back = blocks.decode_block(blocks.decode_block_head(head, first), body)
    # The block is about to be the only copy there is.
    for source, segment in zip(sources, back, strict=True):
        if source.head.series != segment.heads or not _same(source.records, segment.records):
            raise LogCorruptError(f"position {source.head.position}: a block does not give back what went in")
    new.execute("INSERT INTO block VALUES (?, ?, ?, ?)", (first, last, head, body))


def _same(left: list[Record], right: list[Record]) -> bool:
    return len(left) == len(right) and all(map(_same_record, left, right))


def _same_record(left: Record, right: Record) -> bool:
    if not isinstance(left, BatchRecord):
        return repr(left) == repr(right)  # NaN in an event is not equal to itself
    return (
        isinstance(right, BatchRecord)
        and (left.stream, left.n, left.origin) == (right.stream, right.n, right.origin)
        and _same_batch(left.batch, right.batch)
    )


def _same_batch(left: Batch, right: Batch) -> bool:
    return all(getattr(left, name) == getattr(right, name) for name in _SCALARS) and all(
        _content(getattr(left, name)) == _content(getattr(right, name)) for name in _COLUMNS
    )


def _content(column: Any) -> Any:
    """Something equal only for the same bits."""
    if column is None:
        return None
    return repr(column.tolist()) if column.dtype == object else (column.dtype, column.tobytes())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
