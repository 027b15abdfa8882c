"""When accounts are due, and the messages that are published beside the readings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from gateway.contract import Clock
from gateway.publishing import documents
from gateway.publishing.aside import Aside
from gateway.publishing.books import Books
from gateway.publishing.config import DestinationConfig
from gateway.publishing.mqtt import publish_properties
from gateway.publishing.outbox import Outbox

SECOND_NS = 1_000_000_000
DAY_S = 86_400
TICK_S = 1.0


class Period(NamedTuple):
    """A finished period, ns since the epoch."""

    name: str
    """hour, day or close"""
    start: int
    end: int


class Schedule:
    """Whole multiples of an interval since local midnight; at midnight the day as well. Pure."""

    def __init__(self, interval_s: float, timezone: tzinfo, now_ns: int) -> None:
        self._interval_ns = round(min(interval_s, DAY_S) * SECOND_NS)
        self._timezone = timezone
        self._next = self._boundary(now_ns, self._interval_ns) + self._interval_ns

    def due(self, now_ns: int) -> list[Period]:
        """The periods that ended since the last call, of each kind the latest only."""
        if now_ns < self._next and self._next - now_ns <= 2 * self._interval_ns:
            return []
        former = self._next - self._interval_ns
        end = self._boundary(now_ns, self._interval_ns)
        self._next = end + self._interval_ns
        if end <= former:  # the clock was put back
            return []
        periods = [Period("hour", end - self._interval_ns, end)]
        midnight = self._boundary(now_ns, DAY_S * SECOND_NS)
        if midnight > former:
            periods.append(Period("day", midnight - DAY_S * SECOND_NS, midnight))
        return periods

    def _boundary(self, now_ns: int, step_ns: int) -> int:
        """The last local multiple of `step_ns` that is not after now."""
        shift = datetime.fromtimestamp(now_ns // SECOND_NS, self._timezone).utcoffset()
        shift_ns = 0 if shift is None else round(shift.total_seconds()) * SECOND_NS
        return (now_ns + shift_ns) // step_ns * step_ns - shift_ns


class Reporter:
    """Publishes accounts and health messages; a broker that refuses them loses no readings by it."""

    def __init__(
        self,
        config: DestinationConfig,
        origin: documents.Origin,
        topic: str,
        books: Books,
        schedule: Schedule,
        clock: Clock,
        health: Callable[[], Mapping[str, Any]] | None,
    ) -> None:
        self._config = config
        self._origin = origin
        self._topic = topic
        self._books = books
        self._schedule = schedule
        self._clock = clock
        self._health = health
        self._period_start = clock.time_ns()
        self._health_ns = round(config.health * SECOND_NS)
        self._health_due = 0
        self._aside = Aside(config.name, clock)

    async def run(self, outbox: Outbox) -> None:
        """Publish what is due until cancelled. Raises BrokerError when the connection breaks."""
        while True:
            now = self._clock.time_ns()
            for period in self._schedule.due(now):
                await self._books.follow()
                await self._publish_account(outbox, period)
                self._period_start = period.end
            monotonic = self._clock.monotonic_ns()
            if self._health is not None and monotonic >= self._health_due:
                self._health_due = monotonic + self._health_ns
                await self._publish(outbox, "health", documents.health(self._origin, now, self._health()))
            await asyncio.sleep(TICK_S)

    async def close(self, outbox: Outbox) -> None:
        """The last account of an orderly stop: from the end of the last period until now."""
        await self._books.follow()
        now = self._clock.time_ns()
        await self._publish_account(outbox, Period("close", min(self._period_start, now), now))

    async def _publish_account(self, outbox: Outbox, period: Period) -> None:
        document = documents.account(
            self._origin,
            self._config.name,
            self._books.ledger,
            self._clock.time_ns(),
            period.name,
            period.start,
            period.end,
            self._books.complete_until(),
        )
        await self._publish(outbox, "account", document)

    async def _publish(self, outbox: Outbox, kind: str, document: documents.Document) -> None:
        topic = f"{self._topic}/{kind}"
        if not self._aside.open(topic):
            return
        properties = publish_properties(self._config.mqtt, document["schema"], "none")
        code = await self._aside.publish(outbox, topic, documents.encode(document), properties, backlog=False)
        if code >= 0x80:
            self._aside.refuse(topic, code)
