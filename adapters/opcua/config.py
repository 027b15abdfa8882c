"""Keys of an OPC UA device file."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
import sys
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from adapters.opcua.profiles import DEFAULT, PROFILES
from gateway.contract import DeviceConfig, Duration, PointConfig
from gateway.contract.config import StrictModel
from gateway.contract.quantities import DeadbandRule, parse_duration

POLICIES = ("Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
"""Policies that are not deprecated; servers write some of them with underscores, which are accepted too."""
DEPRECATED_POLICIES = ("Basic128Rsa15", "Basic256")
"""Policies that rest on SHA-1 (Part 7, 6.6)."""
DEFAULT_PKI = "/var/lib/edge-gateway/pki"
"""Where certificates live: beside the log, as it lies by default."""

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")

_NODE = re.compile(r"(?:ns=(?P<ns>\d{1,5});|nsu=(?P<uri>[^;]+);)?(?P<kind>[isgb])=(?P<id>.+)", re.DOTALL)


_SHIFT = r"^-?[0-9]+(\.[0-9]+)?\s*(ms|s|m|min|h|d)$"


def _check_url(url: str) -> str:
    expected = "expected opc.tcp://host:port or opc.tcp://host:port/path"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{expected}, found {url!r}: {error}") from None
    if parts.scheme != "opc.tcp" or not parts.hostname or not port:
        raise ValueError(f"{expected}, found {url!r}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("put the login under connection.user, not into the url: urls are logged")
    return url


def _check_security(text: str) -> str:
    if text == "None":
        return text
    policy, _, mode = text.partition("/")
    policy = policy.replace("_", "")
    if policy not in POLICIES + DEPRECATED_POLICIES or mode not in ("Sign", "SignAndEncrypt"):
        raise ValueError(
            f"expected None or <policy>/<mode> with a policy of {', '.join(POLICIES)} and the mode Sign or "
            f"SignAndEncrypt, found {text!r}"
        )
    return f"{policy}/{mode}"


def parse_fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 lower-case digits, from what people copy: "sha256:", colons, blanks, capitals.

    Raises ValueError.
    """
    digits = re.sub(r"[:\s]", "", text.strip().lower().removeprefix("sha256:"))
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError(f"expected a SHA-256 fingerprint (sha256: and 64 hexadecimal digits), found {text!r}")
    return digits


class NodeAddress:
    """A node id as the config writes it (Part 6, 5.3.1.10); a namespace URI is mapped by the session."""

    __slots__ = ("identifier", "kind", "namespace", "uri")

    def __init__(self, text: str) -> None:
        """Raises ValueError when `text` is not a node id."""
        match = _NODE.fullmatch(text)
        if match is None:
            raise ValueError(f'expected a node id such as "ns=2;s=Tank.Level" or "nsu=http://...;i=5", found {text!r}')
        self.kind: str = match["kind"]
        self.uri: str | None = match["uri"] and sys.intern(match["uri"])  # ten thousand points have one or two
        self.namespace = int(match["ns"] or 0)
        if self.namespace > 0xFFFF:
            raise ValueError(f"a namespace index is at most 65535, found {self.namespace}")
        self.identifier = _identifier(self.kind, match["id"])


def _identifier(kind: str, text: str) -> int | str | bytes | uuid.UUID:
    if kind == "i":
        if not (text.isascii() and text.isdigit()) or int(text) > 0xFFFFFFFF:
            raise ValueError(f"after i= expected a number up to 4294967295, found {text!r}")
        return int(text)
    if kind == "g":
        try:
            return uuid.UUID(text)
        except ValueError:
            raise ValueError(f"after g= expected a GUID, found {text!r}") from None
    if kind == "b":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError(f"after b= expected base64, found {text!r}") from None
    return text


def _check_node(text: str) -> str:
    NodeAddress(text)
    return text


def _signed_duration(text: Any) -> float:
    if isinstance(text, str) and text.strip().startswith("-"):
        return -parse_duration(text.strip()[1:])
    return parse_duration(text)


def _check_profile(name: str) -> str:
    if name not in PROFILES:
        near = difflib.get_close_matches(name, PROFILES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no server profile {name!r}{hint} (known: {', '.join(sorted(PROFILES))})")
    return name


class ClockShift(StrictModel):
    """A device clock that is set to local time, say: `shift: 8h` = its stamps are eight hours ahead of UTC."""

    shift: Annotated[float, BeforeValidator(_signed_duration), WithJsonSchema({"type": "string", "pattern": _SHIFT})]


def _parse_clock(value: Any) -> Any:
    """Accept `clock: "shift: 8h"` besides the mapping `clock: {shift: 8h}`."""
    if isinstance(value, str) and value.startswith("shift:"):
        return {"shift": value.removeprefix("shift:").strip()}
    return value


ClockRule = Annotated[
    Literal["trust", "server", "gateway"] | ClockShift,
    BeforeValidator(_parse_clock),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["trust", "server", "gateway"]},
                {"type": "string", "pattern": f"^shift:\\s*{_SHIFT.removeprefix('^')}"},
                ClockShift.model_json_schema(),
            ]
        }
    ),
]

PointType = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64",
    "string", "bytes",
]  # fmt: skip


class UserConfig(StrictModel):
    """Login by user name and password, or by a certificate."""

    name: str | None = Field(default=None, min_length=1)
    password: SecretStr | None = None
    certificate: str | None = Field(default=None, description="X.509 user certificate (DER or PEM) instead of a name")
    key: str | None = Field(default=None, description="private key of the user certificate (PEM or DER)")

    @model_validator(mode="after")
    def _one_way(self) -> UserConfig:
        by_name = self.name is not None and self.password is not None
        by_certificate = self.certificate is not None and self.key is not None
        given = sum(value is not None for value in (self.name, self.password, self.certificate, self.key))
        if given != 2 or by_name == by_certificate:
            raise ValueError("expected name and password, or certificate and key")
        return self


class ConnectionConfig(StrictModel):
    """How to reach the server, and how safely."""

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        description="opc.tcp://host:port[/path]; this host and port are used whatever the server calls itself"
    )
    alternatives: tuple[Annotated[str, AfterValidator(_check_url)], ...] = Field(
        default=(), description="urls of redundant servers, tried in this order when the url does not answer"
    )
    security: Annotated[str, AfterValidator(_check_security)] = Field(
        default="None", description="None, or policy/mode such as Basic256Sha256/SignAndEncrypt"
    )
    pki: str = Field(
        default=DEFAULT_PKI,
        description="folder of our certificate (own/) and of servers' certificates (trusted/, rejected/)",
    )
    certificate: str | None = Field(
        default=None,
        description="our certificate (DER or PEM) instead of that in pki/own; made on first use if missing",
    )
    key: str | None = Field(default=None, description="private key of our certificate (PEM); made on first use")
    trust: Annotated[str, AfterValidator(parse_fingerprint)] | None = Field(
        default=None,
        description='"sha256:..." = only this server certificate, whatever its names and dates say',
    )
    user: UserConfig | None = None
    allow_insecure_password: bool = Field(
        default=False, description="send the password although the channel is not encrypted"
    )
    allow_deprecated_security: bool = Field(
        default=False, description="allow Basic256 and Basic128Rsa15, for servers that know nothing better"
    )
    timeout: Duration = 5.0

    @model_validator(mode="after")
    def _secure(self) -> ConnectionConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("connection.certificate and connection.key belong together; give both or neither")
        if self.deprecated and not self.allow_deprecated_security:
            raise ValueError(
                f"security {self.security} rests on SHA-1 and is deprecated; use Basic256Sha256/SignAndEncrypt, or set "
                "connection.allow_deprecated_security: true where the server offers nothing better"
            )
        if (
            self.user
            and self.user.password
            and not self.security.endswith("/SignAndEncrypt")
            and not self.allow_insecure_password
        ):
            raise ValueError(
                f"the password would travel over a channel that is not encrypted (security: {self.security}); use "
                "security: Basic256Sha256/SignAndEncrypt, or set connection.allow_insecure_password: true"
            )
        return self

    @property
    def deprecated(self) -> bool:
        """Whether the policy is one that rests on SHA-1."""
        return self.security.partition("/")[0] in DEPRECATED_POLICIES


def _parse_poll(value: Any, parse: ValidatorFunctionWrapHandler) -> Any:
    try:
        return parse(value)
    except ValidationError:
        raise ValueError(f"expected a duration above 0 such as 500ms or 1m, or never, found {value!r}") from None


PollRule = Annotated[Duration | Literal["never"], WrapValidator(_parse_poll)]
Trigger = Literal["status", "value", "timestamp"]
"""What makes the server send a reading: its status changes; or its value; or even only its time (Part 4, 7.22.2)"""
Discard = Literal["oldest", "newest"]


class SubscribeConfig(StrictModel):
    """The subscription: how often the server samples, sends, and how long it keeps what we cannot take."""

    publishing: Duration = Field(default=0.5, description="how often the server sends what it has sampled")
    sampling: Duration = Field(default=1.0, description="how often the server looks at a point")
    queue: Duration = Field(default=30.0, description="the server keeps this much of each point while we are away")
    discard: Discard = Field(default="oldest", description="what a full queue loses")
    trigger: Trigger = Field(
        default="value", description="send when the status changes; the status or value; or either or the timestamp"
    )
    deadband: DeadbandRule | None = Field(
        default=None, description='smallest change that is sent, such as 0.5, or "1%" of the range; off: every change'
    )


class LoadConfig(StrictModel):
    """What the server is asked to bear, at most. What is left out is the profile's."""

    connections: Literal[1] = 1
    requests_per_s: float | None = Field(default=None, gt=0, description="requests of any kind, Publish included")
    items: int | None = Field(default=None, gt=0, description="monitored items; points beyond them are not read")
    min_sampling: Duration | None = Field(default=None, description="no point is sampled faster than this")
    ramp: Duration | None = Field(default=None, description="spread the making of monitored items over this time")


class OpcUaPointConfig(PointConfig):
    """One point on an OPC UA server."""

    node: Annotated[str, AfterValidator(_check_node)] = Field(
        description='node id: "ns=2;s=Name", better "nsu=http://vendor/ns;s=Name"; also i=, g=, b='
    )
    type: PointType | None = Field(default=None, description="expected type; left out, the server's own is taken")
    sampling: Duration | None = Field(default=None, description="this point's own sampling interval")
    publishing: Duration | None = Field(default=None, description="this point's own publishing interval")
    queue: Duration | None = Field(default=None, description="this point's own queue at the server")
    discard: Discard | None = Field(default=None, description="what this point's full queue loses")
    trigger: Trigger | None = Field(default=None, description="what makes the server send this point")
    deadband: DeadbandRule | None = Field(default=None, description="this point's own deadband, kept by the server")
    poll: PollRule | None = Field(
        default=None, description="read this point at this interval instead of subscribing to it; never = subscribe"
    )

    @property
    def recorded_deadband(self) -> None:
        """The server keeps the deadband: what it leaves out never travels."""
        return


class OpcUaDeviceConfig(DeviceConfig):
    """A device file with `adapter: opcua`."""

    # The input may hold a password, and errors are printed.
    model_config = ConfigDict(hide_input_in_errors=True)

    connection: ConnectionConfig
    profile: Annotated[str, AfterValidator(_check_profile), WithJsonSchema({"enum": sorted(PROFILES)})] = Field(
        default=DEFAULT, description="what is known of this make of server: its limits and its ways"
    )
    subscribe: SubscribeConfig = SubscribeConfig()
    poll: Duration | None = Field(
        default=None, description="read every point at this interval, for servers that handle subscriptions badly"
    )
    backfill: bool = Field(
        default=False, description="fill gaps from the server's history, where its owner allows that"
    )
    load: LoadConfig = LoadConfig()
    clock: ClockRule = "trust"
    points: tuple[OpcUaPointConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> OpcUaDeviceConfig:
        found: list[InitErrorDetails] = [
            {"type": PydanticCustomError("conflict", "{message}", {"message": message}), "loc": place, "input": None}
            for place, message in conflicts(self)
        ]
        if found:
            raise ValidationError.from_exception_data("device file", found)
        return self


Conflict = tuple[tuple[str | int, ...], str]
"""where in the device file, and what is wrong there"""
_NO_NUMBERS = frozenset({"bool", "string", "bytes"})
_OF_ITEMS = ("publishing", "sampling", "queue", "discard", "trigger", "deadband")
"""keys that say how a point is subscribed to"""


def conflicts(config: OpcUaDeviceConfig) -> Iterator[Conflict]:
    """Keys that contradict each other, so that one of them could not do what it says."""
    yield from _rate_conflicts(config)
    if config.backfill and config.clock == "gateway":
        yield (
            ("backfill",),
            "history has the server's times, and clock: gateway takes none of them; take one of them out",
        )
    yield from _trigger_conflicts(("subscribe",), config.subscribe)
    least = config.load.min_sampling
    if least is not None:
        if "sampling" in config.subscribe.model_fields_set and config.subscribe.sampling < least:
            yield _too_fast(("subscribe", "sampling"), config.subscribe.sampling, least)
        if config.poll is not None and config.poll < least:
            yield _too_fast(("poll",), config.poll, least)
    for i, point in enumerate(config.points):
        yield from _point_conflicts(("points", i), point, config)


def _rate_conflicts(config: OpcUaDeviceConfig) -> Iterator[Conflict]:
    budget = config.load.requests_per_s
    if budget is None:
        return
    subscribed = [point for point in config.points if polled_every(config, point) is None]
    intervals = {point.publishing or config.subscribe.publishing for point in subscribed}
    polls = {every for point in config.points if (every := polled_every(config, point)) is not None}
    needed = sum(1 / interval for interval in (*intervals, *polls))
    if needed > budget:
        yield (
            ("load", "requests_per_s"),
            f"{budget:g} requests a second are too few for the publishing and poll intervals of this file: one request "
            f"for each makes {needed:.3g} a second; raise it, or the intervals",
        )


def _trigger_conflicts(place: tuple[str | int, ...], keys: SubscribeConfig | OpcUaPointConfig) -> Iterator[Conflict]:
    # Part 4, 7.22.2: a deadband is about values alone, and takes the timestamp out of the trigger.
    if keys.deadband is not None and keys.trigger in ("status", "timestamp"):
        yield (
            (*place, "trigger"),
            f"trigger: {keys.trigger} and a deadband exclude each other; take one of them out",
        )


def _point_conflicts(
    place: tuple[str | int, ...], point: OpcUaPointConfig, config: OpcUaDeviceConfig
) -> Iterator[Conflict]:
    every, least = polled_every(config, point), config.load.min_sampling
    if every is not None:
        hint = (
            "take it out" if point.poll is not None else "take it out, or write poll: never to subscribe to the point"
        )
        for key in _OF_ITEMS:
            if getattr(point, key) is not None:
                yield (*place, key), f"{key} is of no use to a point that is polled; {hint}"
        if least is not None and point.poll is not None and every < least:
            yield _too_fast((*place, "poll"), every, least)
        return
    if least is not None and point.sampling is not None and point.sampling < least:
        yield _too_fast((*place, "sampling"), point.sampling, least)
    if point.deadband is not None and point.type in _NO_NUMBERS:
        yield (*place, "deadband"), f"a deadband needs a number, and type: {point.type} is none; take one of them out"
    yield from _trigger_conflicts(place, point)


def _too_fast(place: tuple[str | int, ...], seconds: float, least: float) -> Conflict:
    return place, f"{seconds:g} s is faster than load.min_sampling allows ({least:g} s); change one of them"


def polled_every(config: OpcUaDeviceConfig, point: OpcUaPointConfig) -> float | None:
    """How often a point is read, seconds; None = it is subscribed to."""
    if point.poll == "never":
        return None
    return config.poll if point.poll is None else point.poll
