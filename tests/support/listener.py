"""A client of paho's that listens to topics of a broker on this machine; what it does with messages is for the class
that is made of it.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

PATIENCE_S = 60.0
"""on a machine with other work to do; no test measures it"""


def leave(client: paho.Client) -> None:
    """Disconnect, end the thread, and close what woke it: the garbage collector would warn of it, now and then."""
    client.disconnect()
    client.loop_stop()
    client._reset_sockets(sockpair_only=True)


class Listener:
    """`with ... as listener:`; subscribed inside, and again after each time that the broker was away."""

    def __init__(
        self, port: int, topic: str, user: tuple[str, str | None] | None = None, *, version: int = paho.MQTTv5
    ) -> None:
        self._port = port
        self._topic = topic
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        if user is not None:
            self._client.username_pw_set(*user)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic, qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        if not self._subscribed.wait(PATIENCE_S):
            raise RuntimeError(f"the test's own {type(self).__name__} could not subscribe")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self._client)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        """Called on paho's thread."""
        raise NotImplementedError
