"""A centre that answers what a test tells it to, or says nothing; it stores nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Asked(NamedTuple):
    """A message that wants an answer."""

    document: dict[str, Any]
    topic: str
    """where the answer is wanted"""
    correlation: bytes

    def entry(self, **more: Any) -> dict[str, Any]:
        """Its offsets, as an answer names them."""
        keys = {key: self.document[key] for key in ("stream", "device", "n")}
        count = 1 if keys["device"] == "_events" else self.document["count"]
        return keys | {"count": count} | more

    def stored(self) -> dict[str, Any]:
        """The answer that all of it is stored."""
        return answer(stored=[self.entry()])


Answers = Callable[[Asked], Sequence[dict[str, Any] | bytes]]


def answer(enterprise: str = "91370200MA3C00000K", gateway: str = "gw-1", **parts: Any) -> dict[str, Any]:
    """A confirm/1 message."""
    return {"schema": "confirm/1", "enterprise": enterprise, "gateway": gateway, **parts}


class AnsweringCentre:
    """`with AnsweringCentre(port, lambda asked: [asked.stored()]) as centre: ... centre.asked`"""

    def __init__(self, port: int, answers: Answers, user: tuple[str, str] | None = None) -> None:
        """`answers` may be replaced at any time; it is called on another thread."""
        self.answers = answers
        self.asked: list[Asked] = []
        self._port = port
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        if user is not None:
            self._client.username_pw_set(*user)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("iiot/v1/#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message

    def say(self, asked: Asked, what: dict[str, Any] | bytes, correlation: bytes | None = None) -> None:
        """Answer now."""
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = asked.correlation if correlation is None else correlation
        payload = what if isinstance(what, bytes) else orjson.dumps(what)
        self._client.publish(asked.topic, payload, qos=1, properties=properties)

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._subscribed.wait(10):
            raise RuntimeError("the answering centre could not subscribe")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        properties: Any = message.properties
        if not hasattr(properties, "ResponseTopic"):
            return
        asked = Asked(orjson.loads(message.payload), properties.ResponseTopic, properties.CorrelationData)
        self.asked.append(asked)
        for each in self.answers(asked):
            self.say(asked, each)
