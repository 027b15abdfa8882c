"""OPC UA connection protocol and secure channel without security, server side (Part 6, 6.7 and 7.1)."""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from asyncua import ua as asyncua_types
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary, uatcp_to_binary

POLICY: Final = b"http://opcfoundation.org/UA/SecurityPolicy#None"
ua: Any = asyncua_types
"""its annotations and its generated code do not agree"""
_OWN_BUFFER: Final = 1 << 20
_HEADER: Final = struct.Struct("<3scI")
_MESSAGE: Final = struct.Struct("<IIII")  # channel, token, sequence, request
_ASYMMETRIC: Final = struct.pack("<i", len(POLICY)) + POLICY + b"\xff\xff\xff\xff\xff\xff\xff\xff"


class Request(NamedTuple):
    """A whole service request."""

    id: int
    """the secure channel's request id, which the answer must carry"""
    type: int
    """number of its binary encoding's node id"""
    body: bytes


class ProtocolError(Exception):
    """The client sent something that this server does not speak."""


class Wire:
    """One connection's framing: bytes to requests, answers to bytes."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._parts: list[bytes] = []
        self._channel = 1
        self._token = 0
        self._sequence = 0
        self._chunk = 8192
        self.outgoing: list[bytes] = []
        """what to send before anything else: acknowledgements and channel responses"""
        self.closed = False

    def feed(self, data: bytes) -> list[Request]:
        """Requests that are complete now. Raises ProtocolError."""
        received = self._received
        received += data
        requests: list[Request] = []
        start = 0
        while len(received) - start >= 8:
            kind, final, size = _HEADER.unpack_from(received, start)
            if len(received) - start < size:
                break
            self._chunk_in(kind, final, bytes(received[start + 8 : start + size]), requests)
            start += size
        del received[:start]
        return requests

    def answer(self, request: int, body: bytes) -> list[bytes]:
        """The response's chunks, each no longer than the client takes; channel responses that wait come first."""
        room = self._chunk - 24
        out, self.outgoing = self.outgoing, []
        for start in range(0, len(body), room):
            part = body[start : start + room] if len(body) > room else body
            final = b"F" if start + room >= len(body) else b"C"
            self._sequence += 1
            out.append(_HEADER.pack(b"MSG", final, 24 + len(part)))
            out.append(_MESSAGE.pack(self._channel, self._token, self._sequence, request))
            out.append(part)
        return out

    def _chunk_in(self, kind: bytes, final: bytes, content: bytes, requests: list[Request]) -> None:
        if kind == b"MSG":
            self._parts.append(content[16:])
            if final == b"F":
                body = b"".join(self._parts)
                self._parts.clear()
                requests.append(Request(_MESSAGE.unpack_from(content)[3], type_number(body), body))
        elif kind == b"OPN":
            self._open(content)
        elif kind == b"HEL":
            self._hello(content)
        elif kind == b"CLO":
            self.closed = True
        else:
            raise ProtocolError(f"message type {kind!r}")

    def _hello(self, content: bytes) -> None:
        hello = struct_from_binary(ua.Hello, Buffer(content))
        self._chunk = min(hello.ReceiveBufferSize or _OWN_BUFFER, _OWN_BUFFER)
        acknowledge = ua.Acknowledge()
        # asyncua takes both fields over unchanged, so they have to suit it in either reading
        acknowledge.ReceiveBufferSize = acknowledge.SendBufferSize = self._chunk
        acknowledge.MaxMessageSize = acknowledge.MaxChunkCount = 0
        self.outgoing.append(uatcp_to_binary(ua.MessageType.Acknowledge, acknowledge))

    def _open(self, content: bytes) -> None:
        data = Buffer(content[4:])
        security = struct_from_binary(ua.AsymmetricAlgorithmHeader, data)
        if security.SecurityPolicyURI.encode() != POLICY:
            raise ProtocolError(f"security policy {security.SecurityPolicyURI}")
        sequence = struct_from_binary(ua.SequenceHeader, data)
        request = struct_from_binary(ua.OpenSecureChannelRequest, data)
        self._token += 1
        response = ua.OpenSecureChannelResponse()
        response.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        token = response.Parameters.SecurityToken
        token.ChannelId, token.TokenId = self._channel, self._token
        token.RevisedLifetime = request.Parameters.RequestedLifetime
        response.Parameters.ServerNonce = b""
        self._sequence += 1
        body = struct_to_binary(response)
        head = struct.pack("<I", self._channel) + _ASYMMETRIC + struct.pack("<II", self._sequence, sequence.RequestId)
        self.outgoing.append(_HEADER.pack(b"OPN", b"F", 8 + len(head) + len(body)) + head + body)


def type_number(body: bytes) -> int:
    """Number of the encoding's node id in namespace 0 (two-byte, four-byte or numeric form)."""
    if body[0] == 0:
        return body[1]
    if body[0] == 1:
        return int.from_bytes(body[2:4], "little")
    return int.from_bytes(body[3:7], "little")


def decode(type: Any, body: bytes) -> Any:
    """A whole request as asyncua's object."""
    return struct_from_binary(type, Buffer(body))


def encode(response: Any, handle: int) -> bytes:
    """A whole response from asyncua's object; `handle` is the request's."""
    response.ResponseHeader.RequestHandle = handle
    return bytes(struct_to_binary(response))
