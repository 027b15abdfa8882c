"""Everything that reaches into asyncua's private names; `tests/unit/opcua/test_stack.py` fails when they move.

Why: asyncua decodes each PublishResponse value by value, keeps one PublishRequest outstanding and acknowledges as soon
as its callback returns. `UASocketProtocol._send_request` gives the undecoded answer as a future; the rest is ours. It
also encodes a request anew each time, node by node, and trusts the lengths that a server sends.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClientState, UASocketProtocol
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, struct_to_binary

from adapters.opcua.session import lengths

T = TypeVar("T")

# At INFO asyncua prints whole results, and a line for each call. Its client warns of every fault that we raise as an
# error anyway, and prints a traceback where a server refuses our certificate: both would fill the log at every attempt.
logging.getLogger("asyncua").setLevel(logging.WARNING)
logging.getLogger("asyncua.client").setLevel(logging.CRITICAL + 1)

lengths.check_lengths()

MOST_BYTES: Final = 32 * 1024 * 1024
"""of one message from a server; told in the Hello, and whoever sends more is cut off"""
_MOST_CHUNKS: Final = 16_384
_LEAST_BUFFER: Final = 8192
"""bytes of a chunk that everybody must bear (Part 6, 7.1.2.3)"""
_USUAL_BUFFER: Final = 65_536
_MOST_SENT: Final = "edge_gateway_most_sent"
"""the attribute of asyncua's protocol that keeps it"""


def node_id(identifier: Any, namespace: int = 0, kind: ua.NodeIdType = ua.NodeIdType.Numeric) -> ua.NodeId:
    """A node id from plain Python values; asyncua's annotations name types of its own that it does not ask for."""
    make: Any = ua.NodeId
    made: ua.NodeId = make(identifier, namespace, kind)
    return made


def protocol_of(client: Client) -> UASocketProtocol:
    """The client's open connection. Raises ConnectionError when there is none."""
    protocol = client.uaclient.protocol
    if protocol is None or protocol.transport is None:
        raise ConnectionError("the connection is closed")
    return protocol


async def connect(client: Client) -> None:
    """Open the client's socket. Raises TimeoutError, OSError.

    asyncua uses `asyncio.wait_for` there, which before Python 3.12 drops a cancellation that comes just as the
    connection is there: whoever stops the gateway would wait for the next timeout.
    """
    await client.connect_socket()
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    _bound(protocol_of(client))


def _bound(protocol: UASocketProtocol) -> None:
    """See to it that a chunk which says that it is larger than allowed ends the connection before it is gathered."""
    take = protocol.data_received

    def data_received(data: bytes) -> None:
        take(data)
        begun = protocol.receive_buffer or b""
        size = int.from_bytes(begun[4:8], "little")
        if len(begun) >= 8 and size > protocol._connection._limits.max_recv_buffer and protocol.transport is not None:
            protocol.transport.abort()

    protocol.data_received = data_received  # type: ignore[method-assign]


async def greet(client: Client) -> None:
    """Hello and Acknowledge (Part 6, 7.1.2.3 and 7.1.2.4). Raises TimeoutError, OSError, UaError.

    asyncua takes the sizes in the Acknowledge the wrong way round, and the largest request that a server bears for a
    limit of its answers: a server with a small buffer for requests could not send large answers.
    """
    client.max_messagesize, client.max_chunkcount = MOST_BYTES, _MOST_CHUNKS
    await client.send_hello()
    limits = protocol_of(client)._connection._limits
    to_server, from_server = limits.max_recv_buffer, limits.max_send_buffer
    limits.max_send_buffer = max(to_server, _LEAST_BUFFER)
    # Some servers send larger chunks than they say; this is only to bound the memory.
    limits.max_recv_buffer = min(max(from_server, to_server, _USUAL_BUFFER), MOST_BYTES)
    setattr(protocol_of(client), _MOST_SENT, int(limits.max_message_size))
    limits.max_message_size, limits.max_chunk_count = MOST_BYTES, _MOST_CHUNKS


def most_sent(client: Client) -> int | None:
    """Bytes of the largest request that the server has said it bears; None where it names no bound, or was not greeted.

    What is larger ends the connection at some servers, so that nobody learns from a fault that it was too much.
    """
    return getattr(client.uaclient.protocol, _MOST_SENT, 0) or None


@dataclass
class _Head:
    """How every request begins (Part 4, 7.32)."""

    TypeId: ua.NodeId
    RequestHeader: ua.RequestHeader


class Encoded(NamedTuple):
    """A request that is sent again and again: asyncua takes longer to encode a list of nodes than we to read them."""

    type_id: ua.NodeId
    parameters: bytes
    """all that follows the request header"""


def encoded(request: Any) -> Encoded:
    """A service request with its parameters as bytes."""
    return Encoded(request.TypeId, struct_to_binary(request.Parameters))


def send(client: Client, request: Any, timeout: float) -> asyncio.Future[Buffer]:
    """Send a service request now; the future is the body of the answer, undecoded, a ServiceFault included.

    `request` is asyncua's, or one that is `Encoded`; `timeout` (s, 0 = none) is only the hint in its header. Raises
    ConnectionError.
    """
    protocol = protocol_of(client)
    if not isinstance(request, Encoded):
        return protocol._send_request(request, timeout)
    # As `_send_request` does it.
    head = _Head(request.type_id, ua.RequestHeader())
    protocol._setup_request_header(head.RequestHeader, timeout)
    protocol.revolve_security_token()
    number = protocol._request_id + 1
    message = protocol._connection.message_to_binary(struct_to_binary(head) + request.parameters, request_id=number)
    protocol._request_id = number
    future: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
    protocol._callbackmap[number] = future
    assert protocol.transport is not None
    protocol.transport.write(message)
    return future


def body(answer: Buffer) -> bytes:
    """The bytes of an answer."""
    return bytes(answer)


async def ask(client: Client, request: Any, timeout: float) -> Buffer:
    """Send a request; the body of its answer as of `send`. Raises TimeoutError, ConnectionError.

    An answer that is there when the time has ended counts: who was late is this process, held up by other work.
    """
    answer = send(client, request, timeout)
    try:
        async with asyncio.timeout(timeout):
            return await answer
    except TimeoutError:
        if answer.cancelled():
            raise
        return answer.result()


async def call(client: Client, request: Any, response: type[T], timeout: float) -> T:
    """Send a request and decode its answer; raises UaStatusCodeError for a fault, TimeoutError, ConnectionError."""
    answer = await ask(client, request, timeout)
    type_id = nodeid_from_binary(answer.copy())
    if type_id.Identifier == ObjectIds.ServiceFault_Encoding_DefaultBinary:
        struct_from_binary(ua.ServiceFault, answer).ResponseHeader.ServiceResult.check()
    decoded = struct_from_binary(response, answer)
    decoded.ResponseHeader.ServiceResult.check()  # type: ignore[attr-defined]
    return decoded


class Login(NamedTuple):
    """What takes up a session again over another connection (Part 4, 6.7)."""

    token: ua.NodeId
    nonce: bytes | None
    """the server's last one, which the next activation signs"""
    policies: list[Any]
    """how the endpoint lets users log in"""
    certificate: Any
    """the server's, None where it has none"""
    timeout_ms: float


def login_of(client: Client) -> Login:
    """The client's active session."""
    return Login(
        client.uaclient.session.authentication_token,
        client._server_nonce,
        client._policy_ids,
        client.security_policy.peer_certificate,
        client.session_timeout,
    )


def take_login(client: Client, login: Login) -> None:
    """Let the client's next activation be one of this session; its secure channel is open."""
    client.uaclient.session.restore_authentication_token(login.token)
    client._server_nonce = login.nonce  # type: ignore[assignment]  # asyncua declares its first value only
    client._policy_ids = login.policies
    if client.security_policy.peer_certificate is None:
        client.security_policy.peer_certificate = login.certificate
    client.session_timeout = login.timeout_ms  # type: ignore[assignment]  # ms, with a fraction where the server says so


def drop_login(client: Client, certificate: Any) -> None:
    """Forget a session that the server does not know any more; `certificate`: the server's before `take_login`."""
    client.uaclient.session.reset_authentication_token()
    client._server_nonce = None
    client.security_policy.peer_certificate = certificate


def keep_old_keys(client: Client) -> None:
    """Once after each renewal of the channel: accept what the old keys have secured for another quarter of their life.

    So Part 4, 5.5.2.1, and asyncua checks token ids by it, but drops the keys when their life is over. Some servers
    (node-opcua) secure the answer to a Publish with the keys of its request, which may have waited for long.
    """
    crypto: Any = client.security_policy.symmetric_cryptography
    if client.security_policy.Mode != ua.MessageSecurityMode.None_:
        crypto.prev_key_expiration += client.secure_channel_timeout / 1000 * 0.25


def has_channel(client: Client) -> bool:
    """Whether its socket lives and its channel was opened: without keys asyncua cannot even say goodbye."""
    protocol = client.uaclient.protocol
    alive = protocol is not None and protocol.transport is not None
    return alive and client.uaclient.state in (UaClientState.CHANNEL_OPEN, UaClientState.CONNECTED)


def abort(client: Client) -> None:
    """Drop the socket at once, whatever is still to be sent."""
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None:
        protocol.transport.abort()
