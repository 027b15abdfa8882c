"""Builds each device's part of the path: points, normaliser, gaps, adapter, supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gateway.config.load import LoadedConfig, LoadedDevice
from gateway.contract.adapter import Facts, HasFacts, Remembered
from gateway.contract.certificates import HasCertificates
from gateway.contract.clock import Clock
from gateway.contract.config import PointConfig
from gateway.log import Writer
from gateway.log.records import PointRecord, Series
from gateway.normalise import Normaliser
from gateway.points.registry import DeviceDefinition, PointDefinition, Registry
from gateway.points.streams import Streams
from gateway.points.table import PointTable
from gateway.runtime.gaps import Gaps, covered_until
from gateway.runtime.gate import Gate
from gateway.runtime.housekeeping import Space
from gateway.runtime.sink import DeviceCounters, DeviceSink
from gateway.runtime.supervisor import DeviceState, Supervisor
from gateway.units.conversion import converted


@dataclass(frozen=True, slots=True)
class Device:
    """One device at run time."""

    name: str
    adapter: str
    state: DeviceState
    counters: DeviceCounters
    sink: DeviceSink
    supervisor: Supervisor
    covered_until: int
    """ns: what the log has of the device from before this start reaches until then; without any, the start"""
    certificate_expires: Callable[[], float | None]
    """when our certificate for this device expires, in seconds since the epoch; None where there is none"""
    facts: Callable[[], Facts]
    """what the adapter knows of the device as of now"""
    points: int = 0
    period_s: float | None = None
    """how often the device is to be asked, where its config says that for all of it"""
    gate: Gate = field(default_factory=Gate)
    """shut while the device must not be asked"""
    gaps: Gaps | None = None
    known: Callable[[], Mapping[int, PointRecord]] = dict
    """the device's entries by index, retired ones too"""
    filtered: Callable[[], int] = int
    """readings since this start that were left out before acceptance, because they said nothing new"""

    async def run(self, space: Space) -> None:
        """Acquire until cancelled, while there is space and nobody has paused the device."""
        with space.keeps(self.gate):
            while True:
                if (held := self.gate.held) is not None:
                    await self.supervisor.pause(self.sink, self.covered_until, held.reason, held.text)
                    self.gate.quiet.set()
                    await self.gate.open.wait()
                    self.supervisor.resumed()
                async with asyncio.TaskGroup() as group:
                    work = self.supervisor.run(self.sink, self.covered_until)
                    acquiring = group.create_task(work, name=f"device {self.name} acquiring")
                    await self.gate.shut.wait()
                    acquiring.cancel()


@dataclass(frozen=True, slots=True)
class Parts:
    """What all devices share."""

    table: PointTable
    streams: Streams
    registry: Registry
    writer: Writer
    clock: Clock
    last_time: Mapping[Series, int]
    """ns: newest source time per series before this start"""
    last_commit: int | None
    """ns: when the log last took anything before this start, gateway clock"""
    open_gaps: Sequence[Mapping[str, Any]]
    """bodies of the gap events that were left without an end"""
    left: Mapping[str, Remembered]
    """what adapters left for this process, by device"""

    def last_seen(self, device: str) -> int | None:
        """Until when (ns) the log covers a device; None for a device that the log does not know."""
        known = [time for series, time in self.last_time.items() if series.device == device]
        if not known or self.last_commit is None:
            return None
        return covered_until(max(known), self.last_commit)


def build_devices(config: LoadedConfig, parts: Parts) -> list[Device]:
    """Make every configured device; no I/O but the point entries that are queued for the log."""
    configured = {loaded.config.device for loaded in config.devices}
    for gone in set(parts.table.devices()) - configured:
        parts.registry.retire(gone)
    return [build_device(loaded, parts) for loaded in config.devices]


def build_device(loaded: LoadedDevice, parts: Parts, former: Device | None = None) -> Device:
    """Make one. `former` was the same device until now, has stopped, and is to be gone on with under a new config."""
    name = loaded.config.device
    clock = parts.clock
    before = parts.table.device(name)
    points = parts.registry.bind(
        DeviceDefinition(
            device=name,
            name=loaded.config.name,
            adapter=loaded.config.adapter,
            points=[
                PointDefinition(converted(config) if isinstance(config, PointConfig) else config, labels, identifier)
                for config, labels, identifier in zip(
                    loaded.config.every_point, loaded.labels, loaded.identifiers, strict=True
                )
            ],
        )
    )
    normaliser, left_out = _normaliser(loaded.config, parts)
    gaps = Gaps(
        name,
        list(dict.fromkeys(map(parts.streams.for_labels, loaded.labels))),
        now=clock.time_ns,
        write=lambda event: _discard(parts.writer.write_now([event])),
        points=lambda: parts.table.points(name),
    )
    state = DeviceState(outages=0 if former is None else former.state.outages)
    counters = DeviceCounters() if former is None else former.counters
    counters.bad = None  # points may have gone
    adapter = loaded.adapter.build(loaded.config, points, clock)
    supervisor = Supervisor(name, adapter, points, gaps, state, clock)
    sink = DeviceSink(
        name,
        normaliser,
        parts.writer,
        gaps,
        counters,
        link=supervisor,
        describe=partial(parts.registry.describe, name),
        # Another adapter's note would mean nothing to this one, or something else.
        left=parts.left.get(name)
        if former is None and before is not None and before.adapter == loaded.config.adapter
        else None,
    )
    if former is None:
        gaps.resume(parts.open_gaps)
        last = parts.last_seen(name)
    else:
        gaps.resume([] if former.gaps is None else former.gaps.left_open())
        last = former.sink.covered_until or former.covered_until
    if last is not None:
        gaps.begin(last, "gateway-down" if former is None else "config-changed")
    expires = partial(_certificate_expires, loaded)
    facts = adapter.facts if isinstance(adapter, HasFacts) else Facts
    if former is not None:
        facts = partial(_added, former.facts(), facts)
    return Device(
        name,
        loaded.config.adapter,
        state,
        counters,
        sink,
        supervisor,
        last or clock.time_ns(),
        expires,
        facts,
        len(points),
        # A key that adapters which poll have; one that subscribes is told by the server.
        getattr(loaded.config, "every", None),
        gate=Gate() if former is None else former.gate,
        gaps=gaps,
        known=partial(parts.table.points, name),
        filtered=partial(_filtered, 0 if former is None else former.filtered(), left_out),
    )


def _normaliser(config: Any, parts: Parts) -> tuple[Normaliser, Callable[[], int] | None]:
    """A device's normaliser, and how many readings it has left out by then, where it does that."""
    if not config.is_staged:
        return Normaliser(config.device, parts.table, parts.registry), None
    from gateway.derive.stage import StagedNormaliser, stage_of  # noqa: PLC0415 - most boxes need none of it

    stage = stage_of(config, parts.table, parts.registry)
    assert stage is not None
    return StagedNormaliser(config, parts.table, parts.registry, stage), lambda: stage.filtered


def _filtered(before: int, left_out: Callable[[], int] | None) -> int:
    return before + (left_out() if left_out else 0)


def _added(before: Facts, now: Callable[[], Facts]) -> Facts:
    """What is counted goes on over a change of the config: a metric's counter must not fall."""
    facts = now()
    return replace(
        facts,
        lost_copies=before.lost_copies + facts.lost_copies,
        polls=None if facts.polls is None else (before.polls or 0) + facts.polls,
        polls_missed=before.polls_missed + facts.polls_missed,
        timeouts=before.timeouts + facts.timeouts,
        bad_replies=before.bad_replies + facts.bad_replies,
    )


def _certificate_expires(loaded: LoadedDevice) -> float | None:
    adapter = loaded.adapter
    return adapter.certificate_expires(loaded.config) if isinstance(adapter, HasCertificates) else None


def _discard(_: object) -> None:
    """An event's receipt is nobody's business: it is durable with the next commit."""
