"""Which offsets lie between two positions: the same from vectors and a few heads as from all heads."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.log import LogCorruptError, LogStore, datafile
from gateway.log.reading import Reading
from gateway.log.records import Segment, Series, SeriesHead, Span
from gateway.log.spans import SpanFinder
from tests.support.logs import SetClock, event, open_log, reading, segment
from tests.support.random_log import Offset, RandomLog, offsets_of

SEEDS = range(int(os.environ.get("LOG_HISTORIES", "200")) // 100)
"""`make soak` asks for many more"""


def told(store: LogStore, start: int, end: int) -> set[Offset]:
    """The offsets of `LogStore.spans`, each once."""
    found: set[Offset] = set()
    for spans in store.spans(start, end):
        for series, span in spans.items():
            new = {(series, n) for n in range(*span)}
            assert new
            assert not new & found
            found |= new
    return found


def read(store: LogStore, start: int, end: int) -> set[Offset]:
    return offsets_of([head for _, heads in store.heads(start, end) for head in heads])


def ranges(store: LogStore, draw: random.Random) -> Iterator[tuple[int, int]]:
    """Random ones, those that begin or end with a file, the whole, nothing."""
    first, end = store.bounds()
    files = store.files()
    places = [p for file in files for p in (file.first, file.end, *range(file.first, file.end))]
    yield first, end
    yield end, end
    for _ in range(12):
        low, high = sorted((draw.choice(places), draw.choice(places)))
        yield low, high


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_as_from_all_heads(tmp_path: Path, seed: int) -> None:
    """Files in blocks, streams that ended, other boxes, records without offsets, damaged bodies, a lost file."""
    draw = random.Random(seed)
    log = RandomLog(tmp_path / "log", draw)
    log.live(30)
    log.damage(heads=False)
    log.live(5)
    for start, end in ranges(log.store, draw):
        assert told(log.store, start, end) == read(log.store, start, end)
    log.store.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_what_cannot_be_read_is_all_that_differs(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    log = RandomLog(tmp_path / "log", draw)
    log.live(30)
    log.damage(heads=True)
    log.live(5)
    for start, end in ranges(log.store, draw):
        found, readable = told(log.store, start, end), read(log.store, start, end)
        assert readable <= found
        assert found - readable <= log.lost
    log.store.close()


class CountingReading(Reading):
    """Counts the heads that are decoded."""

    decoded = 0

    def heads(
        self, start: int, stop: int, wanted: Callable[[bytes], bool] | None = None
    ) -> Iterator[tuple[int, list[SeriesHead]]]:
        for found in super().heads(start, stop, wanted):
            self.decoded += 1
            yield found


def test_a_long_range_needs_the_heads_of_its_edges_alone(tmp_path: Path) -> None:
    """Two series in every segment, one in a few: only what still has to be found is decoded."""
    clock = SetClock()
    store, _ = open_log(tmp_path / "log", clock)
    for file in range(4):
        segments = []
        for k in range(file * 200, file * 200 + 200):
            rare = [event(k // 100)] if k % 100 == 70 else []
            segments.append(segment(reading(5 * k, 5), reading(5 * k, 5, "meter-2"), *rare))
        clock.advance(86_400)
        store.append(segments, store.bounds().end)
    files, end = store.files(), store.bounds().end
    assert [file.end - file.first for file in files] == [200] * 4
    next_n = {head.series: head.n + head.readings for _, heads in store.heads(1, end) for head in heads}
    for start, stop, most in ((1, end, 0), (51, end, 2), (51, end - 1, 20), (172, end - 100, 20)):
        reading_ = CountingReading(tmp_path / "log", store.files, datafile.connect)
        (found,) = filter(None, SpanFinder(reading_, files, next_n).between(start, stop))
        assert reading_.decoded <= most
        reading_.close()
        series = Series(store.read(1, 1)[0].heads[0].series.stream, "meter-2")
        assert found[series] == Span(5 * (start - 1), 5 * (stop - 1))
        assert {(one, n) for one, span in found.items() for n in range(*span)} == read(store, start, stop)
    store.close()


def test_a_beginning_that_cannot_be_read_costs_time_alone(tmp_path: Path) -> None:
    clock = SetClock()
    store, _ = open_log(tmp_path / "log", clock)
    for k in range(40):
        if k % 10 == 0:
            clock.advance(86_400)
        store.append([Segment(0, [reading(10 * k)])], store.bounds().end)

    class Unreadable(Reading):
        def next_n(self, file: datafile.DataFile) -> dict[Series, int]:
            if file.first == 21:
                raise LogCorruptError("no preamble")
            return super().next_n(file)

    next_n = {head.series: head.n + head.readings for _, heads in store.heads(1, 100) for head in heads}
    unreadable = Unreadable(tmp_path / "log", store.files, datafile.connect)
    for start, end in ((1, 41), (5, 15), (5, 25), (15, 35), (21, 41), (11, 21), (21, 31), (25, 28)):
        parts = list(SpanFinder(unreadable, store.files(), next_n).between(start, end))
        found = {(series, n) for spans in parts for series, span in spans.items() for n in range(*span)}
        assert found == read(store, start, end)
    unreadable.close()
    store.close()
