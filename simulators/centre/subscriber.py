"""The centre's connection: subscribe, store, and acknowledge only what is committed.

with Centre("mqtt://127.0.0.1:1883", "iiot/v1/#", Path("centre.db")) as centre:
    centre.wait_ready()
    with centre.report() as report: ...
"""

from __future__ import annotations

import logging
import queue
import ssl
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.centre.confirm import confirmation
from simulators.centre.report import Report
from simulators.centre.schemas import DEFAULT_FOLDER, SchemaSet
from simulators.centre.store import Store, Taken

COMMIT_S = 0.1
"""longest time a message waits for its commit"""
QUIET_S = 0.01
"""commit at once when nothing came for so long: a broker with a small window waits for our acknowledgements"""
WINDOW = 1000
"""unacknowledged messages, as Receive Maximum"""
SESSION_S = 86_400

logger = logging.getLogger(__name__)


class Arrival(NamedTuple):
    """A message as it came, and on which connection: only that one may acknowledge it."""

    connection: int
    mid: int
    qos: int
    topic: str
    payload: bytes
    encoding: str | None
    retained: bool
    received_at: int
    response: str | None
    """where an answer is wanted"""
    correlation: bytes | None


class Centre:
    """One subscriber with its store; context manager. Two threads: paho's, and the one that writes."""

    def __init__(
        self,
        broker: str,
        topic: str,
        db: Path,
        *,
        schemas: Path = DEFAULT_FOLDER,
        client_id: str = "centre",
        mqtt311: bool = False,
        ca: Path | None = None,
        confirm: bool = True,
    ) -> None:
        """`broker`: mqtt(s)://[user:password@]host[:port]. The session outlives the connection: nothing is missed.

        `confirm`: answer messages that ask for it (MQTT 5 response topic), once what they bring is stored.

        Raises ValueError for another kind of URL, FileNotFoundError where there are no schemas.
        """
        url = urlsplit(broker)
        if url.scheme not in ("mqtt", "mqtts") or not url.hostname:
            raise ValueError(f"expected mqtt://HOST:PORT or mqtts://HOST:PORT, found {broker!r}")
        self._address = (url.hostname, url.port or (8883 if url.scheme == "mqtts" else 1883))
        self._topic = topic
        self._db = Path(db)
        self._schemas = SchemaSet(schemas)
        self._mqtt311 = mqtt311
        self._confirm = confirm
        self._arrivals: queue.Queue[Arrival] = queue.Queue(maxsize=2 * WINDOW)
        self._connection = 0
        self._subscribed = threading.Event()
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._taken = 0
        self._client = self._make_client(client_id)
        if url.username is not None:
            self._client.username_pw_set(unquote(url.username), unquote(url.password or ""))
        if url.scheme == "mqtts":
            self._client.tls_set_context(ssl.create_default_context(cafile=str(ca) if ca else None))
        self._writer = threading.Thread(target=self._write_all, name="centre-writer", daemon=True)

    @property
    def taken(self) -> int:
        """Readings and events committed since the start, duplicates included."""
        return self._taken

    @property
    def ready(self) -> bool:
        """The subscription stands."""
        return self._subscribed.is_set()

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Return when the subscription stands. Raises TimeoutError."""
        if not self._subscribed.wait(timeout_s):
            raise TimeoutError(f"not subscribed to {self._topic} at {self._address[0]}:{self._address[1]}")

    def check(self) -> None:
        """Raise what ended the writer, if anything did."""
        if self._failure is not None:
            raise RuntimeError("the centre's writer failed") from self._failure

    def report(self) -> Report:
        """A report on what is committed so far; context manager."""
        return Report(self._db)

    def __enter__(self) -> Self:
        self._store = Store(self._db, self._schemas)
        self._writer.start()
        if not self._mqtt311:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            properties.ReceiveMaximum = WINDOW
            self._client.connect_async(*self._address, keepalive=30, clean_start=False, properties=properties)
        else:
            self._client.connect_async(*self._address, keepalive=30)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._writer.join()
        self._client.disconnect()
        self._client.loop_stop()
        self._client._reset_sockets(sockpair_only=True)  # paho leaves what woke its thread to the garbage collector
        self._store.close()
        self.check()

    def _make_client(self, client_id: str) -> mqtt.Client:
        version = MQTTProtocolVersion.MQTTv311 if self._mqtt311 else MQTTProtocolVersion.MQTTv5
        session = False if self._mqtt311 else None  # MQTT 5 says it at every connect
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=session, protocol=version, manual_ack=True
        )
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._connection += 1
        if reason.is_failure:
            logger.warning("the broker refuses the centre: %s", reason)
            return
        client.subscribe(self._topic, qos=1)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._subscribed.clear()
        if not self._closing.is_set():
            logger.warning("the centre lost its broker: %s", reason)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            logger.error("the broker refuses the subscription to %s: %s", self._topic, reasons)
        else:
            self._subscribed.set()

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        encoding = None
        for name, value in getattr(message.properties, "UserProperty", ()):
            if name == "content-encoding":
                encoding = value
        arrival = Arrival(
            self._connection,
            message.mid,
            message.qos,
            message.topic,
            bytes(message.payload),
            encoding,
            message.retain,
            time.time_ns(),
            getattr(message.properties, "ResponseTopic", None),
            getattr(message.properties, "CorrelationData", None),
        )
        while not self._closing.is_set():
            try:
                self._arrivals.put(arrival, timeout=0.1)  # the broker's window bounds what waits here
            except queue.Full:
                continue
            return

    def _write_all(self) -> None:
        try:
            while batch := self._gather():
                self._write(batch)
        except BaseException as error:
            self._failure = error
            raise

    def _gather(self) -> list[Arrival]:
        """The next batch; empty when the centre closes."""
        batch: list[Arrival] = []
        deadline = 0.0
        while True:
            now = time.monotonic()
            if batch and now >= deadline:
                return batch
            try:
                batch.append(self._arrivals.get(timeout=min(QUIET_S, deadline - now) if batch else COMMIT_S))
            except queue.Empty:
                if batch or self._closing.is_set():
                    return batch
            else:
                deadline = deadline if len(batch) > 1 else time.monotonic() + COMMIT_S

    def _write(self, batch: list[Arrival]) -> None:
        store = self._store
        store.begin()
        taken = [store.take(x.topic, x.payload, x.received_at, encoding=x.encoding, retained=x.retained) for x in batch]
        store.commit()
        self._taken += sum(one.stored for one in taken)
        for arrival, one in zip(batch, taken, strict=True):
            if arrival.qos and arrival.connection == self._connection:
                self._client.ack(arrival.mid, arrival.qos)
            if self._confirm and arrival.response is not None:
                self._answer(arrival, one)

    def _answer(self, arrival: Arrival, taken: Taken) -> None:
        """Only now: it is stored. What cannot be stored yet, or is nobody's, gets no answer and comes again."""
        answer = confirmation(taken)
        if answer is None or arrival.response is None:
            return
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        properties.UserProperty = [("schema", "confirm/1")]
        if arrival.correlation is not None:
            properties.CorrelationData = arrival.correlation
        self._client.publish(arrival.response, answer, qos=1, properties=properties)
