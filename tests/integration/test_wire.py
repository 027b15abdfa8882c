"""Everything that a gateway can send, in both formats: as its JSON Schema says, and where the AsyncAPI document says.

One run with a real gateway, broker and centre goes through all that makes a message. The list of what must have come is
the AsyncAPI document itself, so that nothing is described that is never sent, and nothing sent that is not described.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import jsonschema
import numpy as np
import orjson
import pytest
import yaml
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gateway.contract import Batch, Filled, Gap, Sink, SystemClock, ValueType
from tests.support.broker import Mosquitto
from tests.support.destination import ENTERPRISE
from tests.support.listener import leave
from tests.support.rig import Delivery, GatewayProcess
from tests.support.subscriber import check
from tests.support.told import Stepping, Told, running
from tests.support.wait import eventually

API: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
NOT_SENT = {"config/1"}
"""sent where a config changes: tests/integration/test_reload.py"""
FORMATS = {"json": {"readings/1", "image/1"}, "columns": {"columns/1", "image-columns/1"}}
DAY_NS = 86_400 * 10**9
PATIENT_S = 60.0


class Message(NamedTuple):
    topic: str
    document: dict[str, Any]
    retained: bool
    """as it was published"""
    properties: Any


class Everything:
    """Subscribes to all topics with a session that outlives the broker's restart; context manager."""

    def __init__(self, port: int) -> None:
        self.messages: list[Message] = []
        self._port = port
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "everything", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        options = SubscribeOptions(qos=1, retainAsPublished=True)
        self._client.on_connect = lambda client, *_: client.subscribe("#", options=options)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 300
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._client)

    def of(self, schema: str, **keys: Any) -> list[dict[str, Any]]:
        """Documents of a schema with these values."""
        documents = [message.document for message in list(self.messages)]
        return [d for d in documents if d["schema"] == schema and all(d.get(k) == v for k, v in keys.items())]

    def everywhere(self, schema: str) -> bool:
        """It came at both destinations."""
        return {m.topic.partition("/")[0] for m in list(self.messages) if m.document["schema"] == schema} == {
            "iiot",
            "other",
        }

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if message.payload:
            document = orjson.loads(message.payload)
            self.messages.append(Message(message.topic, document, message.retain, message.properties))


def numbers(*points: int, value: int = 1) -> Batch:
    now = SystemClock()
    return Batch.of(
        "valves", ValueType.INT64, list(points), [value] * len(points),
        received_time=now.time_ns(), monotonic=now.monotonic_ns(),
    )  # fmt: skip


def text(point: int, length: int) -> Batch:
    now = SystemClock()
    values = np.array(["x" * length], object)
    return Batch.of(
        "valves", ValueType.STRING, [point], values, received_time=now.time_ns(), monotonic=now.monotonic_ns()
    )


async def go_through_everything(everything: Everything, delivery: Delivery, adapter: Told, clock: Stepping) -> None:
    """Everything that a plant, a broker and a clock can do to a gateway which a receiver is told of."""

    async def came(what: Callable[[], Any], message: str) -> None:
        await eventually(what, PATIENT_S, message)

    sink: Sink = await adapter.sinks.get()
    sink.online()
    sink.describe({0: {0: "Closed", 1: "Open"}})
    await sink.offer([numbers(0, 1)])
    await came(lambda: all(everything.of(name) for name in ("readings/1", "columns/1")), "readings in both formats")
    sink.gap(Gap((0,), 10**9, 2 * 10**9, "overflow"))
    adapter.lose.set()
    sink = await adapter.sinks.get()
    outage = sink.outage()
    assert outage is not None
    await sink.offer([numbers(0, 1, value=0)])
    sink.filled(Filled(outage.id, outage.start or 0, clock.time_ns(), 2))
    await sink.offer([text(2, 20_000)])  # beyond what this broker takes
    await came(lambda: everything.everywhere("refusal/1"), "a reading that was set aside")
    await came(lambda: everything.everywhere("gap-filled/1"), "a gap that was filled")
    await came(lambda: all(everything.of(name) for name in ("image/1", "image-columns/1")), "images")
    delivery.broker.stop()
    await (await sink.offer([numbers(1, value=7)])).durable()
    delivery.broker.start()
    await came(
        lambda: everything.of("readings/1", lane="backlog") and everything.of("columns/1", lane="backlog"), "backlog"
    )
    await came(lambda: any("reason" not in each for each in everything.of("status/1", state="offline")), "the will")
    clock.ahead = DAY_NS
    await came(lambda: everything.everywhere("clock/1") and everything.of("account/1", period="day"), "another day")
    await came(
        lambda: everything.everywhere("health/1") and everything.of("confirm/1"), "health, and the centre's word"
    )


@pytest.fixture
async def sent(tmp_path: Path) -> list[Message]:
    """What came of one run, a copy of its log, and a run on that."""
    clock, adapter = Stepping(), Told()
    device = {"device": "valves", "adapter": "told", "points": [{"point": name} for name in ("a", "b", "text")]}
    broker = Mosquitto(persistence=True, options=["message_size_limit 10000"])
    with Delivery(tmp_path, broker) as delivery, Everything(broker.port) as everything:
        often = {"image": "1s", "account": "1s", "health": "1s"}
        destinations = [
            delivery.destination(confirm="centre", **often),
            delivery.destination(name="columns", format="columns", topic="other/{gateway}", **often),
        ]
        process = GatewayProcess(tmp_path, [device], destinations=destinations)
        async with running(process, adapter, clock):
            await go_through_everything(everything, delivery, adapter, clock)
        await eventually(lambda: everything.of("status/1", reason="stopped"), PATIENT_S, "an orderly stop")
        process.log.rename(tmp_path / "kept")  # so that no file of the copy gets an inode of the log
        await asyncio.to_thread(shutil.copytree, tmp_path / "kept", process.log)
        again = Told()
        async with running(process, again, clock):
            await eventually(lambda: everything.everywhere("stream/1"), PATIENT_S, "a stream that was closed")
        await eventually(lambda: everything.of("account/1", period="close"), PATIENT_S, "the account of a stop")
        # One at first, five with ever more messages one by one, one after the restart of the broker, one with the copy.
        assert broker.log_text.count(f" as {ENTERPRISE}-gw-1-centre (") <= 8, "what is refused is found soon"
        with delivery.report() as report:
            assert report.errors() == {}, report.error_samples()
        return list(everything.messages)


def channels(topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and channel of all addresses that fit a topic."""
    for name, channel in API["channels"].items():
        address = re.sub(
            r"\\\{(\w+)\\\}", lambda match: r".+" if match[1] == "topic" else r"[^/]+", re.escape(channel["address"])
        )
        if re.fullmatch(address, topic):
            yield name, channel


def described(message: Message) -> bool:
    """The message is one of its channel's, and its retain flag is that of the channel's operation."""
    for name, channel in channels(message.topic):
        names = {each["$ref"].rpartition("/")[2] for each in channel["messages"].values()}
        operation = next(each for each in API["operations"].values() if each["channel"]["$ref"].endswith(f"/{name}"))
        known = {API["components"]["messages"][each]["name"] for each in names}
        if message.document["schema"] in known and operation["bindings"]["mqtt"]["retain"] == message.retained:
            return True
    return False


async def test_everything_that_is_sent_is_as_it_is_described_and_nothing_is_described_that_is_not_sent(
    sent: list[Message],
) -> None:
    for message in sent:
        check(message.document)
        assert described(message), message
        assert message.properties.ContentType == "application/json"
        assert ("schema", message.document["schema"]) in message.properties.UserProperty
    kinds = {message.document["schema"] for message in sent}
    assert kinds == {each["name"] for each in API["components"]["messages"].values()} - NOT_SENT
    for topic, format in (("iiot/v1/", "json"), ("other/", "columns")):
        mine = {message.document["schema"] for message in sent if message.topic.startswith(topic)}
        other = next(names for name, names in FORMATS.items() if name != format)
        assert kinds - mine == other | (set() if format == "json" else {"confirm/1"}), format
    assert {m.document["period"] for m in sent if m.document["schema"] == "account/1"} == {"hour", "day", "close"}
    gaps = [m.document for m in sent if m.document["schema"] == "gap/1"]
    assert {"overflow", "device-down"} <= {gap["reason"] for gap in gaps}
    assert any(gap["to"] is None for gap in gaps)


def test_the_schemas_would_notice() -> None:
    """A check that lets everything pass proves nothing."""
    with pytest.raises(jsonschema.ValidationError):
        check({"schema": "status/1", "enterprise": "E", "gateway": "g", "state": "perhaps"})
    message = Message("iiot/v1/E/g/status", {"schema": "health/1"}, False, None)
    assert not described(message)
    assert not described(message._replace(document={"schema": "status/1"}))
    assert described(message._replace(document={"schema": "status/1"}, retained=True))
