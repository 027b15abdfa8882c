"""What the log holds: typed records, gathered into segments. docs/log-format.md says how they lie on disk.

Records are canonical: an encoded message is made from them on the way out, so that destinations may differ in
format, clearance and speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gateway.contract.adapter import Origin
from gateway.contract.batch import Batch, ValueType

EVENTS_DEVICE = "_events"
"""reserved device name under which events have their offsets"""


class Labels(NamedTuple):
    """The labels that make a stream: all readings of one gateway with the same three travel together."""

    domain: str
    grade: int
    data_class: str


class Series(NamedTuple):
    """What an offset `n` counts over."""

    stream: str
    device: str


class Span(NamedTuple):
    """Offsets first <= n < end of one series."""

    first: int
    end: int


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """A stream begins. Its id (ULID) is never used again by any other stream."""

    stream: str
    labels: Labels
    opened: int
    """ns since the epoch"""


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """A device as it was configured from here on."""

    device: str
    name: str | None
    adapter: str


@dataclass(frozen=True, slots=True)
class PointRecord:
    """A point entry: what an index means. Written before the first segment that uses the index.

    A change of identifier, unit, type, scale or labels makes a new entry with a new index; the old one is written
    once more with `retired_at` set. Display texts, and a type that was unknown, are brought up to date by writing the
    entry again. An index is unique within (stream, device).
    """

    device: str
    index: int
    point: str
    stream: str
    catalogue: int
    """the device's catalogue version in which this record first appeared"""
    valid_from: int
    """ns since the epoch"""
    type: ValueType | None = None
    """None until the first value shows it"""
    id: str | None = None
    """industrial-internet identifier (标识)"""
    name: str | None = None
    tag: str | None = None
    unit: str | None = None
    description: str | None = None
    scale: float | None = None
    offset: float | None = None
    retired_at: int | None = None
    enumeration: Mapping[int, str] | None = None
    """what the numbers mean; entries with the same texts share one mapping"""


@dataclass(frozen=True, slots=True)
class NoteRecord:
    """What a device's adapter wants to be told after a crash. A later one of the same device replaces it."""

    device: str
    note: Mapping[str, Any]
    """JSON-able"""


@dataclass(slots=True)
class BatchRecord:
    """One batch in one stream. `n` is the offset of its first reading; the k-th has n + k. Given once, at commit."""

    stream: str
    batch: Batch
    origin: Origin | None = None
    n: int = -1

    @property
    def series(self) -> Series:
        """The series that `n` counts over."""
        return Series(self.stream, self.batch.device)


@dataclass(slots=True)
class EventRecord:
    """Something a receiver must know: a gap, a closed stream, a clock step. `n` is given once, at commit."""

    stream: str
    time: int
    """ns since the epoch"""
    body: dict[str, Any]
    """JSON-able; `schema` names its kind and version, e.g. gap/1"""
    n: int = -1

    @property
    def series(self) -> Series:
        """The series that `n` counts over."""
        return Series(self.stream, EVENTS_DEVICE)


Record = StreamRecord | DeviceRecord | PointRecord | NoteRecord | BatchRecord | EventRecord


class SeriesHead(NamedTuple):
    """What a segment holds of one series: readable without decoding the segment's body."""

    series: Series
    n: int
    """offset of the first reading or event"""
    readings: int
    """how many readings (or events) of the series are in the segment"""
    min_time: int
    """least source time, ns (for events: their time)"""
    max_time: int


@dataclass(slots=True)
class Segment:
    """The unit of the log: written and committed whole, at most 512 kB encoded."""

    position: int
    records: list[Record]
    heads: list[SeriesHead] = field(default_factory=list)
    nbytes: int = 0
    """size on disk, bytes"""
    damage: str | None = None
    """why the records could not be read; then `records` is empty and `heads`, where readable, say what is lost"""
    packed: list[bytes] | None = field(default=None, repr=False, compare=False)
    """one encoded payload per record, where the writer has made them already; gone after the append"""
