"""A real log as mishaps leave it: small files, some in blocks, breaks of continuity, lost files, damaged segments."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gateway.log import LogStore, datafile
from gateway.log.records import Labels, Segment, Series, SeriesHead, Span, StreamRecord
from gateway.log.spans import spans_of
from gateway.points.table import PointTable
from tests.support.logs import IDENTITY, T0, SetClock, crash, event, open_log, reading

DEVICES = ("boiler-1", "boiler-10", "meter-2")
SECRET = "01KSECRET0000000000000000"
"""begins the ids of the streams of a higher grade"""
Offset = tuple[Series, int]


class RandomLog:
    """Writes it; `store` is open, `lost` are the offsets that it cannot give any more."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self._folder = folder
        self._draw = draw
        self._clock = SetClock()
        self._next_n: defaultdict[Series, int] = defaultdict(int)
        self._boxes = 0
        self.points = PointTable()
        self.lost: set[Offset] = set()
        self.store, _ = open_log(folder, self._clock, identity=f"{IDENTITY}0")
        self._begin_streams()

    def live(self, steps: int) -> None:
        """Some of everything but damage."""
        for _ in range(steps):
            match self._draw.randrange(10):
                case 0 | 1:
                    self._clock.advance(86_400)  # the next commit begins a file
                case 2:
                    self.store.compact(lambda _: True)
                case 3:
                    self.store.close() if self._draw.random() < 0.5 else crash(self.store)
                    if self._draw.random() < 0.3:  # another box goes on with this log
                        self._boxes += 1
                    before = self.store.bounds().end
                    self.store, found = open_log(self._folder, self._clock, identity=f"{IDENTITY}{self._boxes}")
                    if found.continuity is not None:
                        assert self.store.bounds().end > before
                        self._begin_streams()
                case _:
                    self._append()

    def damage(self, *, heads: bool) -> None:
        """Damage some of the files but the newest: bodies, and if told so heads, rows and a whole file."""
        files = self.store.files()[:-1]
        before = dict(self.store.heads(0, self.store.bounds().end))
        self.store.close()
        for file in files:
            columns = ["body", "body", *(["head", "head", "row"] if heads else [])]
            for _ in range(self._draw.randrange(3)):
                self._flip(file, self._draw.choice(columns))
        if len(files) > 2 and self._draw.random() < 0.5:
            datafile.remove(self._draw.choice(files[1:]).path)
        self.store, found = open_log(self._folder, self._clock, identity=f"{IDENTITY}{self._boxes}")
        assert found.continuity is None, found.damage
        after = dict(self.store.heads(0, self.store.bounds().end))
        for position in before.keys() - after.keys():
            self.lost |= offsets_of(before[position])
        self._clock.advance(86_400)
        self._append()

    def _append(self) -> None:
        segments = [self._segment() for _ in range(self._draw.randint(1, 12))]
        self.store.append(segments, self.store.bounds().end)

    def _segment(self) -> Segment:
        found = Segment(0, [])
        for stream in self._streams:
            for device in DEVICES:
                if self._draw.random() < 0.4:
                    series, count = Series(stream, device), self._draw.randint(1, 6)
                    found.records.append(reading(self._next_n[series], count, device, stream))
                    self._next_n[series] += count
        if self._draw.random() < 0.05:
            one = event(0)
            one.stream = self._streams[0]
            one.n = self._next_n[one.series]
            self._next_n[one.series] += 1
            found.records.append(one)
        if not found.records or self._draw.random() < 0.1:  # some hold nothing that has an offset
            found.records.append(self._announced[0])
        return found

    def _begin_streams(self) -> None:
        number = self.store.bounds().end
        self._streams = [f"01KOPEN{number:019}", f"{SECRET}{number:019}"]
        self._announced = [
            StreamRecord(stream, Labels("production", grade, "general"), T0)
            for grade, stream in zip((1, 3), self._streams, strict=True)
        ]
        self.points.apply(self._announced)
        self.store.append([Segment(0, [*self._announced])], self.store.bounds().end)

    def _flip(self, file: datafile.DataFile, column: str) -> None:
        with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as connection:
            tables = ["segment", "block"] if file.in_blocks else ["segment"]
            rows = [(table, p) for table in tables for (p,) in connection.execute(f"SELECT position FROM {table}")]
            table, position = self._draw.choice(sorted(rows))
            if column == "row":
                # Not the last one: where a file ends is what says that the next one follows it.
                if position != max(p for _, p in rows):
                    connection.execute(f"DELETE FROM {table} WHERE position = ?", (position,))
                return
            where = f"FROM {table} WHERE position = ?"
            (data,) = connection.execute(f"SELECT {column} {where}", (position,)).fetchone()
            at = self._draw.randrange(len(data))
            data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE position = ?", (data, position))


class FromHeads:
    """The same log, its offsets told from all heads."""

    def __init__(self, store: LogStore) -> None:
        self.read, self.heads, self.bounds = store.read, store.heads, store.bounds

    def spans(self, start: int, end: int) -> Iterator[dict[Series, Span]]:
        yield spans_of(head for _, heads in self.heads(start, end) for head in heads)


def offsets_of(heads: list[SeriesHead]) -> set[Offset]:
    """All offsets that heads name."""
    return {(head.series, head.n + k) for head in heads for k in range(head.readings)}
