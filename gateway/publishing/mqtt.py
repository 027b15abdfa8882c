"""One life of a connection to an MQTT broker, around paho-mqtt.

The client object is discarded at the first disconnect: paho would resend on its own, and the log is the only owner of
re-sends. paho's network thread hands acknowledgements over in batches, with one hop to the event loop under way at
most.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.publishing import route
from gateway.publishing.client import Acknowledgement, Client
from gateway.publishing.config import Broker, DestinationConfig, HmacConfig, TlsConfig
from gateway.publishing.errors import BrokerError, BrokerRefused
from gateway.publishing.login import Login
from gateway.publishing.tls import TlsContext, expired, tls_context, translate

CONNECT_S = 10.0
"""for the TCP connection, the proxy's answer, the TLS handshake, and again for the broker's answer"""
CLOSE_S = 0.5
LARGEST_PACKET = 268_435_455  # MQTT 5, 1.5.5: largest remaining length
DEFAULT_RECEIVE_MAXIMUM = 65_535  # MQTT 5, 3.2.2.3.3
QOS = 1
_DISCONNECT_WITH_WILL = 0x04  # MQTT 5, 3.14.2.1

# MQTT 5, 3.2.2.2; paho translates the five codes of 3.1.1 into these.
_CONNACK_ADVICE = {
    0x84: "the broker does not speak this version of MQTT: set `mqtt: 3.1.1`",
    0x85: "the broker does not accept the client id: set `client_id`",
    0x86: "wrong user name or password: check `user`",
    0x87: "the login is not authorised to connect: check `user` and the broker's access rules",
    0x88: "the broker is not available now",
    0x89: "the broker is busy",
    0x8A: "the broker has banned this client: ask its operator",
    0x8C: "the broker wants another way of authentication: ask its operator",
    0x95: "the broker finds the connect packet too large",
    0x97: "a quota of the broker is exceeded: ask its operator",
    0x9A: "the broker keeps no retained messages: set `retain: false`, or ask its operator",
    0x9B: "the broker does not offer QoS 1, which delivery needs: use another broker",
    0x9F: "too many connections in a short time",
}
_LOGIN_REFUSED = {0x86, 0x87}
_TEMPORARY = {0x88, 0x89, 0x9F}
_UNSPECIFIED = 0x80
_TAKEN_OVER = 0x8E
MOST_HEARD = 1_000
"""messages of others that may wait for the event loop; what comes beyond is thrown away"""
HEARD_BYTES = 128_000
"""the largest packet that the broker may send us (MQTT 5, 3.1.2.11.4)"""


class Will(NamedTuple):
    """What the broker publishes, retained, when the connection breaks."""

    topic: str
    payload: bytes
    schema: str = "status/1"


class Limits(NamedTuple):
    """What the broker allows (MQTT 5, 3.2.2.3); with 3.1.1 it does not say."""

    receive_maximum: int = DEFAULT_RECEIVE_MAXIMUM
    packet_bytes: int = LARGEST_PACKET
    retain: bool = True


class Heard(NamedTuple):
    """What somebody else published on a topic that we subscribe to."""

    payload: bytes
    correlation: bytes
    """correlation data (MQTT 5, 3.3.2.3.6); empty when there is none"""


class Listen(NamedTuple):
    """What to subscribe to, and whom to tell."""

    topic: str
    heard: Callable[[list[Heard]], None]
    """gets messages in batches, on the event loop"""


class Ask(NamedTuple):
    """Where an answer to a message is wanted (MQTT 5, 3.3.2.3.5), and what it shall bring along to be recognised."""

    topic: str
    correlation: bytes


def publish_properties(version: int | str, schema: str, encoding: str, ask: Ask | None = None) -> bytes:
    """Properties of a message as they go over the wire (MQTT 5, 3.3.2.3); empty for 3.1.1. May serve many messages."""
    if version != 5:
        return b""
    properties = _properties(PacketTypes.PUBLISH, schema, encoding)
    if ask is not None:
        properties.ResponseTopic = ask.topic
        properties.CorrelationData = ask.correlation
    packed: bytes = properties.pack()
    return packed


def _properties(packet: int, schema: str, encoding: str) -> Any:
    """Of a message or, MQTT 5, 3.1.3.2, of a will."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = int(encoding == "none")  # 1: the payload is UTF-8
    pairs = [("schema", schema)]
    if encoding != "none":
        pairs.append(("content-encoding", encoding))
    properties.UserProperty = pairs
    return properties


class Connection:
    """`async with Connection(...)`: connected inside. Raises BrokerError or BrokerRefused on entering.

    `acknowledged` gets PUBACKs in batches, `closed` once why the connection broke; both are called on the event
    loop and never after leaving, as is what `listen` names. A broker that refuses the subscription refuses us.
    """

    def __init__(
        self,
        config: DestinationConfig,
        broker: Broker,
        login: Login,
        will: Will,
        acknowledged: Callable[[list[Acknowledgement]], None],
        closed: Callable[[BrokerError], None],
        listen: Listen | None = None,
    ) -> None:
        """`listen`: with MQTT 5 alone."""
        self._config = config
        self._broker = broker
        self._where = route.place(config, broker)
        self._login = login
        self._will = will
        self._acknowledged = acknowledged
        self._closed = closed
        self._listen = listen
        self._subscribed: asyncio.Future[BrokerError | None] | None = None
        self._inbox: deque[Acknowledgement] = deque()
        self._heard: deque[Heard] = deque()
        self._tls: TlsContext | None = None
        self._hop = threading.Lock()
        self._hopping = False
        self._left = False
        self._over = asyncio.Event()
        self.limits = Limits()
        self.orderly = False
        """set it before leaving when the broker shall not publish the will"""

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[Limits | BrokerError] = self._loop.create_future()
        self._client = self._build()
        async with contextlib.AsyncExitStack() as entering:
            entering.push_async_callback(self._leave)
            self.limits = await self._connect()
            if self._listen is not None:
                await self._subscribe(self._listen.topic)
            entering.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    def publish(self, topic: str, payload: bytes, retain: bool, properties: bytes) -> int:
        """Hand a QoS 1 message over; returns the id its acknowledgement will have. Raises BrokerError when cut."""
        if self._client.socket() is None:
            raise BrokerError(f"{self._where}: connection lost")
        return self._client.send(topic.encode(), payload, retain and self.limits.retain, properties)

    async def _connect(self) -> Limits:
        """What the broker allows. Raises BrokerError, BrokerRefused."""
        try:
            await self._open()
            self._client.loop_start()
            async with asyncio.timeout(CONNECT_S):
                answer = await self._answer
        except TimeoutError:
            raise BrokerError(f"{self._where}: no answer to the connect packet; is this an MQTT broker?") from None
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    async def _subscribe(self, topic: str) -> None:
        self._subscribed = self._loop.create_future()
        self._client.subscribe(topic, QOS)
        try:
            async with asyncio.timeout(CONNECT_S):
                error = await self._subscribed
        except TimeoutError:
            raise BrokerError(f"{self._where}: no answer to the subscription to {topic}") from None
        if error is not None:
            raise error

    def _build(self) -> Client:
        config = self._config
        version = paho.MQTTv5 if config.mqtt == 5 else paho.MQTTv311
        client = Client(
            CallbackAPIVersion.VERSION2,
            self._login.client_id,
            clean_session=None if version == paho.MQTTv5 else True,
            protocol=version,
            transport="tcp" if self._broker.path is None else "websockets",
            reconnect_on_failure=False,
        )
        client.taken = self._taken
        client.reach = partial(route.connect, config, self._broker, CONNECT_S)
        client.connect_timeout = CONNECT_S
        if config.retain:
            properties = _properties(PacketTypes.WILLMESSAGE, self._will.schema, "none") if config.mqtt == 5 else None
            client.will_set(self._will.topic, self._will.payload, QOS, retain=True, properties=properties)
        if self._login.user is not None:
            client.username_pw_set(self._login.user, self._login.password)
        if self._broker.path is not None:
            client.ws_set_options(self._broker.path)
        if self._broker.secure:
            self._tls = tls_context(config.tls or TlsConfig())
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    async def _open(self) -> None:
        """Connect in a thread of its own: name look-up and TCP cannot be interrupted, nobody shall wait for them."""
        done: asyncio.Future[BrokerError | None] = self._loop.create_future()

        def work() -> None:
            error: BrokerError | None = None
            try:
                self._client.connect(
                    self._broker.host,
                    self._broker.port,
                    round(self._config.keepalive),
                    clean_start=True if self._config.mqtt == 5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
                    properties=None if self._listen is None else _connect_properties(),
                )
            except (OSError, ValueError, BrokerError) as problem:
                error = problem if isinstance(problem, BrokerError) else self._translate(problem)
                for opened in (self._tls, self._client.opened):
                    if opened is not None:
                        opened.close()
            if self._left:
                _shut(self._client)
            else:
                self._call(_resolve, done, error)

        threading.Thread(target=work, name=f"mqtt-connect-{self._where}", daemon=True).start()
        error = await done
        if error is not None:
            raise error

    def _translate(self, problem: Exception) -> BrokerError:
        return translate(self._where, self._broker, problem, self._config.tls, self._client.reach)

    async def _leave(self) -> None:
        if self._left:
            return
        if self.orderly:
            self._client.disconnect()
        elif self._config.mqtt == 5:
            self._client.disconnect(ReasonCode(PacketTypes.DISCONNECT, identifier=_DISCONNECT_WITH_WILL))
        if self.orderly or self._config.mqtt == 5:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._over.wait()
        self._left = True
        _shut(self._client)
        await asyncio.to_thread(self._client.loop_stop)
        self._client.close_pair()

    # -- called by paho's network thread --

    def _on_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        answer: Limits | BrokerError
        if reason.is_failure:
            kind = BrokerError if reason.value in _TEMPORARY else BrokerRefused
            advice = _CONNACK_ADVICE.get(reason.value, "ask the broker's operator")
            if (
                reason.value in _LOGIN_REFUSED
                and self._config.user
                and isinstance(self._config.user.password, HmacConfig)
            ):
                advice += ", and this box's clock, with which the password is signed"
            answer = kind(f"{self._where} refused the connection ({reason}): {advice}")
        else:
            answer = Limits(
                getattr(properties, "ReceiveMaximum", DEFAULT_RECEIVE_MAXIMUM),
                getattr(properties, "MaximumPacketSize", LARGEST_PACKET),
                self._config.retain and bool(getattr(properties, "RetainAvailable", 1)),
            )
        self._call(_resolve, self._answer, answer)

    def _on_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        advice = ": another client uses the same client id; set `client_id`" if reason.value == _TAKEN_OVER else ""
        cut = reason.value == _UNSPECIFIED and not flags.is_disconnect_packet_from_server
        why = "cut without a reason" if cut else str(reason)
        if cut:  # Mosquitto 2.0 says nothing to the one whose session is taken over
            advice = (
                "; if this repeats, see whether another client uses the same client id, or the broker forbids the "
                "topic or the size of what was sent"
            )
        self._call(self._ended, BrokerError(f"{self._where}: connection lost ({why}){advice}"))

    def _taken(self, acknowledgements: list[Acknowledgement]) -> None:
        self._inbox.extend(acknowledgements)
        self._wake()

    def _on_subscribe(
        self, client: paho.Client, userdata: Any, mid: int, reasons: list[ReasonCode], properties: Properties | None
    ) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        error = None
        if refused is not None and self._listen is not None:
            error = BrokerRefused(
                f"{self._where} refuses the subscription to {self._listen.topic} ({refused}): let the broker's access "
                "rules allow this client to read there, or set `confirm: broker`"
            )
        self._call(_resolve, self._subscribed, error)

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        if len(self._heard) < MOST_HEARD:
            correlation = getattr(message.properties, "CorrelationData", b"")
            self._heard.append(Heard(bytes(message.payload), bytes(correlation)))
            self._wake()

    def _wake(self) -> None:
        with self._hop:
            if self._hopping:
                return
            self._hopping = True
        self._call(self._drain)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._left:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                self._loop.call_soon_threadsafe(function, *arguments)

    # -- called on the event loop --

    def _drain(self) -> None:
        with self._hop:
            self._hopping = False
        batch = [self._inbox.popleft() for _ in range(len(self._inbox))]
        heard = [self._heard.popleft() for _ in range(len(self._heard))]
        if batch and not self._left:
            self._acknowledged(batch)
        if heard and not self._left and self._listen is not None:
            self._listen.heard(heard)

    def _ended(self, error: BrokerError) -> None:
        self._over.set()
        if not self._answer.done():
            # With TLS 1.3 a broker refuses our certificate after the handshake, by closing (RFC 8446, 4.4.2.4).
            stale = expired(self._config.tls) if self._broker.secure else None
            advice = stale or "if it speaks MQTT 3.1.1 only, set `mqtt: 3.1.1`"
            kind = BrokerError if stale is None else BrokerRefused
            self._answer.set_result(kind(f"{self._where} closed the connection during the login; {advice}"))
        elif not self._left:
            self._drain()
            _resolve(self._subscribed, error)
            self._closed(error)


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = HEARD_BYTES
    return properties


def _resolve(future: asyncio.Future[Any] | None, result: object) -> None:
    if future is not None and not future.done():
        future.set_result(result)


def _shut(client: paho.Client) -> None:
    """End the socket under paho, so that its thread ends even when the broker no longer answers."""
    link = client.socket()
    if link is None:
        return
    # Through a copy of the descriptor: paho's websockets are no sockets, and hide theirs.
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(link.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)
