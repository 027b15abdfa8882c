"""Messages beside the readings: a broker that refuses them loses nothing, and is told about once."""

from __future__ import annotations

import logging
from typing import Any

from gateway.contract import Clock
from gateway.publishing.outbox import Outbox
from gateway.publishing.verdicts import advice, word

REFUSAL_NS = 3600 * 1_000_000_000
"""how long a topic that was refused is not tried again"""

logger = logging.getLogger(__name__)


class Aside:
    """Remembers which topics are refused; outlives connections, because some brokers cut them for that."""

    def __init__(self, destination: str, clock: Clock) -> None:
        self._destination = destination
        self._clock = clock
        self._refused: dict[str, int] = {}

    def open(self, topic: str) -> bool:
        """The topic is not known to be refused."""
        return self._clock.monotonic_ns() >= self._refused.get(topic, 0)

    async def publish(self, outbox: Outbox, topic: str, payload: bytes, properties: Any, *, backlog: bool) -> int:
        """Send to an open topic and wait; returns the reason code of the PUBACK. Raises BrokerError when cut."""
        code = await outbox.call(topic, payload, backlog=backlog, properties=properties)
        if code < 0x80:
            self._refused.pop(topic, None)
        return code

    def refuse(self, topic: str, code: int) -> None:
        """Let the topic be for an hour; told once until it is taken again."""
        if topic not in self._refused:
            logger.error(
                "destination %s: the broker refuses %s (%s): %s", self._destination, topic, word(code), advice(code)
            )
        self._refused[topic] = self._clock.monotonic_ns() + REFUSAL_NS
