"""The gateway: one task group owns it, and the order of its nesting is the order of its shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from zoneinfo import ZoneInfo

from gateway import __version__
from gateway.config.load import LoadedConfig
from gateway.config.models import GatewayConfig
from gateway.contract.clock import Clock
from gateway.contract.errors import GatewayError
from gateway.control import ControlServer
from gateway.log import LogError, LogStore, Writer, budget_bytes, commit_default_s, kind_of, on_flash
from gateway.log.records import Record, StreamRecord
from gateway.memory import give_back, stay_small
from gateway.metrics.collector import Sample
from gateway.metrics.endpoint import Endpoint, Verdict
from gateway.points.registry import Registry
from gateway.points.streams import Streams, closing_events
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from gateway.publishing.removed import end_accounts
from gateway.runtime.compaction import Compaction
from gateway.runtime.crew import Crew
from gateway.runtime.desk import Desk, Live
from gateway.runtime.devices import Device, Parts, build_devices
from gateway.runtime.housekeeping import Housekeeping
from gateway.runtime.opening import Opened, Unopened, open_log
from gateway.runtime.pauses import Pauses
from gateway.runtime.reloading import InForce, Reloading, Session
from gateway.runtime.report import Report
from gateway.runtime.status import Status
from gateway.runtime.swap import Swap
from gateway.runtime.timekeeping import Timekeeper, synchronised

log = logging.getLogger(__name__)

SAVE_S = 1.0
"""between two saves of a destination's position; what was delivered since is delivered twice after a power cut"""
SAVE_FLASH_S = 30.0
"""the same on eMMC and SD cards, whose writes are a budget"""

LET_GO_S = 0.5
"""how long destinations wait at a stop for the devices' last readings; a device has 2 s"""
FLUSH_S = 1.0


class Gateway:
    """Everything between a checked config and a stop."""

    def __init__(self, config: LoadedConfig, clock: Clock) -> None:
        self._clock = clock
        self._reloading = Reloading(InForce(config, clock), clock)
        self._publishers: list[Publisher] = []
        self._devices: list[Device] = []
        self._unopened = Unopened(__version__, clock, config)
        self._face: Unopened | Report = self._unopened
        self._desk = Desk(config.gateway.gateway.id, clock, lambda: self._unopened.why, self._reloading)

    @property
    def _config(self) -> LoadedConfig:
        """The one in force."""
        return self._reloading.force.config

    def reload(self, by: str) -> None:
        """Take over the config as it lies in its folder, soon; what is wrong with it is logged and in `status`."""
        if not self._reloading.ask(by):
            log.warning("config: asked to reload by %s, but several reloads wait already", by)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then leave within 5 s with everything accepted in the log.

        A log that cannot be opened or written (a full disk, one that turned read-only) is opened anew until it can.
        Raises GatewayError when something else fails that the gateway cannot live without.
        """
        metrics = self._config.gateway.metrics
        async with Endpoint(metrics.host, metrics.port, self._samples, self._healthy, self._ready):
            control = ControlServer(self._config.gateway.log.path, self._desk.handlers(), self._desk.streams())
            failure: GatewayError | None = None
            async with asyncio.TaskGroup() as group:
                controlling = group.create_task(control.run(), name="control")
                try:
                    await self._sessions(stop)
                except GatewayError as error:  # as it is, without the group around it
                    failure = error
                controlling.cancel()
            if failure is not None:
                raise failure

    async def _sessions(self, stop: asyncio.Event) -> None:
        while (error := await self._session(stop)) is not None:
            self._face = self._unopened
            if await _stopped_within(stop, self._unopened.failed(error)):
                return

    def _samples(self) -> Iterable[Sample]:
        return self._face.samples()

    def _healthy(self) -> Verdict:
        return self._face.healthy()

    def _ready(self) -> Verdict:
        return self._face.ready()

    async def _session(self, stop: asyncio.Event) -> LogError | None:
        """From opening the log to the stop; returns what ended it before, where another attempt can help."""
        failure: GatewayError | None = None
        try:
            with ExitStack() as closing:
                opened = open_log(self._config, self._clock, closing)
                await self._run(opened, stop)
        except* GatewayError as group:
            failure = _first(group)
        finally:
            self._desk.live = None
        if isinstance(failure, LogError) and failure.retry and not stop.is_set():
            return failure
        if failure is not None:
            raise failure
        return None

    async def _run(self, opened: Opened, stop: asyncio.Event) -> None:
        file = self._config.gateway
        self._publishers, self._devices = [], []
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
            parts = self._parts(opened, writer, streams)
            self._devices += build_devices(self._config, parts)
            pauses = Pauses(file.log.path, self._clock)
            for device in self._devices:
                if (pause := pauses.of(device.name)) is not None:
                    device.gate.hold(pause.held)
            budget = budget_bytes(file.log.path, file.log.budget or "auto", used=opened.store.size())
            housekeeping = Housekeeping(
                opened.store,
                file.log.path,
                self._publishers,
                budget_bytes=budget,
                keep_s=file.log.keep,
                clock=self._clock,
                drop_undelivered=file.log.when_full == "drop-oldest",
                forget=opened.tail.forget,
            )
            report = Report(__version__, self._clock, self._devices, self._publishers, writer, housekeeping)
            report.cut_readings = opened.recovery.cut_readings
            report.force = self._reloading.force
            build = partial(self._build_publisher, opened=opened, report=report, streams=streams, writer=writer)
            self._publishers += [build(destination) for destination in file.destinations]
            self._unopened.over()
            self._face = report
            status = Status(
                self._clock,
                self._devices,
                self._publishers,
                file.log.path,
                opened.store,
                writer,
                housekeeping,
                self._reloading.force.status,
            )
            self._desk.live = Live(self._devices, status, pauses)
            timekeeper = Timekeeper(self._clock, streams.open, writer.write_now, synchronised)
            swap = Swap(self._devices, self._publishers, parts, pauses, housekeeping, opened.state, build)
            await self._operate(opened.store, writer, housekeeping, report, timekeeper, status, swap, stop)

    def _streams(self, opened: Opened, writer: Writer) -> Streams:
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

    def _parts(self, opened: Opened, writer: Writer, streams: Streams) -> Parts:
        recovery = opened.recovery

        def write(records: Sequence[Record]) -> None:
            writer.write_now(records)

        registry = Registry(opened.table, streams, now=self._clock.time_ns, write=write)
        return Parts(
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

    def _build_publisher(
        self,
        destination: DestinationConfig,
        identity: GatewayConfig | None = None,
        *,
        opened: Opened,
        report: Report,
        streams: Streams,
        writer: Writer,
    ) -> Publisher:
        identity = identity or self._config.gateway.gateway
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
            streams=streams.open,
            write=writer.write_now,
            save_s=SAVE_FLASH_S if on_flash(self._config.gateway.log.path) else SAVE_S,
        )

    def _compaction(self, outer: asyncio.TaskGroup, store: LogStore) -> list[asyncio.Task[None]]:
        # What a file would save in space, flash would pay for by being written once more.
        if on_flash(self._config.gateway.log.path):
            return []
        return [outer.create_task(Compaction(store).run(), name="compaction")]

    async def _operate(
        self,
        store: LogStore,
        writer: Writer,
        housekeeping: Housekeeping,
        report: Report,
        timekeeper: Timekeeper,
        status: Status,
        swap: Swap,
        stop: asyncio.Event,
    ) -> None:
        async with asyncio.TaskGroup() as outer:
            background = [
                outer.create_task(writer.run(), name="log"),
                *self._compaction(outer, store),
                outer.create_task(housekeeping.run(), name="housekeeping"),
                outer.create_task(report.run(), name="report"),
                outer.create_task(status.run(), name="status"),
                outer.create_task(timekeeper.run(), name="clock"),
                outer.create_task(stay_small(), name="memory"),
            ]
            publishing = Crew(outer, "destination")
            for publisher in self._publishers:
                publishing.start(publisher.name, publisher.run())
            async with asyncio.TaskGroup() as inner:
                acquiring = Crew(inner, "device")
                for device in self._devices:
                    acquiring.start(device.name, device.run(housekeeping.space))
                swap.crews(acquiring, publishing)
                session = Session(swap.apply, swap.parts.table, swap.parts.streams.open, writer.write_now)
                reloading = [
                    inner.create_task(self._reloading.run(session), name="reloading"),
                    inner.create_task(self._reloading.watch(), name="config files"),
                ]
                log.info("running: devices: %d, destinations: %d", len(self._devices), len(self._publishers))
                give_back()
                await stop.wait()
                log.info("stopping")
                for task in reloading:
                    task.cancel()
                await asyncio.wait(reloading)
                acquiring.cancel()
                # A device that takes its time to let go must not use up the time that destinations need.
                if acquiring.tasks:
                    await asyncio.wait(acquiring.tasks, timeout=LET_GO_S)
                await _flush(writer)
                publishing.cancel()
            await _flush(writer)
            for task in background:
                task.cancel()


def _first(group: BaseExceptionGroup[GatewayError]) -> GatewayError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


async def _flush(writer: Writer) -> None:
    """Commit what there is, so that destinations get it. What a stalled log does not take now, it is asked again to
    take when the writer closes, and then says what is lost.
    """
    try:
        async with asyncio.timeout(FLUSH_S):
            await writer.flush()
    except TimeoutError:
        log.warning("stopping: the log has not taken everything within %g s", FLUSH_S)
