"""The messages that are published beside the readings: accounts and health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from gateway.contract import Clock
from gateway.publishing import documents
from gateway.publishing.accounts import Accounts
from gateway.publishing.aside import Aside
from gateway.publishing.config import DestinationConfig
from gateway.publishing.maker import Maker
from gateway.publishing.mqtt import publish_properties
from gateway.publishing.outbox import Outbox
from gateway.publishing.verdicts import NO_SUBSCRIBERS, TOO_LARGE

TICK_S = 1.0
AGAIN_NS = 60_000_000_000
"""until an account that nobody subscribes to is tried again"""


class Reporter:
    """Publishes accounts and health messages; a broker that refuses them loses no readings by it."""

    def __init__(
        self,
        config: DestinationConfig,
        origin: documents.Origin,
        topic: str,
        accounts: Accounts,
        clock: Clock,
        health: Callable[[], Mapping[str, Any]] | None,
    ) -> None:
        self._config = config
        self._origin = origin
        self._topic = topic
        self._accounts = accounts
        self._clock = clock
        self._health = health
        self._health_ns = round(config.health * 1e9)
        self._health_due = 0
        self._accounts_due = 0
        self._aside = Aside(config.name, clock)

    async def run(self, outbox: Outbox, maker: Maker) -> None:
        """Publish what is due and what waits, until cancelled. Raises BrokerError when the connection breaks."""
        self._accounts_due = 0
        while True:
            monotonic = self._clock.monotonic_ns()
            if self._accounts.drawn.is_set() or monotonic >= self._accounts_due:
                await self.publish_accounts(outbox, maker)
            if self._health is not None and monotonic >= self._health_due:
                self._health_due = monotonic + self._health_ns
                await self._publish_health(outbox, self._health())
            await asyncio.sleep(TICK_S)

    async def publish_accounts(self, outbox: Outbox, maker: Maker) -> None:
        """Send every account that waits, oldest first; each is done with when all of it is acknowledged."""
        self._accounts.drawn.clear()
        self._accounts_due = self._clock.monotonic_ns() + AGAIN_NS
        topic = f"{self._topic}/account"
        for kept in await self._accounts.waiting():
            if not self._aside.open(topic) or not await self._publish_account(outbox, maker, topic, kept.document):
                return
            await self._accounts.taken(kept)

    async def _publish_account(self, outbox: Outbox, maker: Maker, topic: str, account: documents.Document) -> bool:
        properties = publish_properties(self._config.mqtt, account["schema"], "none")
        parts = documents.in_parts(account, maker.most_bytes)
        while parts:
            payload = documents.encode(parts[0])
            code = await self._aside.publish(outbox, topic, payload, properties, backlog=False)
            if code == TOO_LARGE and len(parts[0]["entries"]) > 1:
                maker.too_large(len(payload), len(parts[0]["entries"]))
                parts = documents.in_parts(account, maker.most_bytes)  # a part that comes twice says the same twice
                continue
            if code >= 0x80:
                self._aside.refuse(topic, code)
                return False
            if code == NO_SUBSCRIBERS and self._config.no_subscribers == "hold":
                return False
            del parts[0]
        return True

    async def _publish_health(self, outbox: Outbox, metrics: Mapping[str, Any]) -> None:
        topic = f"{self._topic}/health"
        document = documents.health(self._origin, self._clock.time_ns(), metrics)
        if self._aside.open(topic):
            properties = publish_properties(self._config.mqtt, document["schema"], "none")
            code = await self._aside.publish(outbox, topic, documents.encode(document), properties, backlog=False)
            if code >= 0x80:
                self._aside.refuse(topic, code)
