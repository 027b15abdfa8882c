"""Node ids as the device file writes them, as the server of this session numbers them (Part 6, 5.3.1.10)."""

from __future__ import annotations

from typing import Final, Protocol

from asyncua import ua

from adapters.opcua.config import NodeAddress
from adapters.opcua.session import stack

_KINDS: Final = {
    "i": ua.NodeIdType.Numeric,
    "s": ua.NodeIdType.String,
    "g": ua.NodeIdType.Guid,
    "b": ua.NodeIdType.ByteString,
}


class Namespaces(Protocol):
    """What is needed of a session."""

    def namespace(self, uri: str) -> int | None:
        """The server's index of a namespace, None if it does not know it."""


def node_id(session: Namespaces, address: NodeAddress) -> ua.NodeId | None:
    """The node of a device file in this session; None where the server does not know its namespace."""
    namespace: int | None = address.namespace
    if address.uri is not None:
        namespace = session.namespace(address.uri)
    if namespace is None:
        return None
    return stack.node_id(address.identifier, namespace, _KINDS[address.kind])
