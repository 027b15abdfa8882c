"""Who is let in by a listener, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from adapters.lines.listen import Guest, Listener
from tests.support.wait import eventually


class Owner:
    """Whose wire it is."""

    def __init__(self) -> None:
        self.heard = b""

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None: ...


@contextmanager
def listening(register_s: float = 15.0) -> Iterator[Listener]:
    listener = Listener("127.0.0.1", 0, register_s)
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def modem(port: int, registration: bytes) -> Iterator[Callable[[], bool]]:
    """Yields whether it was cut off."""
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.setblocking(False)
        caller.sendall(registration)

        def cut_off() -> bool:
            try:
                return caller.recv(1) == b""
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        yield cut_off


async def test_a_guest_whose_url_changed_comes_by_the_new_one() -> None:
    """Another guest keeps the listener meanwhile."""
    with listening(register_s=1.0) as listener:
        near = asyncio.ensure_future(listener.opener(Guest(b"NEAR"))(Owner()))
        far = asyncio.ensure_future(listener.opener(Guest(b"FAR"))(Owner()))
        await eventually(lambda: listener.port)
        with modem(listener.port, b"NEAR") as cut_off, modem(listener.port, b"FAR") as other_cut_off:
            await asyncio.gather(near, far)
            listener.opener(Guest(b"NEAR", allow=("10.0.0.0/8",)))
            await eventually(cut_off, message="who came by the old url is dropped")
            with modem(listener.port, b"NEAR") as refused:
                await eventually(refused, message="its address is not allowed any more")
            assert not other_cut_off()


async def test_who_says_nothing_is_the_guest_without_an_id() -> None:
    """Beside guests that have one."""
    with listening(register_s=0.2) as listener:
        listener.opener(Guest(b"NEAR"))
        anybody = asyncio.ensure_future(listener.opener(Guest())(Owner()))
        await eventually(lambda: listener.port)
        with modem(listener.port, b"") as cut_off:
            await asyncio.wait_for(anybody, 20)
            assert not cut_off()


async def test_a_connection_that_acknowledges_nothing_ends() -> None:
    """Keep-alive alone does not find that out while requests are sent."""
    with listening() as listener:
        near = asyncio.ensure_future(listener.opener(Guest(b"NEAR"))(Owner()))
        await eventually(lambda: listener.port)
        with modem(listener.port, b"NEAR"):
            found = cast(Any, await near)._transport.get_extra_info("socket")
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 90_000
