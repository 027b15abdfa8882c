"""One data file: a SQLite database with preamble, sessions and segments (docs/log-format.md, Data file)."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import struct
import urllib.parse
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import orjson

from gateway.log import blocks, codec
from gateway.log.errors import LogCorruptError, LogError, LogFormatError, LogFullError, LogIOError
from gateway.log.identity import Session, inode
from gateway.log.preamble import Preamble, next_of
from gateway.log.records import Series

APPLICATION_ID: Final = 0x45474C47
NEW_NAME: Final = "new.db"
COMPACT_NAME: Final = "compact.db"
DAMAGED: Final = ".damaged"
FLASH_FORMAT: Final = 3
"""of data files that are written in blocks from what has gathered in the ring"""
_PAGE_BYTES: Final = 4096
_WAL_BYTES: Final = 4_096_000
"""when the write-ahead log is brought into the file and begins anew, whatever the size of a page"""
_FULL_BYTES: Final = 1_000_000
_FULL: Final = "the disk is full; free space, or give the log a smaller budget"
_READ_ONLY: Final = (
    "a failing disk turns read-only: see the kernel's messages (dmesg), mend it and mount it writable again"
)
_WAL_HEAD: Final = 32
_SQLITE: Final = b"SQLite format 3\0"
_USER_VERSION: Final = slice(60, 64)
"""of SQLite's header (fileformat2, section 1.3), big-endian"""
_WRITE_VERSION: Final = 18
"""the same; 1 = rollback journal, 2 = write-ahead log"""
_ROLLBACK: Final = 1
_FRAME_HEAD: Final = 24
_SCHEMA: Final = """
CREATE TABLE preamble (id INTEGER PRIMARY KEY CHECK (id = 1), head BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE session (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE segment (position INTEGER PRIMARY KEY, head BLOB NOT NULL, body BLOB NOT NULL);
"""
_BLOCK_SCHEMA: Final = """
CREATE TABLE block (position INTEGER PRIMARY KEY, last INTEGER NOT NULL, head BLOB NOT NULL, body BLOB NOT NULL);
"""

Journal = Literal["WAL", "PERSIST", "MEMORY"]
"""SQLite's journal_mode: WAL for small commits; PERSIST for large ones, which then write each new page once"""


class DataFile(NamedTuple):
    """A data file as others see it."""

    path: Path
    first: int
    end: int
    bytes: int
    created: int
    """ns since the epoch"""
    in_blocks: bool = False
    """it was compacted"""


class Row(NamedTuple):
    """One row of `segment`, or of `block` where there is a `last`."""

    position: int
    head: bytes
    body: bytes
    last: int | None = None

    @property
    def end(self) -> int:
        """The position after it."""
        return (self.position if self.last is None else self.last) + 1


def file_path(folder: Path, first: int) -> Path:
    """The data file that begins at position `first`."""
    return folder / f"data-{first:020d}.db"


def data_files(folder: Path, suffix: str = ".db") -> list[tuple[int, Path]]:
    """The folder's data files by first position."""
    found = ((path.name[5 : -len(suffix)], path) for path in folder.glob(f"data-*{suffix}"))
    return sorted((int(digits), path) for digits, path in found if len(digits) == 20 and digits.isdecimal())


def side_files(path: Path) -> tuple[Path, Path]:
    """SQLite's write-ahead log and its index."""
    return path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def rollback_journal(path: Path) -> Path:
    """SQLite's journal where there is no write-ahead log."""
    return path.with_name(path.name + "-journal")


def remove(path: Path) -> None:
    """Unlink a data file and what belongs to it."""
    path.unlink(missing_ok=True)
    remove_beside(path)


def remove_beside(path: Path) -> None:
    """Unlink what belongs to a data file that is not this one any more."""
    for part in (*side_files(path), rollback_journal(path)):
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors into the log's, in this one place."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translation(path, error) from error
    except OSError as error:
        raise _system_error(path, error) from error


def _system_error(path: Path, error: OSError) -> LogError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return LogFullError(f"{path}: {_FULL}")
        case errno.EROFS:
            return LogIOError(f"{path}: cannot be written: {error.strerror}; {_READ_ONLY}")
        case _:
            why = error.strerror or error
            return LogIOError(f"{path}: {why}; check the disk, its free space and its permissions")


def _translation(path: Path, error: sqlite3.Error) -> LogError:
    code = getattr(error, "sqlite_errorcode", 0)
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return LogFullError(f"{path}: {_FULL}")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return LogCorruptError(f"{path}: damaged: {error}")
        case sqlite3.SQLITE_READONLY:
            return LogIOError(f"{path}: cannot be written: {error}; {_READ_ONLY}")
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return LogIOError(
                f"{path}: cannot be written: {error}; give the gateway's user write access to this folder"
            )
        case sqlite3.SQLITE_IOERR if _nearly_full(path):
            # SQLite says so when it cannot enlarge the write-ahead log's index.
            return LogFullError(f"{path}: {_FULL}")
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return LogIOError(f"{path}: {error}; check the disk and the kernel's messages")
        case sqlite3.SQLITE_CONSTRAINT:
            return LogCorruptError(f"{path}: a position is already there: {error}")
        case _:
            # An empty file or one without our tables ends here: SQL that finds no table.
            return LogCorruptError(f"{path}: not as the log left it: {error}")


def _nearly_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < _FULL_BYTES
    except OSError:
        return False


def connect(path: Path, *, make: bool = True, journal: Journal | None = "WAL") -> sqlite3.Connection:
    """A connection that syncs each commit, with explicit transactions; only to a file that is there unless `make`.

    `journal` None leaves the file as it is in that. Raises sqlite3.Error.
    """
    uri = f"{_uri(path)}?mode={'rwc' if make else 'rw'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")  # of a new file; one that is there keeps its own
        if journal is not None:
            connection.execute(f"PRAGMA journal_mode={journal}")
        # FULL, and where a journal is removed to end a transaction, that is made durable too.
        connection.execute("PRAGMA synchronous=EXTRA")
        (found,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_BYTES // found}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def connect_found(path: Path) -> sqlite3.Connection:
    """The same, with the file's journal as it is. Raises sqlite3.Error."""
    return connect(path, journal=None)


def connect_closed(path: Path) -> sqlite3.Connection:
    """A connection to a file that nobody writes: no locks, no side files, not a byte changed. Raises sqlite3.Error."""
    return sqlite3.connect(f"{_uri(path)}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False)


def connect_watching(path: Path) -> sqlite3.Connection:
    """A connection beside the process that writes the file, for reading alone. Raises sqlite3.Error."""
    return sqlite3.connect(
        f"{_uri(path)}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
    )


def connect_sharing(path: Path) -> sqlite3.Connection:
    """The same beside a process that writes without a write-ahead log: where it was killed within a transaction, that
    is taken back here, as the next start would. Raises sqlite3.Error.
    """
    connection = connect_watching(path)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        connection.close()
        if getattr(error, "sqlite_errorcode", 0) not in (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_CANTOPEN):
            raise
        connection = connect(path, make=False, journal=None)
    return connection


def _uri(path: Path) -> str:
    return f"file:{urllib.parse.quote(str(path))}"


def format_of(path: Path) -> int:
    """The format version of a data file, told from its first bytes; 0 for one that cannot be read."""
    return int.from_bytes(_first_bytes(path)[_USER_VERSION], "big")


def is_shared(path: Path) -> bool:
    """May somebody write this file without a write-ahead log?"""
    head = _first_bytes(path)
    return head[_WRITE_VERSION] == _ROLLBACK and int.from_bytes(head[_USER_VERSION], "big") != blocks.FORMAT


def _first_bytes(path: Path) -> bytes:
    """Of a database; zeros for what is none."""
    try:
        with path.open("rb") as file:
            head = file.read(_USER_VERSION.stop)
    except OSError:
        head = b""
    return head if head.startswith(_SQLITE) and len(head) == _USER_VERSION.stop else bytes(_USER_VERSION.stop)


def is_compacted(path: Path) -> bool:
    """Was this file made into blocks, so that nobody writes it any more?"""
    return format_of(path) == blocks.FORMAT


def create_in_blocks(path: Path) -> sqlite3.Connection:
    """A new file for blocks, a transaction open. No journal: it counts once it is renamed. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={blocks.FORMAT}")
        connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA + _BLOCK_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def fetch(
    connection: sqlite3.Connection, start: int, stop: int, at_once: int, *, bodies: bool = True, in_blocks: bool = False
) -> list[Row]:
    """Rows that hold positions of [start, stop), at most `at_once`, in order. Raises sqlite3.Error.

    The first may be a block that begins before `start`.
    """
    body = "body" if bodies else "x''"
    single = f"SELECT position, head, {body}, NULL FROM segment WHERE position >= ?1 AND position < ?2"
    if in_blocks:
        # The block that holds `start` is found by the key: `last` has no index and needs none.
        begin = "coalesce((SELECT max(position) FROM block WHERE position <= ?1), ?1)"
        single += (
            f" UNION ALL SELECT position, head, {body}, last FROM block "
            f"WHERE position >= {begin} AND position < ?2 AND last >= ?1"
        )
    rows = connection.execute(f"{single} ORDER BY 1 LIMIT ?3", (start, stop, at_once)).fetchall()
    return [Row(*row) for row in rows]


def create(folder: Path, preamble: Preamble, session: Session, *, flash: bool = False) -> Path:
    """Make the file that begins at `preamble.first`, written by `session`, durable and closed. Raises LogError.

    `flash`: it will be written in blocks.
    """
    path, new = file_path(folder, preamble.first), folder / NEW_NAME
    with translated(path):
        remove(new)
        # Half-made it counts for nothing, so that what is to be kept of a journal beside it can be forgotten.
        connection = connect(new, journal="MEMORY" if flash else "WAL")
        try:
            connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA + (_BLOCK_SCHEMA if flash else ""))
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={FLASH_FORMAT if flash else codec.FORMAT}")
            connection.execute("INSERT INTO preamble VALUES (1, ?, ?)", preamble.encode())
            write_session(connection, session.on({path.name: inode(new)}, preamble.first))
            connection.execute("COMMIT")
        finally:
            connection.close()
        new.replace(path)
        sync_folder(folder)
    return path


def read_preamble(connection: sqlite3.Connection, path: Path, first: int) -> Preamble:
    """Check that this is a data file of ours and read its preamble. Raises LogCorruptError, LogFormatError."""
    return Preamble.decode(*_preamble_row(connection, path), first)


def read_vectors(connection: sqlite3.Connection, path: Path, first: int) -> dict[Series, int]:
    """As `read_preamble`, but only the offsets given before the file: its records can be many, and cost most."""
    return next_of(codec.decode_document(*_preamble_row(connection, path), first))


def read_created(connection: sqlite3.Connection, path: Path, first: int) -> int:
    """As `read_preamble`, but it is only checked, not decoded: when the file was begun, ns since the epoch."""
    return codec.check_document(*_preamble_row(connection, path), first).commit_time


def _preamble_row(connection: sqlite3.Connection, path: Path) -> tuple[bytes, bytes]:
    with translated(path):
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION_ID and version and version not in (codec.FORMAT, blocks.FORMAT, FLASH_FORMAT):
            raise LogFormatError(
                f"{path}: log format {version} found, this version reads {codec.FORMAT} to {FLASH_FORMAT}; "
                "use the version that wrote this log, or a newer one, or move the folder away to begin a new log"
            )
        row = connection.execute("SELECT head, body FROM preamble WHERE id = 1").fetchone()
    if application != APPLICATION_ID or not version or row is None:
        raise LogCorruptError(f"{path}: no preamble")
    return row[0], row[1]


def write_session(connection: sqlite3.Connection, session: Session) -> None:
    """Add a session row in a transaction of its own, or in the one under way. Raises sqlite3.Error."""
    text = orjson.dumps(session.to_json())
    body = orjson.dumps({**session.to_json(), "crc": zlib.crc32(text)})
    connection.execute("INSERT INTO session (body) VALUES (?)", (body,))


def read_session(connection: sqlite3.Connection, path: Path) -> Session | None:
    """The last session that wrote to this file; None when there is none or it is damaged. Raises LogCorruptError."""
    with translated(path):
        row = connection.execute("SELECT body FROM session ORDER BY id DESC LIMIT 1").fetchone()
    if row is None:
        return None
    try:
        found: dict[str, Any] = orjson.loads(row[0])
        crc = found.pop("crc")
        return Session(**found) if crc == zlib.crc32(orjson.dumps(found)) else None
    except (ValueError, KeyError, TypeError):
        return None


def has_blocks(connection: sqlite3.Connection) -> bool:
    """May there be blocks in this file? Raises sqlite3.Error."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return version in (blocks.FORMAT, FLASH_FORMAT)


def write_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Add segments and blocks in one transaction; the first block makes a file of version 1 one of version 3.

    Raises sqlite3.Error; then nothing is changed.
    """
    packed = [(row.position, row.last, row.head, row.body) for row in rows if row.last is not None]
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("INSERT INTO segment VALUES (?, ?, ?)", (row[:3] for row in rows if row.last is None))
        if packed:
            if not has_blocks(connection):
                connection.execute(_BLOCK_SCHEMA)
                connection.execute(f"PRAGMA user_version={FLASH_FORMAT}")
            connection.executemany("INSERT INTO block VALUES (?, ?, ?, ?)", packed)
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def last_position(connection: sqlite3.Connection, path: Path) -> int | None:
    """The greatest position in the file. Raises LogCorruptError."""
    sql = "SELECT max(position) AS last FROM segment"
    with translated(path):
        if has_blocks(connection):
            sql = f"SELECT max(last) FROM ({sql} UNION ALL SELECT max(last) FROM block)"
        (found,) = connection.execute(sql).fetchone()
    return None if found is None else int(found)


def torn_frames(connection: sqlite3.Connection, path: Path) -> bool:
    """Is there a frame of the current write-ahead log that no commit covers?

    A kill leaves such frames too, of a commit that was never acknowledged; only the boot tells it from a power cut.
    Call it on a fresh connection before anything is written. The file format is SQLite's (fileformat2, section 4):
    frames of an older round keep their old salts, so only equal salts count.
    """
    wal = side_files(path)[0]
    with translated(path):
        (version,) = connection.execute("SELECT count(*) FROM preamble").fetchone()  # makes SQLite recover the index
        if version is None or not wal.exists() or wal.stat().st_size <= _WAL_HEAD:
            return False
        _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        with wal.open("rb") as file:
            head = file.read(_WAL_HEAD)
            page_size = struct.unpack_from(">I", head, 8)[0]
            at = _WAL_HEAD + max(frames, 0) * (_FRAME_HEAD + page_size)
            # Not the next one alone: what a lying disk lost may lie before what it kept.
            while frame := os.pread(file.fileno(), _FRAME_HEAD, at):
                if len(frame) < _FRAME_HEAD or frame[8:16] == head[16:24]:
                    return True
                at += _FRAME_HEAD + page_size
    return False
