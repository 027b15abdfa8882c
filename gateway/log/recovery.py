"""What a start finds in the log's folder, and whether the same streams may go on (docs/log-format.md, Continuity)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.contract.adapter import Remembered
from gateway.log import blocks, codec, datafile, ring
from gateway.log.datafile import DataFile, Row
from gateway.log.errors import LogCorruptError
from gateway.log.glance import glance
from gateway.log.identity import RING_NAME, Session, Witnessed, inode
from gateway.log.origins import read_origins
from gateway.log.preamble import Definition, DefinitionKey, Preamble, definition_key
from gateway.log.reading import Reading
from gateway.log.records import (
    EVENTS_DEVICE,
    DeviceRecord,
    EventRecord,
    PointRecord,
    Record,
    Series,
    SeriesHead,
    StreamRecord,
)

HOLE: Final = 1_000_000
"""positions left out where continuity broke; far more than the commits of the second that a witness may be behind"""
UNKNOWN_BASE: Final = 10**12
"""where positions begin when all that is left is a state file: beyond whatever its positions may say"""
_NO_END: Final = 2**63 - 1


@dataclass(slots=True)
class Recovery:
    """What the log knew when it was opened."""

    records: list[StreamRecord | DeviceRecord | PointRecord] = field(default_factory=list)
    """everything ever known, retired entries included, each in its latest form"""
    open_gaps: list[dict[str, Any]] = field(default_factory=list)
    """bodies of the gap events that have no end yet"""
    left: dict[str, Remembered] = field(default_factory=dict)
    """what adapters left for this process, by device; nothing where continuity broke"""
    next_n: dict[Series, int] = field(default_factory=dict)
    last_time: dict[Series, int] = field(default_factory=dict)
    """greatest source time of each series, ns since the epoch"""
    last_commit: int | None = None
    """wall time of the last commit, ns since the epoch"""
    created: bool = False
    """there was no log"""
    continuity: str | None = None
    """None: the same streams may go on. Else why not: "created", "foreign-box", "copied", "restored", "torn-tail",
    "corrupt"; then new streams begin"""
    cut_readings: int = 0
    """readings and events known to be lost"""
    damage: list[str] = field(default_factory=list)
    """one sentence each, for the log line"""


@dataclass(slots=True)
class Found:
    """The folder as it is, before anything is written."""

    preamble: Preamble | None = None
    """of the newest file, its vectors and records brought up to `end`"""
    files: list[DataFile] = field(default_factory=list)
    """oldest first"""
    session: Session | None = None
    staged: list[Row] = field(default_factory=list)
    """what only the ring holds, for the newest file"""
    round: int = 0
    """of the ring"""
    end: int = 1
    cut_readings: int = 0
    missing: list[str] = field(default_factory=list)
    """files that are not there any more; what they held is lost, but nothing is in doubt"""
    torn: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Readings and events ever given an offset."""
        return sum(self.preamble.next_n.values()) if self.preamble else 0


def examine(folder: Path, boot: str | None = None) -> Found:
    """Read the folder: the newest file wholly and checked, the others' bounds.

    `boot` is the id of this boot of the machine. Files that cannot be opened are set aside (renamed), never deleted.
    Raises LogFormatError for a log that a newer version wrote, LogIOError, LogError.
    """
    found = Found()
    for half_made in (datafile.NEW_NAME, datafile.COMPACT_NAME, ring.NEW_NAME):
        datafile.remove(folder / half_made)
    candidates = datafile.data_files(folder)
    newest = True
    for first, path in reversed(candidates):
        try:
            loaded = _examine_newest(path, first, found, boot) if newest else _examine_older(path, first)
        except LogCorruptError as error:
            (found.torn if newest else found.corrupt).append(f"{error}; set aside as {path.name}{datafile.DAMAGED}")
            _set_aside(path)
            continue
        if found.files:
            _note_missing(loaded, found.files[0], found)
        found.files.insert(0, loaded)
        if newest:
            found.end = loaded.end
        newest = False
    _examine_ring(folder, found, boot)
    return found


def _examine_ring(folder: Path, found: Found, boot: str | None) -> None:
    """Take over what the ring holds beyond the newest file, and say where it is not as the last session left it."""
    seen = ring.look(folder)
    found.round = seen.round if seen else 0
    session = found.session
    expected = session.inodes.get(RING_NAME) if session else None
    if session is None or expected is None:  # the last session had none, or nothing is certain in any case
        return
    if seen is None:
        found.torn.append("the ring is missing, with what was committed last")
        return
    if expected != inode(folder / RING_NAME):
        found.torn.append("the ring is not the one that was written last")
    if seen.session.hex() != session.session:
        # A start that was ended early had begun a session in the ring and not in the file yet.
        if seen.commits or seen.previous is None or seen.previous.hex() != session.session:
            found.torn.append(f"the ring is damaged, or of another session; set aside as {RING_NAME}{datafile.DAMAGED}")
            _set_aside(folder / RING_NAME)
        return
    same_boot = boot is not None and session.boot == boot
    if seen.lost:
        found.torn.append("the ring: a commit is missing before others")
    elif seen.torn and not same_boot:
        found.torn.append("the ring ends in a commit that is not whole")
    _take_staged(ring.rows(seen, found.end), found)


def _take_staged(rows: list[Row], found: Found) -> None:
    newest, preamble = found.files[-1], found.preamble
    if not rows or preamble is None:
        return
    if rows[0].position > found.end:
        found.corrupt.append(f"{newest.path.name}: positions {found.end} to {rows[0].position - 1} are missing")
        found.cut_readings += _left_out(rows, preamble)
    if datafile.is_compacted(newest.path):  # the file that followed is lost, and this one is not written any more
        found.cut_readings += sum(one.readings for one in _series(rows))
        return
    for row in rows:
        _scan_segment(row, newest.path, preamble, found)
    found.staged = rows
    found.end = rows[-1].end
    found.files[-1] = newest._replace(end=found.end)


def leave_staged(folder: Path, found: Found, why: LogCorruptError) -> None:
    """The newest file is so damaged that it does not take what only the ring holds: that is set aside and counted."""
    found.torn.append(f"{why}; what the ring held for it is set aside in {RING_NAME}{datafile.DAMAGED}")
    found.cut_readings += sum(one.readings for one in _series(found.staged))
    found.files[-1] = found.files[-1]._replace(end=found.staged[0].position)
    found.staged = []
    _set_aside(folder / RING_NAME)


def _note_missing(file: DataFile, following: DataFile, found: Found) -> None:
    """Count what the files between two that follow each other held, where there must have been some.

    The streams may go on: the newest file knows every offset that was ever given.
    """
    if not 0 < following.first - file.end < HOLE:  # a break leaves a larger hole, and nothing is in it
        return
    readings = _readings_of(file)
    lost = _given_before(following) - _given_before(file) - readings
    aside = any(file.end <= first < following.first for first, _ in _set_aside_files(file.path.parent))
    what = "a damaged file" if aside else "a file that is missing"
    found.missing.append(f"positions {file.end} to {following.first - 1} were in {what}: {lost} readings")
    found.cut_readings += max(0, lost)


def _given_before(file: DataFile) -> int:
    """Readings and events given an offset before a file."""
    with datafile.translated(file.path), contextlib.closing(_connect(file.path)) as connection:
        return sum(datafile.read_vectors(connection, file.path, file.first).values())


def _readings_of(file: DataFile) -> int:
    """Readings and events in a closed file, from heads alone."""
    reading = Reading(file.path.parent, lambda: [file], datafile.connect_found)
    try:
        return sum(one.readings for _, heads in reading.heads(file.first, file.end) for one in heads)
    finally:
        reading.close()


def _set_aside_files(folder: Path) -> list[tuple[int, Path]]:
    return datafile.data_files(folder, ".db" + datafile.DAMAGED)


def _series(rows: Iterable[Row]) -> list[SeriesHead]:
    return [one for row in rows for one in codec.decode_head(row.head, row.position).series]


def _left_out(rows: Iterable[Row], preamble: Preamble) -> int:
    """Readings and events with offsets between what is known and what `rows` begin with."""
    lost: dict[Series, int] = {}
    for one in _series(rows):
        lost.setdefault(one.series, max(0, one.n - preamble.next_n.get(one.series, 0)))
    return sum(lost.values())


def judge(found: Found, *, identity: str, witness: Witnessed | None, lock_inode: int) -> Recovery:
    """Decide on continuity. Pure but for the inodes, which `found.files` name."""
    if found.preamble is None:
        reason: str | None = "created" if not found.torn else "torn-tail"
        known = witness.total if witness else 0
        return Recovery(
            created=not found.torn, continuity=reason, cut_readings=known, damage=found.torn + found.corrupt
        )
    damage = found.torn + found.corrupt
    witness = witness if witness and witness.log == found.preamble.log else None
    behind = witness is not None and witness.position > found.end
    reason = None
    if found.preamble.identity != identity:
        reason = "foreign-box"
        damage.append("another machine wrote this log")
    elif doubt := _copied(found, witness, lock_inode):
        reason = "copied"
        damage.append(doubt)
    elif witness and not _same_session(found.session, witness):
        reason = "restored"
        damage.append("the log is an older copy: another session wrote it last")
    elif behind and not damage:
        reason = "restored"
        damage.append(f"the log is an older copy: it ends at {found.end}, the witness saw more")
    elif found.torn or behind:
        reason = "torn-tail"
    elif found.corrupt:
        reason = "corrupt"
    lost = max(found.cut_readings, witness.total - found.total) if witness else found.cut_readings
    return Recovery(
        records=list(found.preamble.records.values()),
        open_gaps=list(found.preamble.open_gaps.values()),
        left=found.preamble.left.remembered() if reason is None else {},
        next_n=dict(found.preamble.next_n),
        last_time=dict(found.preamble.last_time),
        last_commit=found.preamble.last_commit,
        continuity=reason,
        cut_readings=lost,
        damage=damage + found.missing,
    )


def first_position(found: Found, recovery: Recovery, witness: Witnessed | None, *, state_exists: bool) -> int:
    """Where the next segment goes: never where another segment was, even one that is lost."""
    known = max(found.end, witness.position if witness else 0)
    if recovery.continuity is None:
        return found.end
    if recovery.created and witness is None:
        return UNKNOWN_BASE if state_exists else 1
    if not found.files and witness is None:
        return UNKNOWN_BASE
    return known + HOLE


def advance(preamble: Preamble, heads: Iterable[SeriesHead], commit_time: int) -> None:
    """Bring a preamble's vectors past a segment."""
    for series, n, readings, _, high in heads:
        preamble.next_n[series] = max(preamble.next_n.get(series, 0), n + readings)
        preamble.last_time[series] = max(preamble.last_time.get(series, high), high)
    preamble.last_commit = commit_time


def _same_session(session: Session | None, witness: Witnessed) -> bool:
    # A session that could not write the witness left an old one. And the session before counts too: a crash between
    # the log's row and the witness leaves the witness one behind.
    if session is None:
        return False
    return not session.witness or witness.session in (session.session, session.previous)


def _copied(found: Found, witness: Witnessed | None, lock_inode: int) -> str | None:
    session = found.session
    if session is None:
        return None
    newest = found.files[-1].path
    expected = session.inodes
    if expected.get(newest.name, 0) != inode(newest) or expected.get("lock", 0) != lock_inode:
        return "the log's files are a copy: their inodes are not those that were written down"
    if session.witness and witness is None:
        return "the log's witness is missing, as it is beside a copy"
    return None


def _examine_newest(path: Path, first: int, found: Found, boot: str | None) -> DataFile:
    with datafile.translated(path):
        connection = _connect(path)
    try:
        preamble = datafile.read_preamble(connection, path, first)
        session = datafile.read_session(connection, path)
        # In the same boot they are what a killed process left of a commit that nobody was told of.
        same_boot = boot is not None and session is not None and session.boot == boot
        compacted = datafile.is_compacted(path)
        if not compacted and datafile.torn_frames(connection, path) and not same_boot:
            found.torn.append(f"{path.name}: the write-ahead log ends in frames that no commit covers")
        if session is None:
            found.corrupt.append(f"{path.name}: no readable session")
        created = preamble.created
        in_blocks = datafile.has_blocks(connection)
        if compacted:
            found.torn.append(f"{path.name}: the file that followed is missing")
        end = _scan(connection, path, preamble, found)
    finally:
        connection.close()
    found.preamble, found.session = preamble, session
    return DataFile(path, first, end, size_of(path), created, in_blocks)


def _scan(connection: sqlite3.Connection, path: Path, preamble: Preamble, found: Found) -> int:
    """Check every segment of the newest file and bring the preamble up to its end; returns the end."""
    expected = preamble.first
    in_blocks = datafile.has_blocks(connection)
    while True:
        try:
            rows = datafile.fetch(connection, expected, _NO_END, 1, in_blocks=in_blocks)
        except sqlite3.DatabaseError as error:
            found.torn.append(f"{path.name}: unreadable from position {expected} on: {error}")
            break
        if not rows:
            break
        (row,) = rows
        if row.position > expected:
            found.corrupt.append(f"{path.name}: positions {expected} to {row.position - 1} are missing")
        expected = row.end
        if row.last is None:
            _scan_segment(row, path, preamble, found)
        else:
            _scan_block(row, path, preamble, found)
    return expected


def _scan_segment(row: Row, path: Path, preamble: Preamble, found: Found) -> None:
    head = None
    try:
        head = codec.decode_head(row.head, row.position)
        advance(preamble, head.series, head.commit_time)
        codec.check_body(head, row.body)
        records: list[Record] = []
        if head.defines or any(series.series.device == EVENTS_DEVICE for series in head.series):
            records = codec.decode_body(head, row.body)
            define(preamble.records, records)
            note_gaps(preamble.open_gaps, records)
        preamble.left.learn(records, read_origins(head.origins, head.series))
    except LogCorruptError as error:
        found.corrupt.append(f"{path.name}: {error}")
        found.cut_readings += sum(series.readings for series in head.series) if head else 0


def _scan_block(row: Row, path: Path, preamble: Preamble, found: Found) -> None:
    head = None
    try:
        head = blocks.decode_block_head(row.head, row.position)
        for held in head.segments:
            advance(preamble, held.series, held.commit_time)
        seen = glance(head, row.body)
        define(preamble.records, seen.records)
        note_gaps(preamble.open_gaps, seen.records)
        preamble.left.learn(seen.records, seen.newest)
    except LogCorruptError as error:
        found.corrupt.append(f"{path.name}: {error}")
        if head:
            found.cut_readings += sum(series.readings for held in head.segments for series in held.series)


def define(records: dict[DefinitionKey, Definition], segment: Iterable[Record]) -> None:
    """Take over a segment's stream, device and point records."""
    for record in segment:
        if isinstance(record, StreamRecord | DeviceRecord | PointRecord):
            records[definition_key(record)] = record


def note_gaps(open_gaps: dict[str, dict[str, Any]], segment: Iterable[Record]) -> None:
    """Keep track of the gaps that have begun and not ended."""
    for record in segment:
        if isinstance(record, EventRecord) and record.body.get("schema") == "gap/1" and "id" in record.body:
            open_gaps.pop(record.body["id"], None)
            if record.body.get("to") is None:
                open_gaps[record.body["id"]] = record.body


def _examine_older(path: Path, first: int) -> DataFile:
    with datafile.translated(path):
        connection = _connect(path)
    try:
        created = datafile.read_created(connection, path, first)
        last = datafile.last_position(connection, path)
        in_blocks = datafile.has_blocks(connection)
    finally:
        connection.close()
    return DataFile(path, first, first if last is None else last + 1, size_of(path), created, in_blocks)


def _connect(path: Path) -> sqlite3.Connection:
    if path.stat().st_size == 0:
        raise LogCorruptError(f"{path}: the file is empty")
    return datafile.connect_closed(path) if datafile.is_compacted(path) else datafile.connect_found(path)


def size_of(path: Path) -> int:
    """Bytes on disk of a data file and its write-ahead log."""
    total = 0
    for part in (path, *datafile.side_files(path)):
        try:
            total += part.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _set_aside(path: Path) -> None:
    with datafile.translated(path):
        path.replace(path.with_name(path.name + datafile.DAMAGED))
        datafile.remove_beside(path)
