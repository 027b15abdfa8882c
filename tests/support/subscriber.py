"""A receiver for tests: subscribes to everything and keeps each message, checked against its JSON Schema."""

from __future__ import annotations

import functools
import gzip
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import orjson
import zstandard
from paho.mqtt import client as paho

from tests.support.listener import PATIENCE_S, Listener

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def check(document: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError when a message is not what its schema says."""
    _validator(document["schema"]).validate(document)


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    schema = orjson.loads((SCHEMAS / f"{name.replace('/', '-')}.schema.json").read_bytes())
    return jsonschema.Draft202012Validator(schema)


class Received(NamedTuple):
    """One message."""

    topic: str
    document: dict[str, Any]
    retained: bool
    properties: dict[str, Any]


class Subscriber(Listener):
    """`with Subscriber(port) as centre: ... centre.messages`"""

    def __init__(
        self,
        port: int,
        topic: str = "#",
        user: str | None = None,
        password: str | None = None,
        *,
        version: int = paho.MQTTv5,
    ) -> None:
        super().__init__(port, topic, None if user is None else (user, password), version=version)
        self.messages: list[Received] = []
        self.errors: list[str] = []

    def resubscribed(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until subscribed again, after `forget`."""
        if not self._subscribed.wait(timeout_s):
            raise RuntimeError("the test's own subscriber did not come back")

    def forget(self) -> None:
        """Expect a new subscription, because the broker goes away now."""
        self._subscribed.clear()

    def of(self, schema: str) -> list[Received]:
        """Messages of a schema, in the order of arrival."""
        return [message for message in list(self.messages) if message.document.get("schema") == schema]

    def offsets(self, device: str = "boiler-1", stream: str = "S1") -> Counter[int]:
        """How often each offset of a series came."""
        seen: Counter[int] = Counter()
        for schema in ("readings/1", "columns/1"):
            for message in self.of(schema):
                document = message.document
                if (document["device"], document["stream"]) == (device, stream):
                    seen.update(range(document["n"], document["n"] + document["count"]))
        return seen

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        payload = message.payload
        if not payload:
            return
        if payload[:2] == b"\x1f\x8b":
            payload = gzip.decompress(payload)
        elif payload[:4] == b"\x28\xb5\x2f\xfd":
            payload = zstandard.ZstdDecompressor().decompress(payload)
        document = orjson.loads(payload)
        try:
            check(document)
        except jsonschema.ValidationError as error:
            self.errors.append(f"{message.topic}: {error.message}")
        properties = message.properties.json() if message.properties is not None else {}
        self.messages.append(Received(message.topic, document, message.retain, properties))
