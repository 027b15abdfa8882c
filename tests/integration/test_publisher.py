"""The publisher against a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

from gateway.contract import SystemClock
from gateway.log.records import EventRecord
from gateway.publishing.config import DestinationConfig
from gateway.publishing.publisher import Publisher
from tests.support.broker import Mosquitto, free_port
from tests.support.fakelog import NOW, FakeLog, FakeState, FakeTail, define, readings, stream
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

ENTERPRISE = "91370200MA3C00000K"
BASE = f"iiot/v1/{ENTERPRISE}/gw-1"


class Plant:
    """A publisher with everything around it but the broker."""

    def __init__(self, log: FakeLog | None = None, state: FakeState | None = None) -> None:
        self.log = log or FakeLog()
        self.state = state or FakeState()
        if log is None:
            self.log.append(stream(), *define())

    def publisher(self, broker: Mosquitto | int, **keys: Any) -> Publisher:
        port = broker if isinstance(broker, int) else broker.port
        keys = {"batch": {"max_wait": "50ms"}, "max_grade": 1} | keys
        config = DestinationConfig(name="centre", url=f"mqtt://127.0.0.1:{port}", **keys)
        return Publisher(
            config,
            enterprise=ENTERPRISE,
            gateway="gw-1",
            version="0.1",
            timezone=UTC,
            log=self.log,
            tail=FakeTail(self.log),
            state=self.state,
            points=self.log.points,
            clock=SystemClock(),
            health=lambda: {"devices": 1},
            draw=random.Random(1),
        )


@contextlib.asynccontextmanager
async def running(publisher: Publisher) -> AsyncIterator[Publisher]:
    task = asyncio.create_task(publisher.run(), name="publisher")
    try:
        yield publisher
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def delivered(publisher: Publisher, count: int) -> bool:
    return publisher.statistics().total.delivered == count


async def test_everything_arrives_once_with_catalogue_status_events_and_account() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                for k in range(20):
                    plant.log.append(readings(50, start=k * 50))
                gap = {"schema": "gap/1", "id": "g", "of": "boiler-1", "points": None, "from": None, "to": None}
                plant.log.append(EventRecord("S1", NOW, gap | {"reason": "device-down"}))
                await eventually(lambda: delivered(publisher, 1001))
            await eventually(lambda: centre.of("account/1") and len(centre.of("status/1")) == 2)
            assert centre.errors == []
            assert centre.offsets() == dict.fromkeys(range(1000), 1)
            assert len(centre.of("gap/1")) == 1
            order = [message.document["schema"] for message in centre.messages]
            assert order.index("catalogue/1") < order.index("readings/1")
            assert [message.document["state"] for message in centre.of("status/1")] == ["online", "offline"]
            (account,) = centre.of("account/1")
            entries = {entry["device"]: entry for entry in account.document["entries"]}
            assert entries["boiler-1"]["accepted"] == entries["boiler-1"]["delivered"] == 1000
            assert entries["_events"]["accepted"] == entries["_events"]["delivered"] == 1
            assert account.document["period"] == "close"
            assert centre.of("health/1")
            readings_message = centre.of("readings/1")[0]
            assert ["schema", "readings/1"] in [list(pair) for pair in readings_message.properties["UserProperty"]]
            assert readings_message.properties["ContentType"] == "application/json"
        with Subscriber(broker.port) as later:
            await eventually(lambda: later.of("status/1") and later.of("catalogue/1"))
            assert later.of("status/1")[0].retained
            assert later.of("status/1")[0].document["reason"] == "stopped"
    statistics = publisher.statistics()
    assert statistics.state == "stopped"
    assert statistics.total.unbalanced == 0
