"""Publishes each device's catalogue before the first readings that need it."""

from __future__ import annotations

import asyncio

from gateway.contract import Clock
from gateway.log.records import Labels, PointRecord
from gateway.points.table import PointTable
from gateway.publishing import documents
from gateway.publishing.clearance import Clearance
from gateway.publishing.errors import BrokerRefused
from gateway.publishing.hidden import Hidden
from gateway.publishing.mqtt import publish_properties
from gateway.publishing.outbox import Outbox
from gateway.publishing.verdicts import advice, word


class Catalogues:
    """The versions that one connection has seen acknowledged."""

    def __init__(
        self,
        origin: documents.Origin,
        topic: str,
        points: PointTable,
        clearance: Clearance,
        hidden: Hidden,
        outbox: Outbox,
        clock: Clock,
        version: int | str,
        most_bytes: int,
    ) -> None:
        self._origin = origin
        self._topic = topic
        self._points = points
        self._clearance = clearance
        self._hidden = hidden
        self._outbox = outbox
        self._clock = clock
        self._properties = publish_properties(version, "catalogue/1", "none")
        self._most_bytes = most_bytes
        self._published: dict[str, int] = {}
        self._parts: dict[str, int] = {}
        self._busy = asyncio.Lock()

    def version(self, device: str) -> int | None:
        """The device's version if the broker has it already, else None."""
        version = self._points.version(device)
        return version if self._published.get(device) == version else None

    async def ensure(self, device: str) -> int:
        """Return the device's version once the broker has acknowledged it. Raises BrokerError."""
        async with self._busy:
            while (version := self.version(device)) is None:
                await self._publish(device, self._points.version(device))
        return version

    async def _publish(self, device: str, version: int) -> None:
        parts = documents.catalogue(
            self._origin,
            device,
            self._points.device(device),
            version,
            self._visible(device),
            self._clock.time_ns(),
            self._most_bytes,
        )
        parts += [b""] * (self._parts.get(device, 0) - len(parts))  # an empty retained message clears a former part
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(self._send(f"{self._topic}/{device}/catalogue/{number}", part), name="catalogue part")
                for number, part in enumerate(parts)
            ]
        for answer in answers:
            topic, code = answer.result()
            if code >= 0x80:
                raise BrokerRefused(f"the broker refuses {topic} ({word(code)}): {advice(code)}")
        self._published[device] = version
        self._parts[device] = len(parts)

    async def _send(self, topic: str, part: bytes) -> tuple[str, int]:
        return topic, await self._outbox.call(topic, part, retain=True, properties=self._properties)

    def _visible(self, device: str) -> list[tuple[PointRecord, Labels]]:
        hidden = self._hidden.indexes(device)
        return [
            (point, self._points.labels(point.stream))
            for index, point in sorted(self._points.points(device).items())
            if index not in hidden and self._clearance.sees(point.stream)
        ]
