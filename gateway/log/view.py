"""The log beside the process that writes it: no lock of ours, no byte changed (docs/log-format.md).

Shows the log as it was when it was opened; files that are trimmed meanwhile are passed over.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from gateway.log import blocks, codec, datafile, frames, recovery, ring
from gateway.log.datafile import DataFile, Row, translated
from gateway.log.errors import LogCorruptError, LogError
from gateway.log.identity import Session
from gateway.log.preamble import Preamble
from gateway.log.reading import Outline, Reading
from gateway.log.records import DeviceRecord, PointRecord, Segment, Series, StreamRecord

_AT_ONCE: Final = 200


class Damage(NamedTuple):
    """One thing that is not as it was written."""

    file: str
    position: int | None
    what: str


class LogView:
    """`with LogView(folder)`: reading alone. Raises LogError where there is no log, LogFormatError for a newer one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[DataFile] = []
        """oldest first"""
        self.damage: list[Damage] = []
        """files that cannot be read"""
        self._session: Session | None = None
        self.first_n: dict[Series, int] = {}
        """offsets given before the oldest file"""
        found = ring.look(folder)  # before the files: what is in the ring may go into them meanwhile
        newest: Preamble | None = None
        for first, path in datafile.data_files(folder):
            with contextlib.suppress(FileNotFoundError):
                newest = self._look(first, path) or newest
        self.damage += [
            Damage(path.name, None, "set aside by a start that could not read it")
            for _, path in datafile.data_files(folder, ".db" + datafile.DAMAGED)
        ]
        if newest is None:
            raise LogError(f"{folder}: no log here; give the folder that log.path names, or the config's folder")
        self._newest = newest
        staged = self._staged(found)
        self._reading = Reading(folder, self._listed, _connect, lambda: staged)
        self._learn(newest)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.close()

    @property
    def end(self) -> int:
        """The position that the next segment gets."""
        return self.files[-1].end

    @property
    def next_n(self) -> dict[Series, int]:
        """Offsets given until the end."""
        return self._newest.next_n

    @property
    def records(self) -> list[StreamRecord | DeviceRecord | PointRecord]:
        """Every stream, device and point record in its latest form."""
        return list(self._newest.records.values())

    def commit_times(self) -> tuple[int, int] | None:
        """When the oldest and the newest segment were committed, ns; None when there is none."""
        first = self._commit_time(self.files[0].first, self.end)
        last = self._newest.last_commit
        return None if first is None or last is None else (first, last)

    def segments(self, wanted: Callable[[Outline], bool]) -> Iterator[Segment]:
        """Segments whose outline is wanted, oldest first; damaged ones too. Raises LogFormatError, LogIOError."""
        return self._reading.segments(self.files[0].first, self.end, wanted)

    def readings_between(self, start: int, end: int) -> int:
        """Readings and events at positions [start, end), from heads."""
        return sum(one.readings for _, heads in self._reading.heads(start, end) for one in heads)

    def verify(
        self, told: Callable[[DataFile], None], passed: Callable[[int], None] = lambda _: None
    ) -> Iterator[Damage]:
        """Check every checksum and that no position is missing; `told` is called before each file, `passed` with
        positions as they are reached.
        """
        yield from self.damage
        expected = self.files[0].first
        for file in self.files:
            told(file)
            if 0 < file.first - expected < recovery.HOLE:
                yield Damage(
                    file.path.name, expected, f"positions {expected} to {file.first - 1} are missing before it"
                )
            yield from self._verify(file, passed)
            expected = file.end

    def _verify(self, file: DataFile, passed: Callable[[int], None]) -> Iterator[Damage]:
        name, at = file.path.name, file.first
        if not file.path.exists():  # trimmed meanwhile
            return
        try:
            with translated(file.path), contextlib.closing(_connect(file.path)) as connection:
                in_blocks = datafile.has_blocks(connection)  # it may have been compacted meanwhile
                while rows := datafile.fetch(connection, at, file.end, _AT_ONCE // 10, in_blocks=in_blocks):
                    passed(at)
                    for row in rows:
                        if row.position > at:
                            yield Damage(name, at, f"positions {at} to {row.position - 1} are missing")
                        at = row.end
                        try:
                            _check(row)
                        except LogCorruptError as error:
                            yield Damage(name, row.position, str(error))
        except LogCorruptError as error:
            yield Damage(name, at, str(error))

    def _staged(self, found: frames.Found | None) -> list[Row]:
        """What is not in the newest file yet."""
        newest = self.files[-1]
        if found is None or self._session is None or found.session.hex() != self._session.session:
            return []
        rows = ring.rows(found, newest.end)
        if rows:
            self.files[-1] = newest._replace(end=rows[-1].end)
        return rows

    def _listed(self) -> list[DataFile]:
        return self.files

    def _look(self, first: int, path: Path) -> Preamble | None:
        try:
            with translated(path), contextlib.closing(_connect(path)) as connection:
                preamble = datafile.read_preamble(connection, path, first)
                last = datafile.last_position(connection, path)
                in_blocks = datafile.has_blocks(connection)
                self._session = datafile.read_session(connection, path)
        except LogCorruptError as error:
            self.damage.append(Damage(path.name, None, str(error)))
            return None
        if not self.files:
            self.first_n = dict(preamble.next_n)
        end = first if last is None else last + 1
        self.files.append(DataFile(path, first, end, recovery.size_of(path), preamble.created, in_blocks))
        return preamble

    def _learn(self, preamble: Preamble) -> None:
        """Bring the newest file's preamble to its end, from heads and from the segments that define something."""
        newest = self.files[-1]

        def defining(outline: Outline) -> bool:
            recovery.advance(preamble, outline.series, outline.commit_time)
            return outline.defines

        for segment in self._reading.segments(newest.first, newest.end, defining):
            recovery.define(preamble.records, segment.records)

    def _commit_time(self, start: int, end: int) -> int | None:
        for rows in self._reading.rows(start, end, at_once=1, bodies=False):
            for row in rows:
                try:
                    if row.last is None:
                        return codec.decode_head(row.head, row.position).commit_time
                    return blocks.decode_block_head(row.head, row.position).segments[0].commit_time
                except LogCorruptError:
                    continue
        return None


def _check(row: datafile.Row) -> None:
    if row.last is None:
        codec.check_body(codec.decode_head(row.head, row.position), row.body)
    else:
        blocks.check_block(blocks.decode_block_head(row.head, row.position), row.body)


def _connect(path: Path) -> sqlite3.Connection:
    """Without side files of ours: where there is a write-ahead log its owner has made them."""
    if datafile.side_files(path)[0].exists():
        return datafile.connect_watching(path)
    return datafile.connect_sharing(path) if datafile.is_shared(path) else datafile.connect_closed(path)
