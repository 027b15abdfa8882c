"""Reading data files, as they were written or in blocks: by the process that writes the log, and beside it."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gateway.log import blocks, codec, datafile
from gateway.log.datafile import DataFile, Row, translated
from gateway.log.errors import LogCorruptError, LogFormatError
from gateway.log.records import Segment, Series, SeriesHead

_READERS: Final = 4
_DECODED: Final = 3
"""blocks held decoded, a few MB each: who reads on finds the rest of the one that it had begun"""
_HEADS_AT_ONCE: Final = 500

logger = logging.getLogger(__name__)


class Outline(NamedTuple):
    """What heads say of a segment, or of the segments of a block together."""

    position: int
    """of the first segment"""
    end: int
    """the position after the last one"""
    series: list[SeriesHead]
    commit_time: int
    """ns since the epoch; of the last one"""
    defines: bool
    """may hold stream, device, point or note records"""
    min_source: int
    """0 to 0 without batches, as the three below"""
    max_source: int
    min_received: int
    max_received: int


class Reading:
    """The segments of a folder's data files, by position. Every method may be called from any thread."""

    def __init__(
        self,
        folder: Path,
        files: Callable[[], Sequence[DataFile]],
        connect: Callable[[Path], sqlite3.Connection],
        staged: Callable[[], Sequence[Row]] = tuple,
        lock: threading.Lock | None = None,
    ) -> None:
        """`files` gives the data files as they are, oldest first, the last one's end being the log's; `connect` opens
        one that is not compacted; `staged` gives the segments at its end that are not in the last file yet.
        """
        self._folder = folder
        self._files = files
        self._connect = connect
        self._staged = staged
        self.lock = lock or threading.Lock()
        """held while files are read, removed or replaced"""
        self._readers: OrderedDict[Path, sqlite3.Connection] = OrderedDict()
        self._decoded: OrderedDict[int, list[Segment]] = OrderedDict()
        """by the first position"""
        self._complained: set[Path | int] = set()
        """damaged files and positions that have had their log line"""

    def segments(
        self, start: int, stop: int | None = None, wanted: Callable[[Outline], bool] | None = None
    ) -> Iterator[Segment]:
        """Segments from `start` on, decoded; see `LogStore.read`. Raises LogFormatError, LogIOError.

        Those that are not `wanted` are passed over without being read, a block as a whole.
        """
        if wanted is None:
            yield from self._decoded_from(start, stop)
            return
        at = start
        for rows in self.rows(start, stop, at_once=_HEADS_AT_ONCE, bodies=False):
            for row in rows:
                if self._wanted(row, wanted):
                    end = row.end if stop is None else min(stop, row.end)
                    yield from self._decoded_from(max(at, row.position), end)
                at = row.end

    def _decoded_from(self, start: int, stop: int | None) -> Iterator[Segment]:
        at = start
        for rows in self.rows(start, stop, at_once=1):
            for row in rows:
                if row.last is None:
                    yield self._segment(row)
                else:
                    yield from self._within(row, at, stop)
                at = row.end

    def heads(
        self, start: int, stop: int, wanted: Callable[[bytes], bool] | None = None
    ) -> Iterator[tuple[int, list[SeriesHead]]]:
        """(position, series heads) of every segment in [start, stop); damaged heads are passed over, and those that
        are not `wanted` by their bytes (blocks are always).

        Raises LogFormatError, LogIOError.
        """
        at = start
        for rows in self.rows(start, stop, at_once=_HEADS_AT_ONCE, bodies=False):
            for row in rows:
                if wanted is None or row.last is not None or wanted(row.head):
                    yield from self._heads(row, at, stop)
                at = row.end

    def _heads(self, row: Row, start: int, stop: int) -> Iterator[tuple[int, list[SeriesHead]]]:
        try:
            if row.last is None:
                yield row.position, codec.decode_head(row.head, row.position).series
                return
            held = blocks.decode_block_head(row.head, row.position).segments
        except LogCorruptError as error:
            self._complain(row.position, error)
            return
        for one in held:
            if start <= one.position < stop:
                yield one.position, one.series

    def next_n(self, file: DataFile) -> dict[Series, int]:
        """Offsets given before a file, from its preamble. Raises LogCorruptError, LogFormatError, LogIOError."""
        with self.lock, translated(file.path):
            return datafile.read_vectors(self._reader(file.path), file.path, file.first)

    def rows(self, start: int, stop: int | None = None, *, at_once: int, bodies: bool = True) -> Iterator[list[Row]]:
        """Rows that hold positions of [start, stop), some at a time; the lock is not held while the caller works.

        A file may turn into blocks meanwhile: then a block follows that begins with what was there already.
        """
        at = start
        while True:
            staged = self._staged()  # before the file is looked at: meanwhile they may go into it
            files = self._files()
            until = files[-1].end if stop is None else min(stop, files[-1].end)
            if at >= until:
                return
            index = next((i for i, file in enumerate(files[:-1]) if at < file.end), len(files) - 1)
            rows = self._fetch(files[index].path, at, until, at_once, bodies=bodies)
            if not rows and index + 1 == len(files):
                rows = [row for row in staged if at <= row.position < until][:at_once]
            if rows:
                yield rows
                at = rows[-1].end
            elif index + 1 < len(files):
                at = max(at + 1, files[index + 1].first)
            else:
                return

    def forget(self, path: Path) -> None:
        """Close what is open of a file that goes or is replaced; the caller holds the lock."""
        if (reader := self._readers.pop(path, None)) is not None:
            reader.close()

    def close(self) -> None:
        """Close all connections; the caller holds the lock, or is alone."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._decoded.clear()

    def _fetch(self, path: Path, start: int, stop: int, at_once: int, *, bodies: bool) -> list[Row]:
        with self.lock:
            try:
                with translated(path):
                    reader = self._reader(path)
                    in_blocks = datafile.has_blocks(reader)
                    return datafile.fetch(reader, start, stop, at_once, bodies=bodies, in_blocks=in_blocks)
            except LogCorruptError as error:
                if path.exists():  # else it was trimmed meanwhile
                    self._complain(path, error)
                return []

    def _reader(self, path: Path) -> sqlite3.Connection:
        reader = self._readers.get(path)
        if reader is None:
            if not path.exists():  # trimmed meanwhile; connecting would make an empty file
                raise LogCorruptError(f"{path}: not there any more")
            connect = datafile.connect_closed if datafile.is_compacted(path) else self._connect
            reader = self._readers[path] = connect(path)
            if len(self._readers) > _READERS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(path)
        return reader

    @staticmethod
    def _wanted(row: Row, wanted: Callable[[Outline], bool]) -> bool:
        try:
            return wanted(_outline(row))
        except LogCorruptError:
            return True  # whoever decodes it says so

    def _segment(self, row: Row) -> Segment:
        segment = Segment(row.position, [], nbytes=len(row.head) + len(row.body))
        try:
            head = codec.decode_head(row.head, row.position)
            segment.heads = head.series
            segment.records = codec.decode_body(head, row.body)
        except LogFormatError:
            raise
        except LogCorruptError as error:
            self._complain(row.position, error)
            segment.damage = str(error)
        return segment

    def _within(self, row: Row, start: int, stop: int | None) -> Iterator[Segment]:
        """The segments of a block that were asked for."""
        with self.lock:
            segments = self._decoded.get(row.position)
            if segments is not None:
                self._decoded.move_to_end(row.position)
        if segments is None:
            segments = self._block(row, start)
        for segment in segments:
            if segment.position >= start and (stop is None or segment.position < stop):
                yield segment

    def _block(self, row: Row, start: int) -> list[Segment]:
        head = None
        try:
            head = blocks.decode_block_head(row.head, row.position)
            segments = blocks.decode_block(head, row.body)
        except LogFormatError:
            raise
        except LogCorruptError as error:
            self._complain(row.position, error)
            if head is None:
                return [Segment(max(row.position, start), [], nbytes=len(row.head), damage=str(error))]
            return [Segment(held.position, [], held.series, held.nbytes, damage=str(error)) for held in head.segments]
        with self.lock:
            self._decoded[row.position] = segments
            if len(self._decoded) > _DECODED:
                self._decoded.popitem(last=False)
        return segments

    def _complain(self, damaged: Path | int, error: LogCorruptError) -> None:
        if damaged not in self._complained:
            logger.error("%s: passed over: %s", self._folder, error)
            self._complained.add(damaged)


def _outline(row: Row) -> Outline:
    if row.last is None:
        head = codec.decode_head(row.head, row.position)
        return Outline(
            row.position, row.end, head.series, head.commit_time, head.defines,
            head.min_source, head.max_source, head.min_received, head.max_received,
        )  # fmt: skip
    block = blocks.decode_block_head(row.head, row.position)
    series = [one for held in block.segments for one in held.series]
    return Outline(
        row.position, row.end, series, block.segments[-1].commit_time, True,
        block.min_source, block.max_source, block.min_received, block.max_received,
    )  # fmt: skip
