"""The gateway's end of the control socket: few clients, bounded requests, no long wait for who reads slowly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.contract.errors import GatewayError
from gateway.control import protocol

log = logging.getLogger(__name__)

MOST_CLIENTS: Final = 8
IDLE_S: Final = 60.0
"""a client that asks for nothing for so long is let go of"""
SEND_S: Final = 5.0
"""a client that does not read an answer for so long is let go of"""
AGAIN_S: Final = 5.0
"""between two attempts to make the socket: the log's folder may be read-only for a while"""
_UCRED: Final = struct.Struct("3i")
"""pid, uid, gid of SO_PEERCRED (unix(7))"""


class DeniedError(GatewayError):
    """A request that cannot be done; the text goes to the client."""


class Call:
    """One request under way, as its handler sees it."""

    def __init__(self, request: Mapping[str, Any], uid: int | None, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.uid = uid
        """user id of whoever asks; None where the system does not say"""
        self._writer = writer

    async def send(self, more: Any) -> None:
        """A line before the answer; returns once the client's side has room again.

        Raises ConnectionError when it has left, TimeoutError when it does not read.
        """
        await _send(self._writer, {"more": more})


Handler = Callable[[Call], Awaitable[Any]]
"""Returns the JSON-able result; raises DeniedError. A stream's handler is cancelled when the client leaves."""


class ControlServer:
    """Serves `handlers` by the name in `do`; `run` it in a task of its own.

    The socket is made at `<folder>/control.sock`, for its owner alone, over one that an earlier process left: whoever
    runs this holds the folder's lock. It is removed at the end.
    """

    def __init__(self, folder: Path, handlers: Mapping[str, Handler], streams: Mapping[str, Handler]) -> None:
        """`handlers` run to their end whatever the client does, `streams` as long as it listens."""
        self._path = folder / protocol.SOCKET_NAME
        self._handlers = {**handlers, **streams}
        self._streams = frozenset(streams)
        self._clients: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serve until cancelled; a socket that cannot be made is tried again, with one log line."""
        told = False
        while True:
            try:
                listening = _listen(self._path)
            except OSError as error:
                if not told:
                    log.warning(
                        "control: %s cannot be made (%s): `status` and the like do not work until it can; check the "
                        "folder's owner and its disk",
                        self._path,
                        error.strerror or error,
                    )
                told = True
                await asyncio.sleep(AGAIN_S)
                continue
            await self._serve(listening)

    async def _serve(self, listening: socket.socket) -> None:
        made = _inode(self._path)
        ended = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:

                def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    if ended.is_set():
                        writer.transport.abort()
                        return
                    self._clients.add(writer)
                    group.create_task(self._client(reader, writer), name="control client")

                server = await asyncio.start_unix_server(accept, sock=listening, limit=protocol.REQUEST_BYTES)
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.set()
                    server.close()
                    if made == _inode(self._path):
                        self._path.unlink(missing_ok=True)
        finally:
            for writer in self._clients:  # whose tasks ended before they began
                writer.transport.abort()
            self._clients.clear()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # The client may leave, ask for too much at once, ask nothing or read nothing: all that is its own matter.
            with contextlib.suppress(OSError, ValueError):
                if len(self._clients) > MOST_CLIENTS:
                    await _send(writer, _error(f"{MOST_CLIENTS} clients are connected already; end one of them"))
                    return
                while await self._one(reader, writer):
                    pass
        finally:
            self._clients.discard(writer)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take a request and answer it; returns whether another may follow."""
        async with asyncio.timeout(IDLE_S):
            text = await reader.readline()
        if not text.endswith(b"\n"):
            return False
        try:
            request = protocol.request_of(text)
        except protocol.BadRequestError as error:
            await _send(writer, _error(str(error)))
            return False
        answer = await self._answer(Call(request, _uid(writer), writer), reader)
        if answer is None:
            return False
        await _send(writer, answer)
        return True

    async def _answer(self, call: Call, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """None = the client has left."""
        do = call.request["do"]
        handler = self._handlers.get(do)
        if handler is None:
            return _error(f"this gateway does not know {do!r}, only {', '.join(sorted(self._handlers))}")
        try:
            if do in self._streams:
                return await _while_listening(handler, call, reader)
            return {"ok": True, "result": await handler(call)}
        except DeniedError as error:
            return _error(str(error))
        except Exception as error:  # whoever asks must not be able to end the gateway
            log.exception("control: %s failed in a way it should not; please report this", do)
            return _error(f"internal error: {type(error).__name__}: {error}")


async def _while_listening(handler: Handler, call: Call, reader: asyncio.StreamReader) -> dict[str, Any] | None:
    denied: DeniedError | None = None
    gone = False
    result: Any = None

    async def work() -> None:
        nonlocal denied, gone, result
        try:
            result = await handler(call)
        except DeniedError as error:
            denied = error
        except OSError:  # it has left, or does not read
            gone = True
        leaving.cancel()

    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(reader.read(1), name="control stream's client")
        working = group.create_task(work(), name="control stream")
        await asyncio.wait([leaving])
        gone = gone or not leaving.cancelled()
        working.cancel()
    if denied is not None:
        raise denied
    return None if gone else {"ok": True, "result": result}


async def _send(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    writer.write(protocol.line(body))
    async with asyncio.timeout(SEND_S):
        await writer.drain()


def _error(text: str) -> dict[str, Any]:
    return {"ok": False, "error": text}


def _uid(writer: asyncio.StreamWriter) -> int | None:
    connection = writer.get_extra_info("socket")
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except (OSError, AttributeError):
        return None
    uid: int = _UCRED.unpack(found)[1]
    return uid


def _listen(path: Path) -> socket.socket:
    """Raises OSError."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with protocol.address(path) as address:
            listening.bind(address)
        path.chmod(0o600)  # nobody can connect before listen(2)
        listening.listen(MOST_CLIENTS)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
