"""Everything behind the adapters: normalising, the log, the books, the messages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from benchmarks.stages.stage import BYTES, COLUMNS, Budget, Stage, Work
from gateway.contract import Batch, PointConfig, Receipt, SystemClock
from gateway.log.codec import decode_body, decode_head, encode_segment
from gateway.log.records import BatchRecord, Labels, Record, Segment, StreamRecord
from gateway.log.store import LogStore
from gateway.normalise import Normaliser
from gateway.points.registry import DeviceDefinition, PointDefinition, Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.publishing.clearance import Clearance, Rule
from gateway.publishing.encode_columns import encode_columns
from gateway.publishing.encode_json import Header, PointPrefixes, encode_readings
from gateway.publishing.hidden import Hidden
from gateway.publishing.lanes import Lane, contents
from gateway.publishing.last_values import LastValues
from gateway.publishing.ledger import Ledger
from gateway.publishing.ranges import Ranges
from gateway.publishing.runs import Run, whole
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import DeviceCounters, DeviceSink

LABELS: Final = Labels("production", 1, "general")
HEADER: Final = Header("91370200MA3C00000K", "bench", "live", 1)
PER_COMMIT: Final = 10
"""segments in one commit: 100,000 readings"""
PER_READ: Final = 2
"""segments in one read"""

TEXTS: Final = BYTES._replace(opcodes=4, objects=0.5, loops=5)
"""a tenth of the mix are strings, which are objects in the log too"""
JSON: Final = Budget(opcodes=0.5, objects=2.5, loops=40)
"""one text object for each reading is what the format is; they are made and joined without a loop of ours"""
JSON_TEXTS: Final = JSON._replace(opcodes=4)


@dataclass(frozen=True)
class Offer:
    """What one device offers together, and all that the core makes of it."""

    batches: Sequence[Batch]
    points: int

    @cached_property
    def registry(self) -> tuple[PointTable, Registry]:
        """The device, registered as at the start of a gateway."""
        table = PointTable()

        def begin(stream: StreamRecord) -> None:
            table.apply([stream])

        streams = Streams(table, continue_old=True, now=time.time_ns, begin=begin)
        registry = Registry(table, streams, now=time.time_ns, write=lambda _: None)
        points = [
            PointDefinition(PointConfig(point=f"p{k}"), LABELS, f"88.118.8/load.p{k}") for k in range(self.points)
        ]
        registry.bind(DeviceDefinition("load", None, "bench", points))
        return table, registry

    @cached_property
    def normaliser(self) -> Normaliser:
        """One that has seen the types of all points."""
        normaliser = Normaliser("load", *self.registry)
        normaliser.records(self.batches)
        return normaliser

    @cached_property
    def records(self) -> list[BatchRecord]:
        """What the log gets, numbered from 0 on."""
        records = self.normaliser.records(self.batches)
        number(records, 0)
        return records

    @cached_property
    def encoded(self) -> tuple[bytes, bytes]:
        """Head and body of a segment of them."""
        head, body, _ = encode_segment(self.records, 1, 0)
        return head, body

    @property
    def readings(self) -> int:
        """How many are offered together."""
        return sum(map(len, self.batches))

    def segment(self) -> Segment:
        """As the log's tail has it."""
        return Segment(0, list(self.records), decode_head(self.encoded[0], 1).series, len(self.encoded[1]))

    def runs(self) -> list[Run]:
        """A run for each record."""
        return [Run(record.series, (whole(record, 1),)) for record in self.records]


def device(points: int) -> DeviceDefinition:
    """Points p0, p1 ... with identifiers."""
    defined = [PointDefinition(PointConfig(point=f"p{k}"), LABELS, f"88.118.8/load.p{k}") for k in range(points)]
    return DeviceDefinition("load", None, "bench", defined)


def number(records: Sequence[BatchRecord], first: int) -> int:
    """Give records their offsets; the offset after the last."""
    for record in records:
        record.n = first
        first += len(record.batch)
    return first


def done(work: Coroutine[Any, Any, object]) -> None:
    """Run what never has to wait. Raises RuntimeError when it does."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("a stage that never waits has waited")


class _Taken:
    """A log that has room for everything and keeps nothing; the receipt too."""

    commit_s = 0.2

    async def write(self, records: Sequence[Record], nbytes: int, share: str) -> Receipt:
        return self

    async def durable(self) -> None:
        return


class WellLink:
    """What the sink tells of the link of a device that is always well."""

    def on_online(self) -> None:
        """See `gateway.runtime.sink.Link`."""

    def on_degraded(self, why: str | None) -> None:
        """See `gateway.runtime.sink.Link`."""


def _sink(offer: Offer) -> DeviceSink:
    gaps = Gaps("load", ["live"], now=time.time_ns, write=lambda _: None, points=dict)
    return DeviceSink(
        "load", offer.normaliser, _Taken(), gaps, DeviceCounters(), link=WellLink(), describe=lambda _: None
    )


def _offered(offer: Offer) -> Work:
    sink = _sink(offer)
    return Work(lambda: done(sink.offer(offer.batches)), offer.readings)


def _normalise(offer: Offer) -> Work:
    normaliser = offer.normaliser
    return Work(lambda: normaliser.records(offer.batches), offer.readings)


def _log_encode(offer: Offer) -> Work:
    return Work(lambda: encode_segment(offer.records, 1, 0), offer.readings, sum(map(len, offer.encoded)))


def _log_decode(offer: Offer) -> Work:
    head, body = offer.encoded
    return Work(lambda: decode_body(decode_head(head, 1), body), offer.readings)


def _opened(closing: ExitStack) -> LogStore:
    folder = closing.enter_context(tempfile.TemporaryDirectory(prefix="edge-gateway-bench-"))
    store, _ = LogStore.open(Path(folder) / "log", identity="bench", clock=SystemClock())
    closing.callback(store.close)
    return store


class _Appending:
    """Commits the same readings again and again, each time as the next ones."""

    def __init__(self, store: LogStore, records: Sequence[BatchRecord]) -> None:
        self._store = store
        self._records = records
        self._n = 0

    def commit(self, segments: int) -> None:
        """So many segments."""
        position = self._store.bounds().end
        made = []
        for k in range(segments):
            copies = [BatchRecord(record.stream, record.batch) for record in self._records]
            self._n = number(copies, self._n)
            made.append(Segment(position + k, list[Record](copies)))
        self._store.append(made, position)


def _commit(closing: ExitStack, offer: Offer) -> Work:
    appending = _Appending(_opened(closing), offer.records)
    return Work(lambda: appending.commit(PER_COMMIT), PER_COMMIT * offer.readings)


def _read(closing: ExitStack, offer: Offer) -> Work:
    store = _opened(closing)
    _Appending(store, offer.records).commit(PER_READ)
    return Work(lambda: store.read(0, 1 << 30), PER_READ * offer.readings)


def _recount(closing: ExitStack, offer: Offer) -> Work:
    store = _opened(closing)
    _Appending(store, offer.records).commit(PER_READ)
    return Work(lambda: list(store.spans(0, PER_READ)), PER_READ * offer.readings)


def _last_values(offer: Offer) -> Work:
    known, segment = LastValues(), offer.segment()
    return Work(lambda: known.take([segment]), offer.readings)


def _account(offer: Offer) -> Work:
    """What the publisher does with a segment beside its messages: entitle, count as accepted, acknowledge, settle."""
    table, _ = offer.registry
    segment = offer.segment()
    rule = Rule(2, None, None)

    clearance = Clearance(rule)
    clearance.apply(table.streams(), 0)
    hidden = Hidden(table, clearance)

    def run() -> None:
        ledger = Ledger(Ranges(), clearance)
        ledger.observe(segment.position, segment.heads)
        lane = Lane("live", 0, ledger.settle, lambda _: None)
        found = contents([segment], clearance, hidden)
        chunk = lane.begin([segment], 1)
        chunk.pending = len(found.runs)
        lane.seal(chunk)
        for _ in found.runs:
            lane.acknowledge(chunk)
        if ledger.balance() or any(account.delivered != account.accepted for account in ledger.accounts.values()):
            raise RuntimeError("the account of one acknowledged segment is wrong")

    return Work(run, offer.readings)


def _columns(offer: Offer) -> Work:
    runs = offer.runs()
    size = sum(len(encode_columns(HEADER, run)) for run in runs)
    return Work(lambda: [encode_columns(HEADER, run) for run in runs], offer.readings, size)


def _json(offer: Offer) -> Work:
    table, _ = offer.registry
    runs, prefixes = offer.runs(), PointPrefixes(table.points("load"))
    size = sum(len(encode_readings(HEADER, run, prefixes)) for run in runs)
    return Work(lambda: [encode_readings(HEADER, run, prefixes) for run in runs], offer.readings, size)


class Offers:
    """What one kind of device offers, by the number of readings, and the stages that are named for it."""

    def __init__(self, name: str, batches: Callable[[int], Sequence[Batch]], *, texts: bool = False) -> None:
        """`texts`: some are strings."""
        self._name = name
        self._of = cache(lambda readings: Offer(batches(readings), readings))
        self._texts = texts

    def values(self) -> list[Stage]:
        """The stages behind the adapter that look at values."""
        own = TEXTS if self._texts else BYTES
        return [
            self._stage("normalise", _normalise),
            self._stage("sink", _offered),
            self._stage("log encode", _log_encode, own),
            self._on_disk("log encode + commit", _commit, own),
            self._stage("log decode", _log_decode, own),
            self._on_disk("log read", _read, own),
            self._stage("columns", _columns, own),
            self._stage("json", _json, JSON_TEXTS if self._texts else JSON),
        ]

    def books(self) -> list[Stage]:
        """The stages that are about positions and times, whatever the values."""
        return [
            self._on_disk("log recount", _recount),
            self._stage("last values", _last_values),
            self._stage("account", _account),
        ]

    def _stage(self, what: str, make: Callable[[Offer], Work], budget: Budget = COLUMNS) -> Stage:
        return Stage(f"{self._name}: {what}", lambda readings, _: make(self._of(readings)), budget)

    def _on_disk(self, what: str, make: Callable[[ExitStack, Offer], Work], budget: Budget = COLUMNS) -> Stage:
        return Stage(f"{self._name}: {what}", lambda readings, closing: make(closing, self._of(readings)), budget)
