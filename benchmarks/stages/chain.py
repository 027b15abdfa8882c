"""The whole path at once: decoder, sink, log on a disk, publisher, MQTT over TCP; it commits and batches as always."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC
from pathlib import Path
from typing import Final

import uvloop

from adapters.opcua.decoding.batches import BatchBuilder
from adapters.opcua.decoding.decode import decode_items
from adapters.opcua.decoding.fallback import decode_other
from benchmarks.load.notifications import SOURCE, VALUE, Part, filetime
from benchmarks.stages.broker import CountingBroker
from benchmarks.stages.core import HEADER, WellLink, device
from benchmarks.stages.opcua import START, moment
from benchmarks.stages.stage import Budget, Stage, Work
from gateway.contract import Origin, SystemClock
from gateway.log import LogStore, StateStore, Tail, Writer
from gateway.log.records import Record, Segment, StreamRecord
from gateway.normalise import Normaliser
from gateway.points.registry import Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from gateway.runtime.gaps import Gaps
from gateway.runtime.sink import DeviceCounters, DeviceSink

POINTS: Final = 50
NOTIFICATIONS: Final = 10
COMMIT_S: Final = 0.05
"""shorter than the default: it is not time that is counted"""
WAIT_S: Final = 60.0
LOOK_S: Final = 0.1
"""rarely: looking is counted too"""
BUDGET: Final = Budget(opcodes=2.0, objects=0.5, loops=float("inf"))
"""a message of some 10,000 readings has its price. CPU is not measured: it is of several threads"""


class _Log:
    """A log in a folder, with what follows it, as a gateway opens it."""

    def __init__(self, folder: Path, closing: ExitStack) -> None:
        self.clock = SystemClock()
        self.store, recovery = LogStore.open(folder, identity="bench", clock=self.clock)
        closing.callback(self.store.close)
        self.state = StateStore(folder / "state.db")
        closing.callback(self.state.close)
        self.table, self.durable = PointTable(), PointTable()
        self.tail = Tail(self.store.bounds().end)
        self.writer = Writer(
            self.store, next_n=recovery.next_n, commit_s=COMMIT_S, clock=self.clock, on_commit=self._committed
        )

    def _committed(self, segments: list[Segment]) -> None:
        for segment in segments:
            self.durable.apply(segment.records)
        self.tail.add(segments)

    def sink(self) -> DeviceSink:
        """Of a device with `POINTS` points."""

        def begin(stream: StreamRecord) -> None:
            self.table.apply([stream])
            self.writer.write_now([stream])

        def write(records: Sequence[Record]) -> None:
            self.writer.write_now(records)

        now = self.clock.time_ns
        registry = Registry(
            self.table, Streams(self.table, continue_old=True, now=now, begin=begin), now=now, write=write
        )
        registry.bind(device(POINTS))
        gaps = Gaps("load", [], now=now, write=lambda event: write([event]), points=lambda: self.table.points("load"))
        normaliser = Normaliser("load", self.table, registry)
        return DeviceSink(
            "load", normaliser, self.writer, gaps, DeviceCounters(), link=WellLink(), describe=lambda _: None
        )

    def publisher(self, port: int) -> Publisher:
        """To a broker on this machine."""
        config = DestinationConfig.model_validate(
            {
                "name": "centre",
                "url": f"mqtt://127.0.0.1:{port}",
                "format": "columns",
                "max_grade": 2,
                "batch": {"max_wait": "100ms"},
            }
        )
        return Publisher(
            config,
            enterprise=HEADER.enterprise,
            gateway=HEADER.gateway,
            version="0",
            timezone=UTC,
            log=self.store,
            tail=self.tail,
            state=self.state,
            points=self.durable,
            clock=self.clock,
        )


class _Chain:
    """Notifications as they come from the wire, and a broker at the other end."""

    def __init__(self, readings: int, broker: CountingBroker) -> None:
        part = Part([k % POINTS for k in range(readings)], range(readings), "double", VALUE | SOURCE)
        self._notifications = [part.encode(tick, filetime(time.time_ns())) for tick in range(NOTIFICATIONS)]
        self._readings = readings
        self._broker = broker

    def run(self) -> None:
        """Deliver them all, from an empty log to the broker's last acknowledgement."""
        with tempfile.TemporaryDirectory(prefix="edge-gateway-bench-") as folder, ExitStack() as closing:
            log = _Log(Path(folder) / "log", closing)  # a witness lies beside it
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._deliver(log))

    async def _deliver(self, log: _Log) -> None:
        loop, delivered = asyncio.get_running_loop(), asyncio.Event()
        expected = NOTIFICATIONS * self._readings
        self._broker.expect(expected, lambda: loop.call_soon_threadsafe(delivered.set))
        async with log.writer:
            publisher = log.publisher(self._broker.port)
            publishing = loop.create_task(publisher.run(), name="publisher")
            await self._acquire(log.sink())
            async with asyncio.timeout(WAIT_S):
                await delivered.wait()
                # The last acknowledgements may still be under way.
                while publisher.statistics().total.delivered < expected:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(LOOK_S)
            publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publishing
        account = publisher.statistics().total
        if account.delivered != expected:
            raise RuntimeError(f"{expected} readings were made, {account.delivered} delivered: {account}")

    async def _acquire(self, sink: DeviceSink) -> None:
        builder = BatchBuilder("load", dict.fromkeys(range(POINTS), 0), "trust", 0)
        receipt = None
        for sequence, data in enumerate(self._notifications):
            items = decode_items(data, START, len(data), decode_other)
            receipt = await sink.offer(builder.build(items, moment()).batches, Origin("urn:load", 1, sequence))
        if receipt is not None:
            await receipt.durable()


def _chain(readings: int, closing: ExitStack) -> Work:
    broker = closing.enter_context(CountingBroker())
    return Work(_Chain(readings, broker).run, NOTIFICATIONS * readings)


CHAIN: Final = Stage("chain", _chain, BUDGET)
"""not a stage that is timed: see `BUDGET`"""
