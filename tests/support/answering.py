"""A centre that answers what a test tells it to, or says nothing; it stores nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson
from paho.mqtt import client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.listener import Listener


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


class AnsweringCentre(Listener):
    """`with AnsweringCentre(port, lambda asked: [asked.stored()]) as centre: ... centre.asked`"""

    def __init__(self, port: int, answers: Answers, user: tuple[str, str] | None = None) -> None:
        """`answers` may be replaced at any time; it is called on another thread."""
        super().__init__(port, "iiot/v1/#", user)
        self.answers = answers
        self.asked: list[Asked] = []

    def say(self, asked: Asked, what: dict[str, Any] | bytes, correlation: bytes | None = None) -> None:
        """Answer now."""
        properties: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = asked.correlation if correlation is None else correlation
        payload = what if isinstance(what, bytes) else orjson.dumps(what)
        self._client.publish(asked.topic, payload, qos=1, properties=properties)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        properties: Any = message.properties
        if not hasattr(properties, "ResponseTopic"):
            return
        asked = Asked(orjson.loads(message.payload), properties.ResponseTopic, properties.CorrelationData)
        self.asked.append(asked)
        for each in self.answers(asked):
            self.say(asked, each)
