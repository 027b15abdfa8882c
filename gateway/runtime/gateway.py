"""The gateway: one task group owns it, and the order of its nesting is the order of its shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gateway import __version__
from gateway.config.load import LoadedConfig
from gateway.contract.clock import Clock
from gateway.contract.errors import GatewayError
from gateway.log import (
    LogStore,
    Recovery,
    StateStore,
    Tail,
    Writer,
    budget_bytes,
    commit_default_s,
    kind_of,
    machine_id,
)
from gateway.log.records import Record, Segment, StreamRecord
from gateway.memory import give_back
from gateway.metrics.collector import registry_of
from gateway.metrics.endpoint import Endpoint
from gateway.points.registry import Registry
from gateway.points.streams import Streams, closing_events
from gateway.points.table import PointTable
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from gateway.publishing.removed import end_accounts
from gateway.runtime.compaction import Compaction
from gateway.runtime.devices import Device, Parts, build_devices
from gateway.runtime.housekeeping import Housekeeping
from gateway.runtime.report import Report
from gateway.runtime.timekeeping import Timekeeper, synchronised

log = logging.getLogger(__name__)

SAVE_S = 1.0
"""between two saves of a destination's position; what was delivered since is delivered twice after a power cut"""
SAVE_FLASH_S = 10.0
"""the same on eMMC and SD cards, whose writes are a budget"""

LET_GO_S = 0.5
"""how long destinations wait at a stop for the devices' last readings; a device has 2 s"""
FLUSH_S = 1.0
FILES_IN_BUDGET = 8
FILE_LEAST_BYTES = 250_000
FILE_MOST_BYTES = 256_000_000


@dataclass(slots=True)
class _Opened:
    """The log's folder, opened."""

    store: LogStore
    recovery: Recovery
    state: StateStore
    table: PointTable
    """what is known, at once"""
    durable: PointTable
    """what the log holds: destinations must not tell of an entry that a power cut can still undo, because its index
    and its catalogue version would be given again"""
    tail: Tail

    def committed(self, segments: list[Segment]) -> None:
        """The log has taken these."""
        for segment in segments:
            self.durable.apply(segment.records)
        self.tail.add(segments)


class Gateway:
    """Everything between a checked config and a stop."""

    def __init__(self, config: LoadedConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._publishers: list[Publisher] = []
        self._devices: list[Device] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then leave within 5 s with everything accepted in the log.

        Raises GatewayError when something that the gateway cannot live without fails.
        """
        try:
            async with AsyncExitStack() as stack:
                await self._run(stack, stop)
        except* GatewayError as group:
            raise group.exceptions[0] from None

    async def _run(self, stack: AsyncExitStack, stop: asyncio.Event) -> None:
        opened = self._open(stack)
        file = self._config.gateway
        end_accounts(opened.state, {destination.name for destination in file.destinations}, self._clock.time_ns())
        commit_s = file.log.commit or commit_default_s(kind_of(file.log.path))
        writer = Writer(
            opened.store,
            next_n=dict(opened.recovery.next_n),
            commit_s=commit_s,
            clock=self._clock,
            on_commit=opened.committed,
        )
        async with writer:
            streams = self._streams(opened, writer)
            self._devices += self._build_devices(opened, writer, streams)
            budget = budget_bytes(file.log.path, file.log.budget or "auto", used=opened.store.size())
            housekeeping = Housekeeping(
                opened.store,
                file.log.path,
                self._publishers,
                budget_bytes=budget,
                keep_s=file.log.keep,
                clock=self._clock,
                drop_undelivered=file.log.when_full == "drop-oldest",
            )
            report = Report(__version__, self._clock, self._devices, self._publishers, writer, housekeeping)
            report.cut_readings = opened.recovery.cut_readings
            self._publishers += [
                self._build_publisher(destination, opened, report) for destination in file.destinations
            ]
            registry = registry_of(report.samples)
            await stack.enter_async_context(
                Endpoint(file.metrics.host, file.metrics.port, registry, report.healthy, report.ready)
            )
            timekeeper = Timekeeper(self._clock, streams.open, writer.write_now, synchronised)
            await self._operate(opened.store, writer, housekeeping, report, timekeeper, stop)

    def _open(self, stack: AsyncExitStack) -> _Opened:
        file = self._config.gateway
        folder = file.log.path
        box = machine_id(folder.with_name(folder.name + ".machine-id"))
        identity = f"{file.gateway.enterprise}/{file.gateway.id}@{box}"
        # Only whole files can be let go, so a small budget needs small files.
        share = budget_bytes(folder, file.log.budget or "auto") // FILES_IN_BUDGET
        store, recovery = LogStore.open(
            folder,
            identity=identity,
            clock=self._clock,
            rotate_bytes=min(FILE_MOST_BYTES, max(FILE_LEAST_BYTES, share)),
        )
        stack.callback(store.close)
        for sentence in recovery.damage:
            log.warning("log: %s", sentence)
        if recovery.cut_readings:
            log.error(
                "log: %s no longer holds %d readings that it once took; what of them was not delivered before is lost. "
                "Was the folder removed, or is its disk failing?",
                folder,
                recovery.cut_readings,
            )
        state = StateStore(folder / "state.db")
        stack.callback(state.close)
        table, durable = PointTable(), PointTable()
        table.apply(recovery.records)
        durable.apply(recovery.records)
        return _Opened(store, recovery, state, table, durable, Tail(store.bounds().end))

    def _streams(self, opened: _Opened, writer: Writer) -> Streams:
        """The streams that go on, once those that cannot are closed."""
        recovery = opened.recovery

        def begin(stream: StreamRecord) -> None:
            opened.table.apply([stream])
            writer.write_now([stream])

        now = self._clock.time_ns
        streams = Streams(opened.table, continue_old=recovery.continuity is None, now=now, begin=begin)
        if recovery.continuity is not None:
            closing = closing_events(opened.table, streams, recovery.next_n, recovery.continuity, now())
            writer.write_now(closing)
            if closing:
                log.warning("log: %s; new streams begin, no offset is used twice", recovery.continuity)
        return streams

    def _build_devices(self, opened: _Opened, writer: Writer, streams: Streams) -> list[Device]:
        recovery = opened.recovery

        def write(records: Sequence[Record]) -> None:
            writer.write_now(records)

        registry = Registry(opened.table, streams, now=self._clock.time_ns, write=write)
        parts = Parts(
            opened.table,
            streams,
            registry,
            writer,
            self._clock,
            recovery.last_time,
            recovery.last_commit,
            recovery.open_gaps,
            recovery.left,
        )
        return build_devices(self._config, parts)

    def _build_publisher(self, destination: DestinationConfig, opened: _Opened, report: Report) -> Publisher:
        identity = self._config.gateway.gateway
        return Publisher(
            destination,
            enterprise=identity.enterprise,
            gateway=identity.id,
            version=__version__,
            timezone=ZoneInfo(identity.timezone),
            log=opened.store,
            tail=opened.tail,
            state=opened.state,
            points=opened.durable,
            clock=self._clock,
            health=report.health,
            save_s=SAVE_FLASH_S if kind_of(self._config.gateway.log.path) in ("emmc", "sd") else SAVE_S,
        )

    def _compaction(self, outer: asyncio.TaskGroup, store: LogStore) -> list[asyncio.Task[None]]:
        # What a file would save in space, flash would pay for by being written once more.
        if kind_of(self._config.gateway.log.path) in ("emmc", "sd"):
            return []
        return [outer.create_task(Compaction(store).run(), name="compaction")]

    async def _operate(
        self,
        store: LogStore,
        writer: Writer,
        housekeeping: Housekeeping,
        report: Report,
        timekeeper: Timekeeper,
        stop: asyncio.Event,
    ) -> None:
        async with asyncio.TaskGroup() as outer:
            background = [
                outer.create_task(writer.run(), name="log"),
                *self._compaction(outer, store),
                outer.create_task(housekeeping.run(), name="housekeeping"),
                outer.create_task(report.run(), name="report"),
                outer.create_task(timekeeper.run(), name="clock"),
            ]
            publishing = [
                outer.create_task(publisher.run(), name=f"destination {publisher.name}")
                for publisher in self._publishers
            ]
            async with asyncio.TaskGroup() as inner:
                acquiring = [
                    inner.create_task(device.run(housekeeping.space), name=f"device {device.name}")
                    for device in self._devices
                ]
                log.info("running: devices: %d, destinations: %d", len(self._devices), len(self._publishers))
                give_back()
                await stop.wait()
                log.info("stopping")
                for task in acquiring:
                    task.cancel()
                # A device that takes its time to let go must not use up the time that destinations need.
                if acquiring:
                    await asyncio.wait(acquiring, timeout=LET_GO_S)
                await _flush(writer)
                for task in publishing:
                    task.cancel()
            await _flush(writer)
            for task in background:
                task.cancel()


async def _flush(writer: Writer) -> None:
    """Commit what there is, so that destinations get it. What a stalled log does not take now, it is asked again to
    take when the writer closes, and then says what is lost.
    """
    try:
        async with asyncio.timeout(FLUSH_S):
            await writer.flush()
    except TimeoutError:
        log.warning("stopping: the log has not taken everything within %g s", FLUSH_S)
