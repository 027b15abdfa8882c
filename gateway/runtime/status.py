"""What `edge-gateway status` shows: the parts' own counters, and rates from looking at them every other second."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from gateway.contract.clock import Clock
from gateway.contract.status import reason
from gateway.log import LogError, LogStore, Writer
from gateway.log.forecast import recent_rate
from gateway.log.records import BatchRecord
from gateway.publishing.publisher import Publisher
from gateway.rfc3339 import rfc3339
from gateway.runtime.devices import Device
from gateway.runtime.housekeeping import Housekeeping

EVERY_S: Final = 2.0
NAMED: Final = 10
"""bad points of a device that are named"""
WINDOW: Final = 6
"""looks that a rate is told from: 10 s"""


class Rates:
    """Counters of many names, looked at together; per second over the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, dict[str, tuple[int, ...]]]] = deque(maxlen=WINDOW)

    def look(self, monotonic_ns: int, counts: dict[str, tuple[int, ...]]) -> None:
        """Note the counters as of now."""
        self._looks.append((monotonic_ns, counts))

    def per_s(self, name: str) -> tuple[float, ...] | None:
        """Per second, in the order of the counters; None until it was looked at twice, or where they began anew."""
        known = [(at, counts[name]) for at, counts in self._looks if name in counts]
        if len(known) < 2 or known[-1][0] <= known[0][0]:
            return None
        (before, old), (after, new) = known[0], known[-1]
        seconds = (after - before) / 1e9
        rates = tuple((b - a) / seconds for a, b in zip(old, new, strict=True))
        return None if min(rates) < 0 else rates


class Status:
    """Put together when somebody asks; between that it costs one look at each counter every 2 s."""

    def __init__(
        self,
        clock: Clock,
        devices: Sequence[Device],
        publishers: Sequence[Publisher],
        folder: Path,
        store: LogStore,
        writer: Writer,
        housekeeping: Housekeeping,
        config: Callable[[], dict[str, Any]],
    ) -> None:
        """`config`: which config is in force and how the last reload went."""
        self._clock = clock
        self._devices = devices
        self._publishers = publishers
        self._folder = folder
        self._store = store
        self._writer = writer
        self._housekeeping = housekeeping
        self._config = config
        self._device_rates = Rates()
        self._destination_rates = Rates()
        self._refusals: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Look at the counters until cancelled."""
        while True:
            self._look()
            await asyncio.sleep(EVERY_S)

    def _look(self) -> None:
        now = self._clock.monotonic_ns()
        self._device_rates.look(
            now, {one.name: (one.counters.readings, one.facts().polls or 0, _bad(one)) for one in self._devices}
        )
        delivered: dict[str, tuple[int, ...]] = {}
        for publisher in self._publishers:
            seen = publisher.statistics()
            delivered[publisher.name] = (seen.total.delivered,)
            if seen.reason:
                self._refusals[publisher.name] = {
                    "state": seen.state,
                    "since": rfc3339(seen.since),
                    "reason": seen.reason,
                }
        self._destination_rates.look(now, delivered)

    async def body(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        oldest = {publisher.name: await self._oldest(publisher) for publisher in self._publishers}
        days = await asyncio.to_thread(self._days)
        return {
            "config": self._config(),
            "devices": [self._device(device) for device in self._devices],
            "destinations": [self._destination(one, oldest[one.name]) for one in self._publishers],
            "log": self._log(days),
        }

    def _device(self, device: Device) -> dict[str, Any]:
        facts, state = device.facts(), device.state
        rates = self._device_rates.per_s(device.name)
        last = device.counters.last_received
        return {
            "device": device.name,
            "adapter": device.adapter,
            "state": state.state,
            "since": rfc3339(state.since),
            "error": state.error,
            "outages": state.outages,
            "points": device.points,
            "bad_points": _bad_points(device),
            "period_s": device.period_s,
            "readings": device.counters.readings,
            "readings_per_s": None if rates is None else round(rates[0], 3),
            "bad_per_s": None if rates is None else round(rates[2], 3),
            "cycles_per_s": None if rates is None or facts.polls is None else round(rates[1], 3),
            "cycles_missed": facts.polls_missed,
            "timeouts": facts.timeouts,
            "last_reading": None if last is None else rfc3339(last),
            "clock_offset_s": facts.clock_offset_s,
        }

    def _destination(self, publisher: Publisher, oldest: int | None) -> dict[str, Any]:
        seen = publisher.statistics()
        rates = self._destination_rates.per_s(publisher.name)
        total = seen.total
        return {
            "destination": publisher.name,
            "state": seen.state,
            "since": rfc3339(seen.since),
            "reason": seen.reason or None,
            "broker": seen.broker or None,
            "accepted": total.accepted,
            "delivered": total.delivered,
            "waiting": total.waiting,
            "parked": total.parked,
            "withheld": total.withheld,
            "dropped": dict(total.dropped),
            "oldest_waiting": None if oldest is None else rfc3339(oldest),
            "delivered_per_s": None if rates is None else round(rates[0], 3),
            "delay_s": seen.delay_s,
            "last_trouble": self._refusals.get(publisher.name),
        }

    async def _oldest(self, publisher: Publisher) -> int | None:
        """ns: when the oldest reading that waits arrived; None where nothing waits."""
        position = publisher.undelivered
        if not publisher.statistics().total.waiting or position >= self._store.bounds().end:
            return None
        return await asyncio.to_thread(self._arrived, position)

    def _arrived(self, position: int) -> int | None:
        try:
            segments = self._store.read(position, 1)
        except LogError:
            return None
        batches = [each.batch for one in segments for each in one.records if isinstance(each, BatchRecord)]
        return min((int(batch.received_time) for batch in batches), default=None)

    def _log(self, days: float | None) -> dict[str, Any]:
        usage = self._housekeeping.usage
        return {
            "bytes": usage.used,
            "budget_bytes": usage.budget,
            "free_bytes": usage.free,
            "holds_days": days,
            "stalled": self._writer.statistics().stalled,
        }

    def _days(self) -> float | None:
        rate = recent_rate(self._folder)
        return None if rate is None or not rate.bytes_per_day else round(rate.days(self._housekeeping.usage.budget), 1)


def _bad(device: Device) -> int:
    return device.counters.quality[2] + device.counters.quality[3]


def _bad_points(device: Device) -> dict[str, Any]:
    """Points whose newest reading is Bad: how many, why, and the first of them."""
    bad = device.counters.bad
    if bad is None:
        return {"count": 0, "reasons": {}, "some": []}
    indexes = np.flatnonzero(bad >> 31).tolist()
    known = device.known()
    some = [{"point": known[i].point, "status": int(bad[i]), "reason": reason(int(bad[i]))} for i in indexes[:NAMED]]
    return {"count": len(indexes), "reasons": dict(Counter(reason(int(bad[i])) for i in indexes)), "some": some}
