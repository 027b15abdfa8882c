"""What is doubtful in OPC UA device files although it is legal; told by `check`. Pure; loads no protocol library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from adapters.opcua.config import OpcUaDeviceConfig
from gateway.contract.plan import LoadPlan, Remark

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def load_plan(devices: Sequence[OpcUaDeviceConfig]) -> LoadPlan:
    """Remarks on all OPC UA devices; see `gateway.contract.plan.HasPlan`."""
    remarks = [
        remark
        for number, config in enumerate(devices)
        for remark in (*_security(number, config), *_same_nodes(number, config))
    ]
    return LoadPlan((), tuple(remarks))


def _security(number: int, config: OpcUaDeviceConfig) -> Iterator[Remark]:
    connection = config.connection
    host = urlsplit(connection.url).hostname or ""
    if host in _LOOPBACK or connection.security.partition("/")[0] != "None":
        return
    if connection.user and connection.user.password:
        message = f"the password travels unencrypted to {host}, and anybody on the way can read it"
        path: tuple[str, ...] = ("connection", "allow_insecure_password")
    else:
        message = f"with security None anybody on the way to {host} can read and change values"
        path = ("connection", "security")
    hint = (
        "write security: Basic256Sha256/SignAndEncrypt where the server offers it; "
        f"`edge-gateway browse {connection.url} --endpoints` shows that"
    )
    yield Remark(number, path, message, hint)


def _same_nodes(number: int, config: OpcUaDeviceConfig) -> Iterator[Remark]:
    first: dict[str, str] = {}
    for place, point in enumerate(config.points):
        other = first.setdefault(point.node, point.point)
        if other != point.point:
            message = f"the node is read by point {other} as well"
            yield Remark(number, ("points", place, "node"), message, "the server is asked for it twice; remove one")
