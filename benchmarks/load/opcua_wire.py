"""OPC UA connection protocol and secure channel, server side (Part 6, 6.7 and 7.1): without security, or with
Basic256Sha256 / SignAndEncrypt where the server has an `Identity`.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from asyncua import ua as asyncua_types
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary, uatcp_to_binary

from benchmarks.load import opcua_security
from benchmarks.load.opcua_security import Identity, SecurityError, Symmetric

POLICY: Final = "http://opcfoundation.org/UA/SecurityPolicy#None"
ua: Any = asyncua_types
"""its annotations and its generated code do not agree"""
_OWN_BUFFER: Final = 1 << 20
_HEADER: Final = struct.Struct("<3scI")
_MESSAGE: Final = struct.Struct("<IIII")  # channel, token, sequence, request
_PAIR: Final = struct.Struct("<II")
_ASYMMETRIC: Final = struct.pack("<i", len(POLICY)) + POLICY.encode() + b"\xff\xff\xff\xff\xff\xff\xff\xff"


class Request(NamedTuple):
    """A whole service request."""

    id: int
    """the secure channel's request id, which the answer must carry"""
    type: int
    """number of its binary encoding's node id"""
    body: bytes


class ProtocolError(Exception):
    """The client sent something that this server does not speak, or is not trusted."""


class Wire:
    """One connection's framing: bytes to requests, answers to bytes."""

    def __init__(self, identity: Identity | None = None) -> None:
        """`identity`: None = without security alone."""
        self._identity = identity
        self._tokens: dict[int, Symmetric] = {}
        """what secures messages by token, in a secured channel: of the newest two"""
        self._received = bytearray()
        self._parts: list[bytes] = []
        self._channel = 1
        self._token = 0
        """the newest that the client has used: the other one secures our answers until then (Part 4, 5.5.2.1)"""
        self._newest = 0
        self._sequence = 0
        self._chunk = 8192
        self.outgoing: list[bytes] = []
        """what to send before anything else: acknowledgements and channel responses"""
        self.closed = False

    @property
    def secured(self) -> bool:
        """Whether the channel is signed and encrypted."""
        return bool(self._tokens)

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
            try:
                self._chunk_in(kind, final, bytes(received[start : start + size]), requests)
            except SecurityError as error:
                raise ProtocolError(str(error)) from error
            start += size
        del received[:start]
        return requests

    def answer(self, request: int, body: bytes) -> list[bytes]:
        """The response's chunks, each no longer than the client takes; channel responses that wait come first."""
        symmetric = self._tokens.get(self._token)
        room = self._chunk - 24 if symmetric is None else symmetric.room(self._chunk)
        out, self.outgoing = self.outgoing, []
        for start in range(0, len(body), room):
            part = body[start : start + room] if len(body) > room else body
            final = b"F" if start + room >= len(body) else b"C"
            self._sequence += 1
            if symmetric is not None:
                token = _PAIR.pack(self._channel, self._token)
                out += symmetric.secure(b"MSG" + final, token, _PAIR.pack(self._sequence, request), part)
                continue
            out.append(_HEADER.pack(b"MSG", final, 24 + len(part)))
            out.append(_MESSAGE.pack(self._channel, self._token, self._sequence, request))
            out.append(part)
        return out

    def _chunk_in(self, kind: bytes, final: bytes, chunk: bytes, requests: list[Request]) -> None:
        if kind == b"MSG":
            plain = self._receive(chunk)
            self._parts.append(plain[8:])
            if final == b"F":
                body = b"".join(self._parts)
                self._parts.clear()
                requests.append(Request(_PAIR.unpack_from(plain)[1], type_number(body), body))
        elif kind == b"OPN":
            self._open(chunk)
        elif kind == b"HEL":
            self._hello(chunk[8:])
        elif kind == b"CLO":
            self._receive(chunk)
            self.closed = True
        else:
            raise ProtocolError(f"message type {kind!r}")

    def _receive(self, chunk: bytes) -> bytes:
        """Sequence header and body of a message."""
        token = int.from_bytes(chunk[12:16], "little")
        if self._tokens:
            if token not in self._tokens:
                raise SecurityError(f"there is no security token {token}")
            self._token = max(self._token, token)
            return self._tokens[token].receive(chunk[:16], chunk[16:])
        self._token = self._newest
        return chunk[16:]

    def _hello(self, content: bytes) -> None:
        hello = struct_from_binary(ua.Hello, Buffer(content))
        self._chunk = min(hello.ReceiveBufferSize or _OWN_BUFFER, _OWN_BUFFER)
        acknowledge = ua.Acknowledge()
        # asyncua takes both fields over unchanged, so they have to suit it in either reading
        acknowledge.ReceiveBufferSize = acknowledge.SendBufferSize = self._chunk
        acknowledge.MaxMessageSize = acknowledge.MaxChunkCount = 0
        self.outgoing.append(uatcp_to_binary(ua.MessageType.Acknowledge, acknowledge))

    def _open(self, chunk: bytes) -> None:
        """Open or renew the channel (Part 4, 5.5.2)."""
        data = Buffer(chunk[12:])
        security = struct_from_binary(ua.AsymmetricAlgorithmHeader, data)
        secured = 4 + len(chunk[12:]) - len(data)
        identity = self._identity if security.SecurityPolicyURI == opcua_security.POLICY else None
        if identity is not None:
            data = Buffer(identity.receive_open(chunk[:8], chunk[8:], security.SenderCertificate, secured))
        elif security.SecurityPolicyURI != POLICY or self._tokens:
            raise ProtocolError(f"security policy {security.SecurityPolicyURI}")
        sequence = struct_from_binary(ua.SequenceHeader, data)
        request = struct_from_binary(ua.OpenSecureChannelRequest, data)
        wanted = ua.MessageSecurityMode.SignAndEncrypt if identity is not None else ua.MessageSecurityMode.None_
        if request.Parameters.SecurityMode != wanted:
            raise ProtocolError(f"security mode {request.Parameters.SecurityMode}")
        self._newest += 1
        response = ua.OpenSecureChannelResponse()
        response.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        token = response.Parameters.SecurityToken
        token.ChannelId, token.TokenId = self._channel, self._newest
        token.RevisedLifetime = request.Parameters.RequestedLifetime
        response.Parameters.ServerNonce = b"" if identity is None else opcua_security.new_nonce()
        self._sequence += 1
        plain = _PAIR.pack(self._sequence, sequence.RequestId) + struct_to_binary(response)
        channel = struct.pack("<I", self._channel)
        if identity is None:
            head = channel + _ASYMMETRIC
            self.outgoing.append(_HEADER.pack(b"OPN", b"F", 8 + len(head) + len(plain)) + head + plain)
            return
        self.outgoing.append(identity.secure_open(b"OPNF", channel, plain))
        keys = Symmetric(request.Parameters.ClientNonce, response.Parameters.ServerNonce)
        self._tokens = {**dict(list(self._tokens.items())[-1:]), self._newest: keys}


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
