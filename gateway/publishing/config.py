"""The keys of one destination in gateway.yaml."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from datetime import UTC, datetime, timedelta
from string import Formatter
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from gateway.contract.config import DataClass, Domain, Name, StrictModel
from gateway.contract.quantities import Duration, Size, parse_size

DEFAULT_TOPIC = "iiot/v1/{enterprise}/{gateway}"
_SCHEMES = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_SECURE = ("mqtts", "wss")
_WEBSOCKETS = ("ws", "wss")
_WEBSOCKET_PATH = "/mqtt"
"""what brokers expect when nobody says otherwise"""
_TOPIC_KEYS = {"enterprise", "gateway"}
_MOMENT_KEYS = {"timestamp_ms", "timestamp", "hour", "expiry", "nonce"}
_LOGIN_KEYS = {"enterprise", "gateway", "destination", *_MOMENT_KEYS}
_SIGNED_KEYS = {*_LOGIN_KEYS, "client_id", "user", "host"}
DEFAULT_VALID_S = 86_400.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_EXAMPLE = "2026-11-20T08:00:00+08:00"


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(f"expected mqtt://host:port, mqtts://, ws:// or wss://, found {text!r}")
    if parts.username or parts.password:
        raise ValueError("name and password do not belong into the url: use `user: {name: ..., password: ...}`")
    if (parts.path not in {"", "/"} and parts.scheme not in _WEBSOCKETS) or parts.query:
        raise ValueError(f"expected nothing after host and port, found {text!r}; the topic has a key of its own")
    _ = parts.port  # raises ValueError when it is no port
    return text


def _check_keys(text: str, known: set[str], what: str) -> None:
    try:
        fields = [field[1:] for field in Formatter().parse(text) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"braces in {what} do not match: {text!r}") from error
    if decorated := [key for key, form, conversion in fields if form or conversion]:
        raise ValueError(f"expected {{{decorated[0]}}} in {what} without : and !, found {text!r}")
    keys = {str(key) for key, _, _ in fields}
    if unknown := keys - known:
        listed = ", ".join(f"{{{key}}}" for key in sorted(known))
        raise ValueError(f"unknown {{{min(unknown)}}} in {what}; known are {listed}")


def _check_topic(text: str) -> str:
    _check_keys(text, _TOPIC_KEYS, "the topic")
    if not text or any(mark in text for mark in "+#\0 ") or "$" in text[1:] or text.endswith("/"):
        raise ValueError(f"expected a topic without + # $, blanks and a slash at its end, found {text!r}")
    return text


def _check_login(text: str) -> str:
    _check_keys(text, _LOGIN_KEYS, "the text")
    return text


def _check_signed(text: str) -> str:
    _check_keys(text, _SIGNED_KEYS, "the text")
    return text


def _check_message(text: str) -> str:
    _check_keys(text, {*_SIGNED_KEYS, "secret"}, "the message")
    return text


def _check_password(text: str) -> str:
    _check_keys(text, {*_SIGNED_KEYS, "hmac"}, "the password")
    return text


def _check_proxy(text: str) -> str:
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise ValueError("name and password do not belong into the url: use `user: {name: ..., password: ...}`")
    if parts.scheme != "http" or not parts.hostname or not parts.port or parts.path not in {"", "/"} or parts.query:
        raise ValueError(f"expected http://host:port, found {text!r}")
    return text


def _check_source(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"expected an address of this box such as 192.168.1.5, found {text!r}") from error
    return text


def _check_confirm(choice: Any, info: ValidationInfo) -> Any:
    if choice == "centre" and info.data.get("mqtt") == "3.1.1":
        raise ValueError("expected broker: MQTT 3.1.1 has no way for a centre to answer; use `mqtt: 5`, found centre")
    return choice


def _parse_rate(text: Any) -> int:
    if not isinstance(text, str) or not text.endswith("/s"):
        raise ValueError(f"expected a rate such as 100KB/s or 1MB/s, found {text!r}")
    rate = parse_size(text.removesuffix("/s"))
    if rate < 1000:
        raise ValueError("must be at least 1KB/s")
    return rate


def _parse_start(text: Any) -> str | int:
    if isinstance(text, str) and text in ("oldest", "now"):
        return text
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise ValueError(f"expected oldest, now or a time with its zone such as {_TIME_EXAMPLE}, found {text!r}")
    return (time.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1000


Start = Annotated[
    Literal["oldest", "now"] | int,
    BeforeValidator(_parse_start),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^(oldest|now|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ].*)$",
            "examples": ["oldest", "now", _TIME_EXAMPLE],
        }
    ),
]
"""oldest, now, or a time in ns since the epoch."""

Rate = Annotated[
    int,
    BeforeValidator(_parse_rate),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*([KMG]i?B|B)/s$", "examples": ["1MB/s"]}),
]
"""Bytes per second, written as a size per second."""


class BatchConfig(StrictModel):
    """How many readings travel in one message."""

    max_wait: Annotated[Duration, Field(le=60)] = Field(
        default=1.0, description="longest time that a reading waits, from its arrival at the gateway"
    )
    max_bytes: Annotated[Size, Field(ge=1000, le=10_000_000)] = Field(
        default=256_000, description="largest payload before compression"
    )


class HmacConfig(StrictModel):
    """A password that is signed at each connection. `key`, `message` and `text` are templates."""

    hmac: Literal["md5", "sha1", "sha256"] = Field(description="the hash")
    secret: SecretStr = Field(description="what the platform gave for this device")
    secret_encoding: Literal["text", "base64"] = "text"
    message: Annotated[str, AfterValidator(_check_message)] = Field(
        description="what is signed; may hold {timestamp_ms}, {timestamp}, {hour}, {expiry}, {nonce}, {client_id}, "
        "{user}, {host}, {secret}, {enterprise}, {gateway} and {destination}"
    )
    key: Annotated[str, AfterValidator(_check_signed)] | None = Field(
        default=None, description="what it is signed with; absent = the secret"
    )
    encoding: Literal["hex", "base64", "base64-percent"] = Field(default="hex", description="how {hmac} is written")
    text: Annotated[str, AfterValidator(_check_password)] = Field(
        default="{hmac}", description="the password, around {hmac}"
    )
    valid: Annotated[Duration, Field(ge=60)] = Field(
        default=DEFAULT_VALID_S, description="how far {expiry} lies ahead of the connection"
    )

    @field_validator("secret_encoding")
    @classmethod
    def _decodes(cls, encoding: str, info: ValidationInfo) -> str:
        if encoding == "base64" and "secret" in info.data:
            try:
                base64.b64decode(info.data["secret"].get_secret_value(), validate=True)
            except binascii.Error as error:
                raise ValueError("the secret is no base64; correct it, or write `text`") from error
        return encoding


class UserConfig(StrictModel):
    """Login at the broker."""

    name: Annotated[str, AfterValidator(_check_login)] = Field(
        description="may hold {enterprise}, {gateway}, {destination}, and the times of a signed password"
    )
    password: SecretStr | HmacConfig | None = Field(default=None, description="a text, or how it is signed")


class ProxyUserConfig(StrictModel):
    """Login at a proxy."""

    name: Annotated[str, StringConstraints(pattern=r"^[^:]+$")]
    password: SecretStr


class ProxyConfig(StrictModel):
    """An HTTP proxy that connects us to the broker (CONNECT)."""

    url: Annotated[str, AfterValidator(_check_proxy)] = Field(description="http://host:port")
    user: ProxyUserConfig | None = None

    @property
    def host(self) -> str:
        """Name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port."""
        return urlsplit(self.url).port or 0

    @property
    def where(self) -> str:
        """host:port, for people."""
        return urlsplit(self.url).netloc


class TlsConfig(StrictModel):
    """Certificates, as paths of PEM files."""

    ca: str | None = Field(default=None, description="who signed the broker's certificate; absent = the system's list")
    certificate: str | None = Field(default=None, description="our certificate, where the broker wants one")
    key: str | None = None
    insecure: bool = Field(default=False, description="do not check the broker's name; for tests")


class Broker(NamedTuple):
    """Where one broker listens."""

    host: str
    port: int
    secure: bool
    """TLS"""
    path: str | None
    """of the websocket; None = MQTT directly over TCP"""

    @property
    def where(self) -> str:
        """host:port, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def of(cls, url: str) -> Broker:
        """From a url that was checked; ports not given are 1883, 8883, 80 and 443."""
        parts = urlsplit(url)
        path = (parts.path if parts.path not in {"", "/"} else _WEBSOCKET_PATH) if parts.scheme in _WEBSOCKETS else None
        return cls(parts.hostname or "", parts.port or _SCHEMES[parts.scheme], parts.scheme in _SECURE, path)


Url = Annotated[str, AfterValidator(_check_url)]


class DestinationConfig(StrictModel):
    """Where readings are delivered to, over MQTT with QoS 1: one broker, or one of several that are the same to it."""

    name: Name
    url: Url = Field(description="mqtt://host:port or mqtts://host:port; ws:// and wss:// for MQTT over websockets")
    alternatives: tuple[Url, ...] = Field(
        default=(), max_length=8, description="further brokers, tried in this order when `url` cannot be reached"
    )
    topic: Annotated[str, AfterValidator(_check_topic)] = DEFAULT_TOPIC
    format: Literal["json", "columns"] = "json"
    compression: Literal["none", "gzip", "zstd"] = "none"
    batch: BatchConfig = BatchConfig()
    bandwidth: Rate | None = Field(default=None, description="cap on payload bytes, live and backlog together")
    catch_up: Literal["live-first", "oldest-first"] = Field(
        default="live-first", description="after an outage: live readings at once beside the backlog, or all in order"
    )
    max_grade: Literal[1, 2, 3] = Field(description="highest data grade that may leave to this destination")
    classes: tuple[DataClass, ...] | None = Field(default=None, min_length=1, description="absent = all")
    domains: tuple[Domain, ...] | None = Field(default=None, min_length=1, description="absent = all")
    mqtt: Literal[5, "3.1.1"] = 5
    max_packet: Annotated[Size, Field(ge=1000)] | None = Field(
        default=None, description="largest packet that the broker takes; with MQTT 5 it says so itself"
    )
    client_id: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$"), AfterValidator(_check_login)] | None = (
        Field(
            default=None,
            description="may hold {enterprise}, {gateway}, {destination}, and the times of a signed password",
        )
    )
    user: UserConfig | None = None
    tls: TlsConfig | None = None
    proxy: ProxyConfig | None = None
    interface: Annotated[str, StringConstraints(pattern=r"^[^\s/:]{1,15}$")] | None = Field(
        default=None, description="network interface by which the connection leaves this box, such as eth1 or wwan0"
    )
    source: Annotated[str, AfterValidator(_check_source)] | None = Field(
        default=None, description="address of this box from which the connection is made"
    )
    retain: bool = Field(
        default=True, description="false = for platforms that take no retained messages: no will is left either"
    )
    window: Annotated[int, Field(ge=1, le=1000)] = Field(default=100, description="messages without acknowledgement")
    keepalive: Annotated[Duration, Field(ge=5, le=3600)] = 30.0
    start: Start = Field(
        default="oldest",
        alias="from",
        description="where a new destination begins: oldest (all that the log holds), now, or a time with its zone",
    )
    account: Annotated[Duration, Field(ge=1)] = Field(default=3600.0, description="between two loss accounts")
    health: Annotated[Duration, Field(ge=1)] = 60.0
    image: Annotated[Duration, Field(ge=1, le=86_400)] | None = Field(
        default=None, description="between two images of a device: the last values of all its points; absent = none"
    )
    no_subscribers: Literal["hold", "deliver"] = Field(
        default="hold", description="what to do when the broker says that nobody subscribes"
    )
    confirm: Annotated[Literal["broker", "centre"], BeforeValidator(_check_confirm)] = Field(
        default="broker", description="who says that a reading is delivered: the broker, or the centre that stored it"
    )
    confirm_timeout: Annotated[Duration, Field(ge=0.1, le=3600)] = Field(
        default=30.0, description="without the centre's answer for so long a message is sent again"
    )

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """`url` and `alternatives`, in order."""
        return tuple(Broker.of(url) for url in dict.fromkeys((self.url, *self.alternatives)))
