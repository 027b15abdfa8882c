"""The log on SQLite: append, read, bounds, trim (docs/log-format.md).

`append` belongs to one thread at a time, the others may be called from any thread beside it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gateway.contract.clock import Clock
from gateway.log import codec, datafile, recovery, ring
from gateway.log.commits import Commits, Direct, Ringed, settle_into
from gateway.log.compaction import Compacted, Pause, compact, discard, take_place
from gateway.log.datafile import DataFile, Row, translated
from gateway.log.errors import LogConflictError, LogCorruptError, LogError
from gateway.log.folder import keep_name, lock_folder
from gateway.log.identity import LOCK_NAME, RING_NAME, Session, Witness, Witnessed, boot_id, inode
from gateway.log.origins import Left, newest_origins
from gateway.log.preamble import Preamble
from gateway.log.reading import Reading
from gateway.log.records import Segment, SeriesHead
from gateway.log.recovery import Recovery
from gateway.log.ring import Ring
from gateway.log.spans import SpanFinder, Spans
from gateway.log.storage import FREE_PART, on_flash, space

STATE_NAME: Final = "state.db"

logger = logging.getLogger(__name__)


class Bounds(NamedTuple):
    """Positions that can be read: `first` to `end` - 1, perhaps with holes; equal when the log is empty."""

    first: int
    end: int


class LogStore:
    """The log of one gateway, opened by `open`, closed by `close`."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        lock: int,
        files: list[DataFile],
        preamble: Preamble,
        session: Session,
        witness: Witness,
        commits: Commits,
        rotate_bytes: int,
        rotate_s: float,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = lock
        self._files = files
        self._preamble = preamble
        """of the newest file, kept at the log's end: what the next file will begin with"""
        self._session = session
        self._witness = witness
        self._commits = commits
        self._end = files[-1].end
        self._rotate_bytes = rotate_bytes
        self._rotate_ns = int(rotate_s * 1e9)
        self._rotate_at = 0
        self._append_lock = threading.Lock()
        self._stay: set[int] = set()
        """first positions of closed files that shall not be made into blocks"""
        self._reading = Reading(folder, self._readable, datafile.connect_found, lambda: commits.staged, commits.lock)
        self._written = recovery.size_of(files[-1].path)
        self._set_rotation(preamble.created)

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        identity: str,
        clock: Clock,
        rotate_bytes: int = 256_000_000,
        rotate_s: float = 86400,
        boot: str | None = None,
        flash: bool | None = None,
    ) -> tuple[LogStore, Recovery]:
        """Lock the folder, check the newest file, find out whether streams may go on, and be ready to append.

        `identity` names the box: machine id, enterprise and gateway; another one in the log is a foreign box's.
        `boot` stands in for the id of this boot, `flash` for a look whether the folder lies on eMMC or an SD card.
        Raises LogError when the folder is in use or cannot be one, LogFormatError for a newer version's log,
        LogFullError and LogIOError while it cannot be written: then the same call works once it can.
        """
        lock = lock_folder(folder)
        try:
            flash = on_flash(folder) if flash is None else flash
            return cls._open_locked(folder, lock, identity, clock, rotate_bytes, rotate_s, boot or boot_id(), flash)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _open_locked(
        cls,
        folder: Path,
        lock: int,
        identity: str,
        clock: Clock,
        rotate_bytes: int,
        rotate_s: float,
        boot: str | None,
        flash: bool,
    ) -> tuple[LogStore, Recovery]:
        found = recovery.examine(folder, boot)
        if found.staged:
            _settle(folder, found)
        witness = Witness(folder)
        seen = witness.read()
        lock_inode = inode(folder / LOCK_NAME)
        outcome = recovery.judge(found, identity=identity, witness=seen, lock_inode=lock_inode)
        with contextlib.ExitStack() as opened:
            opened.callback(witness.close)
            witness.open()
            keep_name(witness.path)  # a copy of the log is known by having no witness
            inodes = {LOCK_NAME: lock_inode, **({RING_NAME: ring.make(folder)} if flash else {})}
            session = _session(found, clock, inodes, witness, boot)
            front = Ring(folder, session.session, session.previous, found.round) if flash else None
            if front is not None:
                opened.callback(front.close)
            preamble = found.preamble
            if preamble is None or outcome.continuity is not None:
                first = recovery.first_position(found, outcome, seen, state_exists=(folder / STATE_NAME).exists())
                preamble = _renewed(preamble, identity, first, clock.time_ns())
                preamble.left = Left()
                path = datafile.create(folder, preamble, session, flash=flash)
                found.files.append(DataFile(path, first, first, recovery.size_of(path), preamble.created))
            else:
                newest = found.files[-1].path
                with translated(newest), contextlib.closing(datafile.connect_found(newest)) as connection:
                    datafile.write_session(connection, session.on({newest.name: inode(newest)}, found.end))
            newest = found.files[-1].path
            commits = Direct(newest) if front is None else Ringed(newest, front)
            store = cls(folder, clock, lock, found.files, preamble, session, witness, commits, rotate_bytes, rotate_s)
            if front is None:
                ring.remove(folder)
            opened.pop_all()
        store._testify(sync=True)
        return store, outcome

    def append(self, segments: Sequence[Segment], expected_position: int, until: int | None = None) -> int:
        """Write `segments` in one commit, durable on return; fills in `position`, `heads` and `nbytes`.

        `until`: what was accepted before this time (ns) is in the log with this commit; None = all that was accepted.
        The records must have their offsets, each series following on without a hole within a segment. Returns the new
        end. Raises LogConflictError when `expected_position` is not the end, LogFullError or LogIOError when nothing
        was written and the same call may be tried again, LogError for an offset that was given before.
        """
        with self._append_lock:
            if expected_position != self._end:
                raise LogConflictError(f"{self._folder}: position {expected_position} expected, the end is {self._end}")
            if self._rotation_due():
                self._rotate()
            now = self._clock.time_ns() if until is None else min(until, self._clock.time_ns())
            rows: list[Row] = []
            for position, segment in enumerate(segments, self._end):
                head, body, heads = codec.encode_segment(segment.records, position, now, segment.packed)
                rows.append(Row(position, head, body))
                segment.position, segment.heads, segment.nbytes = position, heads, len(head) + len(body)
            self._check_offsets(segments)
            self._commits.commit(rows, segments)
            self._accept(segments, now)
            return self._end

    def read(self, position: int, limit_bytes: int) -> list[Segment]:
        """Segments from `position` on, decoded, up to `limit_bytes` encoded but at least one if there is any.

        Passes over holes and what was trimmed. A segment that is damaged comes without records, with `damage` set and
        with its heads if those can be read. Raises LogFormatError, LogIOError.
        """
        segments: list[Segment] = []
        taken = 0
        for segment in self._reading.segments(position):
            if segments and taken + segment.nbytes > limit_bytes:
                break
            taken += segment.nbytes
            segments.append(segment)
        return segments

    def heads(self, start: int, end: int) -> Iterator[tuple[int, list[SeriesHead]]]:
        """(position, series heads) of every segment in [start, end), without reading bodies.

        Damaged heads are passed over. Raises LogFormatError, LogIOError.
        """
        return self._reading.heads(start, end)

    def spans(self, start: int, end: int) -> Iterator[Spans]:
        """Offsets at positions [start, end), see `SpanFinder.between`; may wait for the commit under way."""
        with self._append_lock:
            files, next_n = self._readable(), dict(self._preamble.next_n)
        return SpanFinder(self._reading, files, next_n).between(start, end)

    def bounds(self) -> Bounds:
        """The first position that is kept and the position that the next segment gets."""
        return Bounds(self._files[0].first, self._end)

    def trim(self, position: int) -> int:
        """Remove whole files that lie entirely below `position`, never the newest; returns the new first position."""
        with self._append_lock, self._reading.lock, translated(self._folder):
            while len(self._files) > 1 and self._files[0].end <= position:
                path = self._files[0].path
                self._reading.forget(path)
                datafile.remove(path)
                self._files = self._files[1:]
            first = self._files[0].first
            for begin, path in datafile.data_files(self._folder, ".db" + datafile.DAMAGED):
                if begin < min(first, position):
                    path.unlink(missing_ok=True)
            return first

    def compact(self, pause: Pause) -> DataFile | None:
        """Make the newest closed file that is not in blocks yet into blocks; None when there is nothing to do or
        `pause` said to stop.

        Takes as long as `pause` lets it; appending, reading and trimming go on beside it, and what is read is the same
        before and after. Skipped while the disk has not the room for both files. A file that cannot be made into
        blocks stays as it is and is not tried again by this process. Raises LogFullError, LogIOError: try again later.
        """
        file = next((f for f in reversed(self._files[:-1]) if not f.in_blocks and f.first not in self._stay), None)
        if file is None or not self._room_for(file):
            return None
        try:
            made = compact(file, pause)
        except LogCorruptError as error:
            self._stay.add(file.first)
            logger.error("%s: not made into blocks: %s", file.path, error)
            return None
        except LogError:
            if not file.path.exists():  # trimmed meanwhile
                return None
            raise
        return None if made is None else self._replace(made)

    def _room_for(self, file: DataFile) -> bool:
        with translated(self._folder):
            total, free = space(self._folder)
        return free - recovery.size_of(file.path) > total * FREE_PART / 2

    def _replace(self, made: Compacted) -> DataFile | None:
        with self._append_lock, self._reading.lock:
            index = next((i for i, file in enumerate(self._files) if file.path == made.file.path), None)
            if index is None or made.bytes >= recovery.size_of(made.file.path):
                self._stay.add(made.file.first)
                discard(made)
                return None
            self._reading.forget(made.file.path)
            file = take_place(made)
            self._files = [*self._files[:index], file, *self._files[index + 1 :]]
            return file

    def files(self) -> list[DataFile]:
        """The data files, oldest first, with their present sizes."""
        return [file._replace(bytes=recovery.size_of(file.path)) for file in self._readable()]

    def size(self) -> int:
        """Bytes that the folder takes on disk, everything in it counted."""
        total = 0
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    total += entry.stat().st_size
        return total

    def close(self) -> None:
        """Write the witness, close the files and give the folder free."""
        with self._append_lock:
            try:
                self._commits.settle()
            except LogError as error:  # it is durable as it is
                logger.warning("%s", error)
            with self._reading.lock:
                self._testify(sync=True)
                self._close_files()
                os.close(self._lock)

    def _close_files(self) -> None:
        self._reading.close()
        self._commits.close()
        self._witness.close()

    def _readable(self) -> list[DataFile]:
        files = self._files
        return [*files[:-1], files[-1]._replace(end=self._end)]

    def _testify(self, *, sync: bool = False) -> None:
        total = sum(self._preamble.next_n.values()) if self._witness.usable else 0
        seen = Witnessed(self._preamble.log, self._session.session, self._end, total)
        self._witness.write(seen, self._clock.monotonic_ns(), sync=sync)

    def _set_rotation(self, created: int) -> None:
        # Measured on the monotonic clock: a wall clock that steps must not cut files.
        age = min(max(self._clock.time_ns() - created, 0), self._rotate_ns)
        self._rotate_at = self._clock.monotonic_ns() + self._rotate_ns - age

    def _rotation_due(self) -> bool:
        if self._end == self._files[-1].first:
            return False
        return self._written >= self._rotate_bytes or self._clock.monotonic_ns() >= self._rotate_at

    def _rotate(self) -> None:
        """Begin the next file; the old one stays in use when that fails."""
        self._commits.settle()
        old = self._files[-1]
        preamble = _renewed(self._preamble, self._preamble.identity, self._end, self._clock.time_ns())
        path = datafile.create(self._folder, preamble, self._session, flash=self._commits.in_blocks)
        try:
            self._commits.turn_over(path)
        except LogError:
            datafile.remove(path)
            raise
        self._preamble = preamble
        in_blocks = datafile.format_of(old.path) != codec.FORMAT
        closed = old._replace(end=self._end, bytes=recovery.size_of(old.path), in_blocks=in_blocks)
        self._files = [*self._files[:-1], closed, DataFile(path, self._end, self._end, 0, preamble.created)]
        self._written = recovery.size_of(path)
        self._set_rotation(preamble.created)

    def _check_offsets(self, segments: Sequence[Segment]) -> None:
        after: dict[object, int] = {}
        for segment in segments:
            for series, n, readings, _, _ in segment.heads:
                expected = after.get(series, self._preamble.next_n.get(series, 0))
                if n < expected:
                    raise LogError(
                        f"{self._folder}: offset {n} of {series.device} in stream {series.stream} was given before; "
                        f"the next is {expected}"
                    )
                after[series] = n + readings

    def _accept(self, segments: Sequence[Segment], now: int) -> None:
        preamble = self._preamble
        for segment in segments:
            segment.packed = None
            for series, n, readings, _, high in segment.heads:
                preamble.next_n[series] = n + readings
                preamble.last_time[series] = max(preamble.last_time.get(series, high), high)
            recovery.define(preamble.records, segment.records)
            recovery.note_gaps(preamble.open_gaps, segment.records)
            preamble.left.learn(segment.records, newest_origins(segment.records))
            self._written += segment.nbytes
        preamble.last_commit = now
        self._end += len(segments)
        self._testify()


def _settle(folder: Path, found: recovery.Found) -> None:
    """Bring what only the ring holds into the newest file. Raises LogFullError, LogIOError."""
    try:
        settle_into(found.files[-1].path, found.staged)
    except LogCorruptError as error:
        recovery.leave_staged(folder, found, error)


def _session(
    found: recovery.Found, clock: Clock, inodes: dict[str, int], witness: Witness, boot: str | None
) -> Session:
    previous = found.session.session if found.session else None
    return Session(uuid.uuid4().hex, previous, clock.time_ns(), found.end, inodes, witness.usable, boot)


def _renewed(preamble: Preamble | None, identity: str, first: int, now: int) -> Preamble:
    """The preamble of the next file: the same knowledge, another beginning."""
    if preamble is None:
        return Preamble(uuid.uuid4().hex, identity, first, now, None)
    return Preamble(
        preamble.log,
        identity,
        first,
        now,
        preamble.last_commit,
        dict(preamble.next_n),
        dict(preamble.last_time),
        dict(preamble.records),
        dict(preamble.open_gaps),
        preamble.left.copy(),
    )
