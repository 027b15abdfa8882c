"""Which offsets lie between two positions, told from few heads (docs/log-format.md, Data file).

A data file's preamble has the next offset of every series as of the file's first position, so what lies in whole files
that follow each other is a subtraction. Where a range begins or ends within a file, the file is read from there on, or
back, until every series that goes on in it has been seen; heads that name none of those that are still missing are not
decoded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Final

from gateway.log.datafile import DataFile
from gateway.log.errors import LogCorruptError
from gateway.log.reading import Reading
from gateway.log.records import Series, SeriesHead, Span

_LEAST_AT_ONCE: Final = 16
_MOST_AT_ONCE: Final = 5_000

Spans = dict[Series, Span]


def spans_of(heads: Iterable[SeriesHead]) -> Spans:
    """From the first to the last offset of each series; `heads` in the order of the log."""
    spans: Spans = {}
    for head in heads:
        known = spans.get(head.series)
        spans[head.series] = Span(head.n if known is None else known.first, head.n + head.readings)
    return spans


class _Missing:
    """Series that go on in a file and have not been seen yet."""

    def __init__(self, begin: Mapping[Series, int], after: Mapping[Series, int]) -> None:
        self.series = {series for series, n in after.items() if n > begin.get(series, 0)}
        self._names = {series.device.encode() for series in self.series}

    def in_head(self, head: bytes) -> bool:
        """May a segment hold any of them, by the bytes of its head?"""
        return any(name in head for name in self._names)

    def found(self, series: Iterable[Series]) -> None:
        """They were seen."""
        left = self.series.difference(series)
        if len(left) < len(self.series):
            self.series = left
            self._names = {one.device.encode() for one in left}


class SpanFinder:
    """For the log as it is at one moment."""

    def __init__(self, reading: Reading, files: Sequence[DataFile], next_n: Mapping[Series, int]) -> None:
        """`files` oldest first; `next_n`: offsets given until the end of the last one."""
        self._reading = reading
        self._files = files
        self._next_n = next_n
        self._starts: dict[int, Mapping[Series, int] | None] = {}

    def between(self, start: int, end: int) -> Iterator[Spans]:
        """Offsets at positions [start, end): one mapping for each stretch of files without a hole between them, in
        order. Empty ones in between are there so that a caller may stop.

        What lies there but cannot be read any more is in a span where offsets after it are. Raises LogFormatError,
        LogIOError.
        """
        for first, last in self._stretches():
            within = [k for k in range(first, last + 1) if self._files[k].end > start and self._files[k].first < end]
            if not within:
                continue
            low, high = max(start, self._files[within[0]].first), min(end, self._files[within[-1]].end)
            after = yield from self._until(high, within[-1])
            before = None if after is None else (yield from self._before(low, within[0]))
            if after is None or before is None:
                yield (yield from self._from_heads(low, high))
            else:
                spans = {series: Span(before.get(series, 0), n) for series, n in after.items()}
                yield {series: span for series, span in spans.items() if span.first < span.end}

    def _stretches(self) -> Iterator[tuple[int, int]]:
        """First and last index of files that follow each other, and are followed: the offsets at their end are known.

        Other files are by themselves. Where a file is missing, or streams could not go on, the next file's beginning
        says nothing of the end of the one before.
        """
        first = 0
        for index in range(len(self._files)):
            if self._followed(index):
                continue
            if first < index:
                yield first, index - 1
            yield index, index
            first = index + 1
        if first < len(self._files):
            yield first, len(self._files) - 1

    def _followed(self, index: int) -> bool:
        return index + 1 == len(self._files) or self._files[index].end == self._files[index + 1].first

    def _at_start(self, index: int) -> Mapping[Series, int] | None:
        if index == len(self._files):
            return self._next_n
        if index not in self._starts:
            try:
                self._starts[index] = self._reading.next_n(self._files[index])
            except LogCorruptError:
                self._starts[index] = None
        return self._starts[index]

    def _at_end(self, index: int) -> Mapping[Series, int] | None:
        return self._at_start(index + 1) if self._followed(index) else None

    def _before(self, position: int, index: int) -> Generator[Spans, None, Mapping[Series, int] | None]:
        """The offset of each series that the first head from a position of a file on gives; None = not known."""
        file, begin, after = self._files[index], self._at_start(index), self._at_end(index)
        if position == file.first or begin is None or after is None:
            return begin if position == file.first else None
        given, missing = dict(after), _Missing(begin, after)
        for start in range(position, file.end, _MOST_AT_ONCE):
            stop = min(start + _MOST_AT_ONCE, file.end)
            for _, heads in self._reading.heads(start, stop, missing.in_head):
                given |= {head.series: head.n for head in heads if head.series in missing.series}
                missing.found(head.series for head in heads)
                if not missing.series:
                    return given
            yield {}
        return given

    def _until(self, position: int, index: int) -> Generator[Spans, None, Mapping[Series, int] | None]:
        """The offset of each series after the last head below a position of a file; None = not known.

        Not what the next head says: where one between cannot be read, its offsets may have been counted elsewhere.
        """
        file, begin, after = self._files[index], self._at_start(index), self._at_end(index)
        if position == file.end or begin is None or after is None:
            return after if position == file.end else None
        given, missing = dict(begin), _Missing(begin, after)
        stop, at_once = position, _LEAST_AT_ONCE
        while missing.series and stop > file.first:
            start = max(file.first, stop - at_once)
            heads = (head for _, of in self._reading.heads(start, stop, missing.in_head) for head in of)
            last = {head.series: head.n + head.readings for head in heads if head.series in missing.series}
            given |= last
            missing.found(last)
            stop, at_once = start, min(2 * at_once, _MOST_AT_ONCE)
            yield {}
        return given

    def _from_heads(self, start: int, end: int) -> Generator[Spans, None, Spans]:
        spans: Spans = {}
        for at in range(start, end, _MOST_AT_ONCE):
            heads = self._reading.heads(at, min(at + _MOST_AT_ONCE, end))
            for series, span in spans_of(head for _, of in heads for head in of).items():
                spans[series] = Span(spans.get(series, span).first, span.end)
            yield {}
        return spans
