"""Messages beside the readings: a broker that refuses them loses nothing, and is told about once."""

from __future__ import annotations

import logging
from collections import Counter

from gateway.contract import Clock
from gateway.publishing.outbox import Outbox
from gateway.publishing.verdicts import advice, word

REFUSAL_NS = 3600 * 1_000_000_000
"""how long a topic that was refused is not tried again"""

MOST_UNANSWERED = 3
"""a topic on which the connection broke so often in a row before an answer came is taken to be refused"""

logger = logging.getLogger(__name__)


class Aside:
    """Remembers which topics are refused; outlives connections, because some brokers cut them for that."""

    def __init__(self, destination: str, clock: Clock) -> None:
        self._destination = destination
        self._clock = clock
        self._refused: dict[str, int] = {}
        self._unanswered: Counter[str] = Counter()

    def open(self, topic: str) -> bool:
        """The topic is not known to be refused."""
        if self._unanswered[topic] >= MOST_UNANSWERED:
            del self._unanswered[topic]
            self._let_be(topic, "it cuts the connection", "see the broker's access rules")
        return self._clock.monotonic_ns() >= self._refused.get(topic, 0)

    async def publish(self, outbox: Outbox, topic: str, payload: bytes, properties: bytes, *, backlog: bool) -> int:
        """Send to an open topic and wait; returns the reason code of the PUBACK. Raises BrokerError when cut."""
        self._unanswered[topic] += 1
        code = await outbox.call(topic, payload, backlog=backlog, properties=properties)
        del self._unanswered[topic]
        if code < 0x80:
            self._refused.pop(topic, None)
        return code

    def refuse(self, topic: str, code: int) -> None:
        """Let the topic be for an hour; told once until it is taken again."""
        self._let_be(topic, word(code), advice(code))

    def _let_be(self, topic: str, why: str, advice: str) -> None:
        if topic not in self._refused:
            logger.error("destination %s: the broker refuses %s (%s): %s", self._destination, topic, why, advice)
        self._refused[topic] = self._clock.monotonic_ns() + REFUSAL_NS
