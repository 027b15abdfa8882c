"""What we use of asyncua that its makers may move without notice."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import random
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UaClient, UASocketProtocol
from asyncua.client.ua_session import UaSession
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua import ua_binary
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary

from adapters.opcua.errors import translate_errors
from adapters.opcua.session import lengths, stack
from gateway.contract import AdapterError, LinkLost
from tests.support.opcua_certificates import NOW, make_pair
from tests.support.opcua_fuzz import read_response
from tests.support.wait import eventually


def test_asyncua_still_has_what_we_reach_into() -> None:
    assert list(inspect.signature(UASocketProtocol._send_request).parameters)[:3] == ["self", "request", "timeout"]
    assert not inspect.iscoroutinefunction(UASocketProtocol._send_request), "it sends at once and returns a future"
    assert {"protocol", "transport"} <= {*vars(UaClient(1)), *vars(UASocketProtocol(1))}
    assert stack.body(Buffer(b"abcd", 1)) == b"bcd"


def test_asyncua_still_makes_its_readers_of_arrays_where_we_check_their_lengths() -> None:
    for name in lengths.FACTORIES:
        assert getattr(ua_binary, name).__wrapped__.__qualname__.startswith("_bounded.")
    assert {"max_recv_buffer", "max_send_buffer", "max_message_size", "max_chunk_count"} <= vars(
        TransportLimits()
    ).keys()
    assert UASocketProtocol(1).receive_buffer is None


def variant(encoding: int, *numbers: int) -> bytes:
    """A DataValue with nothing but a value."""
    return bytes((0x01, encoding)) + struct.pack(f"<{len(numbers)}i", *numbers)


async def test_an_answer_that_came_in_time_counts_though_the_gateway_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was held up by other work, and finds both the answer and the end of its patience."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Buffer] = loop.create_future()
    monkeypatch.setattr(stack, "send", lambda *_: answer)
    asking = asyncio.create_task(stack.call(Client("opc.tcp://h:1"), None, ua.ReadResponse, 0.1))
    await asyncio.sleep(0)
    loop.call_later(0.01, answer.set_result, Buffer(read_response([variant(0x06, 7)])))
    late = loop.time() + 0.2
    while loop.time() < late:
        pass
    (value,) = (await asking).Results
    assert value.Value.Value == 7


async def test_an_answer_that_does_not_come_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    answer: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(stack, "send", lambda *_: answer)
    with pytest.raises(TimeoutError):
        await stack.call(Client("opc.tcp://h:1"), None, ua.ReadResponse, 0.01)
    assert answer.cancelled()


@pytest.mark.parametrize(
    "value",
    [
        variant(0x80, 2**31 - 1),  # nothings
        variant(0x8C, 2**31 - 1),  # texts
        variant(0x8C, 3, -2, -2, -2),
        variant(0x0F, -70),
        variant(0xC6, 0, 2, 1000, 1000),
        variant(0xC6, 2, 1, 2, 3, 5, -1, 1),
        b"\x01" + b"\x98\x01\x00\x00\x00" * 20_000,  # one in another
    ],
)
async def test_lengths_that_are_wrong_cost_no_time_and_end_the_link(
    value: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer: asyncio.Future[Buffer] = asyncio.get_running_loop().create_future()
    answer.set_result(Buffer(read_response([value])))
    monkeypatch.setattr(stack, "send", lambda *_: answer)
    started = time.process_time()
    with pytest.raises(LinkLost), translate_errors("reading"):
        await stack.call(Client("opc.tcp://h:1"), None, ua.ReadResponse, 5)
    assert time.process_time() - started < 5


def answers() -> list[Any]:
    """Answers that asyncua decodes for us."""
    good = ua.StatusCode(ua.UInt32(0))
    contents = [1, 2.5, "abc", NOW, [1, 2, 3], [[1, 2], [3, 4]], ["a", "b"], b"x", None, ua.EUInformation(), ua.Range()]
    transferred = ua.TransferSubscriptionsResponse()
    transferred.Parameters.Results = [ua.TransferResult(good, [1, 2, 3])]
    named = ua.ReferenceDescription(BrowseName=ua.QualifiedName("x", 1), DisplayName=ua.LocalizedText("y"))
    return [
        ua.ReadResponse(Results=[ua.DataValue(ua.Variant(content)) for content in contents]),
        ua.CreateMonitoredItemsResponse(Results=[ua.MonitoredItemCreateResult(good, ua.UInt32(n)) for n in range(4)]),
        ua.CreateSubscriptionResponse(),
        ua.BrowseResponse(Results=[ua.BrowseResult(References=[named])]),
        transferred,
    ]


NUMBERS = (0, 1, 2, 7, 255, 65_535, 2**31 - 1, -1, -2, -(2**31))


def mutated(draw: random.Random, sound: bytes) -> bytes:
    data = bytearray(sound)
    for _ in range(draw.choice((1, 1, 2, 3, 6))):
        at = draw.randrange(len(data))
        match draw.randrange(5):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                data[at] ^= 1 << draw.randrange(8)
            case 2:
                data[at : at + 4] = struct.pack("<i", draw.choice(NUMBERS))
            case 3:
                del data[at : at + draw.choice((1, 4, 8))]
            case 4:
                data[at:at] = data[at : at + draw.choice((1, 4, 16))]
        data = data or bytearray(sound)
    return bytes(data)


@pytest.mark.parametrize("answer", answers(), ids=lambda answer: type(answer).__name__)
async def test_whatever_a_server_answers_is_read_or_ends_the_link(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never an error of ours, and never keeps the process busy."""
    draw, sound = random.Random(20261121), struct_to_binary(answer)
    came: asyncio.Future[Buffer]
    monkeypatch.setattr(stack, "send", lambda *_: came)
    for _ in range(500):
        came = asyncio.get_running_loop().create_future()
        came.set_result(Buffer(mutated(draw, sound)))
        with contextlib.suppress(AdapterError), translate_errors("reading"):
            await stack.call(Client("opc.tcp://h:1"), None, type(answer), 5)


async def test_what_is_sound_is_read_as_before() -> None:
    sent = ua.ReadResponse(Results=[ua.DataValue(ua.Variant(value)) for value in (["a", ""], [[1, 2], [3, 4]], b"x")])
    read = struct_from_binary(ua.ReadResponse, Buffer(struct_to_binary(sent)))
    assert [each.Value.Value for each in read.Results] == [["a", ""], [[1, 2], [3, 4]], b"x"]


@asynccontextmanager
async def server_that_answers_a_hello(*messages: bytes) -> AsyncIterator[tuple[Client, list[bytes]]]:
    """Answers with these messages and then waits; a client that is connected, and what came from it."""
    came: list[bytes] = []
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            came.append(await reader.read(1000))
            writer.writelines(messages)
            await reader.read()
        writer.close()
        left.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        client = Client(f"opc.tcp://127.0.0.1:{listening.sockets[0].getsockname()[1]}", timeout=5)
        await stack.connect(client)
        try:
            yield client, came
        finally:
            client.disconnect_socket()
            await left.wait()


def gone(client: Client) -> bool:
    protocol = client.uaclient.protocol
    return protocol is None or protocol.transport is None


def acknowledge(receives: int, sends: int, most: int) -> bytes:
    return b"ACKF" + struct.pack("<6I", 28, 0, receives, sends, most, 5)


@pytest.mark.parametrize(
    ("receives", "sends", "sending", "receiving"),
    [
        (8192, 65_536, 8192, 65_536),
        (65_536, 8192, 65_536, 65_536),
        (0, 0, 8192, 65_536),
        (65_535, 2**32 - 1, 65_535, stack.MOST_BYTES),
    ],
)
async def test_a_small_buffer_for_requests_makes_no_answer_too_large(
    receives: int, sends: int, sending: int, receiving: int
) -> None:
    async with server_that_answers_a_hello(acknowledge(receives, sends, 10_000)) as (client, came):
        await stack.greet(client)
        limits = stack.protocol_of(client)._connection._limits
        assert (limits.max_send_buffer, limits.max_recv_buffer) == (sending, receiving)
        assert limits.max_message_size == stack.MOST_BYTES
        assert stack.most_sent(client) == 10_000
        assert struct.unpack_from("<2I", came[0], 20)[0] == stack.MOST_BYTES, "the server is told"


async def test_a_chunk_without_end_is_not_gathered() -> None:
    endless = b"MSGF" + struct.pack("<I", 2**32 - 1) + bytes(1000)
    async with server_that_answers_a_hello(acknowledge(65_535, 65_535, 0), endless) as (client, _):
        with contextlib.suppress(ConnectionError):  # it may be over at once
            await stack.greet(client)
        await eventually(lambda: gone(client))


def test_asyncua_still_connects_step_by_step() -> None:
    for step in ("connect_socket", "send_hello", "open_secure_channel", "create_session", "activate_session"):
        assert inspect.iscoroutinefunction(getattr(Client, step))
    assert {"username", "password"} <= inspect.signature(Client.activate_session).parameters.keys()
    assert {"_server_nonce", "_policy_ids", "security_policy"} <= vars(Client("opc.tcp://h:1")).keys()
    assert {"restore_authentication_token", "reset_authentication_token"} <= vars(UaSession).keys()
    assert {"session_timeout", "secure_channel_timeout", "application_uri"} <= vars(Client("opc.tcp://h:1")).keys()


async def test_who_is_stopped_just_as_the_connection_is_there_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    made = loop.create_connection

    async def made_as_we_are_stopped(*args: Any) -> Any:
        connection = await made(*args)
        task.cancel()
        return connection

    accepted = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    monkeypatch.setattr(loop, "create_connection", made_as_we_are_stopped)
    async with accepted:
        client = Client(f"opc.tcp://127.0.0.1:{accepted.sockets[0].getsockname()[1]}")
        task = asyncio.create_task(stack.connect(client), name="connect")
        with pytest.raises(asyncio.CancelledError):
            await task
        client.disconnect_socket()


@pytest.mark.parametrize(("late_s", "held"), [(0.5, True), (1.5, False)])
def test_old_keys_hold_for_a_quarter_longer(late_s: float, held: bool) -> None:
    """Of a life of 4 s: messages that the old keys have secured are good for another second (Part 4, 5.5.2.1)."""
    theirs, ours = make_pair("server"), make_pair("gateway", key=1)
    policy = SecurityPolicyBasic256Sha256(
        theirs.certificate, ours.certificate, ours.key, ua.MessageSecurityMode.SignAndEncrypt
    )
    client = Client("opc.tcp://h:1")
    client.security_policy, client.secure_channel_timeout = policy, 4000
    policy.make_remote_symmetric_key(b"1" * 32, b"2" * 32, -1000 * late_s)
    policy.make_remote_symmetric_key(b"3" * 32, b"4" * 32, 4000)
    stack.keep_old_keys(client)
    policy.symmetric_cryptography.revolved_expired_key()
    assert (policy.symmetric_cryptography.Prev_Decryptor is not None) is held


def test_without_security_there_are_no_keys_to_keep() -> None:
    stack.keep_old_keys(Client("opc.tcp://h:1"))


class Wire:
    """In place of a transport: keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written = data


def read_request() -> ua.ReadRequest:
    request = ua.ReadRequest()
    request.Parameters.MaxAge = 500.0
    request.Parameters.NodesToRead = [ua.ReadValueId(NodeId=ua.NodeId(f"n{n}", 2)) for n in range(3)]
    return request


async def test_a_request_that_is_encoded_already_is_sent_as_asyncua_sends_it() -> None:
    client = Client("opc.tcp://h:1")
    protocol = client.uaclient.protocol = UASocketProtocol(1)
    wire = Wire()
    protocol.transport = wire  # type: ignore[assignment]
    request = read_request()
    future = stack.send(client, request, 3.0)
    theirs = wire.written
    ours_future = stack.send(client, stack.encoded(read_request()), 3.0)
    ours = wire.written
    assert not future.done()
    assert len(ours) == len(theirs)
    head = 24  # chunk, security and sequence headers (Part 6, 6.7.2)
    assert int.from_bytes(ours[16:20], "little") == int.from_bytes(theirs[16:20], "little") + 1, "sequence number"
    assert int.from_bytes(ours[20:24], "little") == int.from_bytes(theirs[20:24], "little") + 1, "request id"
    found = struct_from_binary(ua.ReadRequest, Buffer(ours[head:]))
    wanted = struct_from_binary(ua.ReadRequest, Buffer(theirs[head:]))
    assert found.Parameters == wanted.Parameters == read_request().Parameters
    assert found.RequestHeader.RequestHandle == wanted.RequestHeader.RequestHandle + 1
    assert found.RequestHeader.TimeoutHint == wanted.RequestHeader.TimeoutHint == 3000
    assert protocol._callbackmap == {1: future, 2: ours_future}
