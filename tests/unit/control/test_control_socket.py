"""The control socket over a real socket: questions and answers, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.control import Call, Client, ControlServer, DeniedError, NotRunningError, RequestRefusedError, ask, server
from gateway.control.protocol import REQUEST_BYTES, SOCKET_NAME, address
from gateway.control.server import Handler
from tests.support.wait import eventually


async def echo(call: Call) -> Any:
    return {"said": call.request.get("say"), "uid": call.uid}


async def deny(call: Call) -> Any:
    raise DeniedError("boiler-9 is no device of this gateway")


async def broken(call: Call) -> Any:
    return [1][call.request["at"]]


async def count(call: Call) -> Any:
    for number in range(call.request["to"]):
        await call.send(number)
    return "counted"


class Endless:
    """A stream that has nothing to say, and notes how many listen."""

    listeners = 0

    async def __call__(self, call: Call) -> Any:
        self.listeners += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.listeners -= 1


@asynccontextmanager
async def serving(folder: Path, endless: Endless | None = None) -> AsyncIterator[Path]:
    handlers = {"echo": echo, "deny": deny, "broken": broken}
    streams: dict[str, Handler] = {"count": count, "endless": endless or Endless()}
    task = asyncio.create_task(ControlServer(folder, handlers, streams).run())
    try:
        await eventually((folder / SOCKET_NAME).exists)
        yield folder
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert not (folder / SOCKET_NAME).exists()


async def asked(folder: Path, do: str, **rest: Any) -> Any:
    return await asyncio.to_thread(lambda: ask(folder, do, **rest))


async def test_a_question_is_answered_and_the_gateway_knows_who_asks(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert await asked(tmp_path, "echo", say="釜") == {"said": "釜", "uid": os.getuid()}


async def test_several_questions_over_one_connection_and_a_stream_between(tmp_path: Path) -> None:
    def converse() -> None:
        with Client(tmp_path) as client:
            assert client.ask("echo", say=1)["said"] == 1
            assert list(client.stream("count", to=3)) == [0, 1, 2]
            assert client.result == "counted"

    async with serving(tmp_path):
        await asyncio.to_thread(converse)


async def test_the_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    async with serving(tmp_path):
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600


async def test_a_socket_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    with address(tmp_path / SOCKET_NAME) as where:
        left.bind(where)
    left.close()
    with pytest.raises(NotRunningError, match="no gateway runs"):
        ask(tmp_path, "echo")
    task = asyncio.create_task(ControlServer(tmp_path, {"echo": echo}, {}).run())

    async def answered() -> Any:
        with contextlib.suppress(NotRunningError):
            return bool((await asked(tmp_path, "echo", say=2))["said"] == 2)
        return False

    await eventually(answered)
    task.cancel()
    await asyncio.wait([task])


async def test_a_folder_with_a_path_longer_than_an_address_will_do(tmp_path: Path) -> None:
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    async with serving(folder):
        assert (await asked(folder, "echo", say=3))["said"] == 3


async def test_what_cannot_be_done_is_said_and_the_connection_goes_on(tmp_path: Path) -> None:
    def converse() -> None:
        with Client(tmp_path) as client:
            with pytest.raises(RequestRefusedError, match="boiler-9 is no device"):
                client.ask("deny")
            with pytest.raises(RequestRefusedError, match="does not know 'fly', only broken, count, deny, echo"):
                client.ask("fly")
            assert client.ask("echo", say=4)["said"] == 4

    async with serving(tmp_path):
        await asyncio.to_thread(converse)


async def test_a_handler_that_fails_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path):
        with pytest.raises(RequestRefusedError, match="internal error: IndexError"):
            await asked(tmp_path, "broken", at=7)
        assert (await asked(tmp_path, "echo", say=5))["said"] == 5
    assert "please report this" in caplog.text


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"status\n", "a request is one line of JSON"),
        (b"[1]\n", "a request is an object"),
        (b'{"v":2,"do":"echo"}\n', "speaks version 1"),
        (b'{"v":1}\n', "a request is an object"),
    ],
)
async def test_what_is_no_request_is_refused(tmp_path: Path, sent: bytes, expected: str) -> None:
    async with serving(tmp_path):
        reader, writer = await connected(tmp_path)
        writer.write(sent)
        answer = orjson.loads(await reader.readline())
        assert answer["ok"] is False
        assert expected in answer["error"]
        assert await reader.read() == b"", "the connection is closed"
        writer.close()


async def connected(folder: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    with address(folder / SOCKET_NAME) as where:
        return await asyncio.open_unix_connection(where)


async def test_a_request_without_an_end_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path):
        reader, writer = await connected(tmp_path)
        writer.write(b"x" * (3 * REQUEST_BYTES))
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert (await asked(tmp_path, "echo", say=6))["said"] == 6


async def test_more_clients_than_allowed_are_told_so(tmp_path: Path) -> None:
    async with serving(tmp_path):
        held = [await connected(tmp_path) for _ in range(server.MOST_CLIENTS)]
        for reader, writer in held:  # each is served before the next comes
            writer.write(b'{"v":1,"do":"echo"}\n')
            assert await reader.readline()
        reader, writer = await connected(tmp_path)
        assert b"8 clients are connected already" in await reader.readline()
        writer.close()
        for _, each in held:
            each.close()

        async def answered() -> Any:
            with_room = await connected(tmp_path)
            with_room[1].write(b'{"v":1,"do":"echo"}\n')
            text = await with_room[0].readline()
            with_room[1].close()
            return b"said" in text

        await eventually(answered)


async def test_a_client_that_does_not_read_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "SEND_S", 0.05)
    sent = []

    async def pour(call: Call) -> Any:
        while True:
            await call.send("x" * 60_000)
            sent.append(1)

    task = asyncio.create_task(ControlServer(tmp_path, {"echo": echo}, {"pour": pour}).run())
    await eventually((tmp_path / SOCKET_NAME).exists)
    slow = socket.socket(socket.AF_UNIX)
    with address(tmp_path / SOCKET_NAME) as where:
        slow.connect(where)
    slow.sendall(b'{"v":1,"do":"pour"}\n')
    assert (await asked(tmp_path, "echo", say=7))["said"] == 7
    before = -1

    def settled() -> bool:
        nonlocal before
        same, before = before == len(sent), len(sent)
        return same and before > 0

    await eventually(settled)
    assert len(sent) * 60_000 < 5_000_000, "what waits for it is bounded"
    slow.close()
    task.cancel()
    await asyncio.wait([task])


async def test_a_stream_ends_when_its_listener_leaves(tmp_path: Path) -> None:
    endless = Endless()
    async with serving(tmp_path, endless):
        _, writer = await connected(tmp_path)
        writer.write(b'{"v":1,"do":"endless"}\n')
        await eventually(lambda: endless.listeners == 1)
        writer.close()
        await eventually(lambda: endless.listeners == 0)


async def test_a_stop_does_not_wait_for_listeners(tmp_path: Path) -> None:
    async with serving(tmp_path):
        reader, writer = await connected(tmp_path)
        writer.write(b'{"v":1,"do":"endless"}\n')
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    writer.close()


def test_without_a_gateway_the_command_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match=r"edge-gateway run.*journalctl"):
        ask(tmp_path / "nothing", "status")
