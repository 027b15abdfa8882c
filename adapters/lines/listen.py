"""Wires that dial in: modems (4G DTUs) that connect to us and say who they are.

One listener serves one address. A modem is told from others by the registration packet that it sends first; a new
connection with the same registration replaces the old one, which a mobile network may have dropped without a word.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from typing import Final, NamedTuple, cast

from adapters.lines.ports import Opener, Port, PortProtocol

log = logging.getLogger(__name__)

_REGISTER_S: Final = 15.0
_LONGEST_REGISTRATION: Final = 256
_MOST_STRANGERS: Final = 32
"""connections at once that have not said who they are; more are closed: the port may be open to the internet"""
_KEEPALIVE_S: Final = 60
"""silence after which TCP asks whether the other side is still there"""


class Guest(NamedTuple):
    """Who is expected."""

    id: bytes | None = None
    """what it sends first, or how that begins; None = whoever comes and is nobody else"""
    heartbeat: bytes | None = None
    """what it sends to keep its connection; dropped"""
    allow: tuple[str, ...] = ()
    """networks that it may come from; empty = any"""

    def may_come_from(self, address: str) -> bool:
        """Whether its networks hold this address."""
        peer = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(peer, "ipv4_mapped", None)
        return not self.allow or any(
            (mapped or peer) in ipaddress.ip_network(network, strict=False) for network in self.allow
        )


class Listener:
    """Listens on one address for as long as it is held, and keeps the newest connection of each guest."""

    def __init__(self, host: str, port: int, register_s: float = _REGISTER_S) -> None:
        """`register_s`: how long a connection may take to say who it is."""
        self._host, self._port = host, port
        self.register_s = register_s
        self._rooms: dict[bytes | None, _Room] = {}
        self._strangers: set[_Caller] = set()
        self._server: asyncio.Server | None = None
        self._starting = asyncio.Lock()
        self._told: set[str] = set()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.sockets[0].getsockname()[1] if self._server else self._port

    def opener(self, guest: Guest) -> Opener:
        """Opens the wire of a guest: waits until it has dialled in. Raises OSError when the address cannot be had."""
        room = self._rooms.setdefault(guest.id, _Room(guest))
        room.expect(guest)

        async def connect(owner: PortProtocol) -> Port:
            await self._listen()
            return await room.wait(owner)

        return connect

    def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for caller in [*self._strangers, *(room.caller for room in self._rooms.values() if room.caller)]:
            caller.abort()

    async def _listen(self) -> None:
        async with self._starting:
            if self._server is None:
                loop = asyncio.get_running_loop()
                self._server = await loop.create_server(lambda: _Caller(self), self._host, self._port)

    def arrived(self, caller: _Caller) -> None:
        """Somebody connected."""
        guests = [room.guest for room in self._rooms.values()]
        if not any(guest.may_come_from(caller.address) for guest in guests):
            self._refuse(caller, "its address is in no `allow`")
        elif len(self._strangers) >= _MOST_STRANGERS:
            self._refuse(caller, f"{_MOST_STRANGERS} others have not said who they are yet")
        else:
            self._strangers.add(caller)
            if all(guest.id is None for guest in guests):
                self.said(caller, b"")

    def said(self, caller: _Caller, heard: bytes) -> None:
        """A stranger sent this so far: give it its room, or go on listening."""
        for room in sorted(self._rooms.values(), key=lambda room: len(room.guest.id or b""), reverse=True):
            id = room.guest.id or b""
            if heard.startswith(id) and room.guest.may_come_from(caller.address):
                if room.guest.id is None and any(_begins(other.guest.id, heard) for other in self._rooms.values()):
                    return  # it may still turn out to be somebody
                self._strangers.discard(caller)
                room.enter(caller, heard[len(id) :])
                return
        if len(heard) >= _LONGEST_REGISTRATION:
            self.unknown(caller, heard)

    def unknown(self, caller: _Caller, heard: bytes) -> None:
        """A stranger did not say who it is, or nobody expects it: it is the guest without an id, if there is one."""
        room = self._rooms.get(None)
        if room is not None and room.guest.may_come_from(caller.address):
            self._strangers.discard(caller)
            room.enter(caller, heard)
        elif heard:
            text = heard.decode("ascii", "replace") if heard.isascii() else f"hex:{heard.hex()}"
            self._refuse(caller, f"it registered as {text[:64]!r} and no device has this id in its url")
        else:
            self._refuse(caller, f"it did not register within {self.register_s:g} s")

    def left(self, caller: _Caller) -> None:
        """A stranger hung up."""
        self._strangers.discard(caller)

    def _refuse(self, caller: _Caller, reason: str) -> None:
        self._strangers.discard(caller)
        caller.abort()
        told = f"{caller.address}: {reason}"
        if told not in self._told and len(self._told) < _LONGEST_REGISTRATION:
            self._told.add(told)
            log.warning("listening on %s:%d: %s was turned away: %s", self._host, self._port, caller.address, reason)


def _begins(id: bytes | None, heard: bytes) -> bool:
    return bool(id) and len(heard) < len(id or b"") and (id or b"").startswith(heard)


class _Room:
    """One guest's place: its newest connection, and who waits for it."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.caller: _Caller | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def expect(self, guest: Guest) -> None:
        """The guest's url may have changed while others kept the listener: whoever is here came by the old one."""
        if guest != self.guest and self.caller is not None:
            self.caller.abort()
        self.guest = guest

    async def wait(self, owner: PortProtocol) -> Port:
        """The guest's connection, from now on the owner's."""
        while self.caller is None or self.caller.gone:
            come: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(come)
            try:
                await come
            finally:
                self._waiting.remove(come)
        self.caller.owner = owner
        return self.caller

    def enter(self, caller: _Caller, rest: bytes) -> None:
        """The guest has come, or come again."""
        if self.caller is not None and not self.caller.gone:
            log.info("the modem %s has connected again; its old connection is dropped", caller.address)
            self.caller.abort()
        self.caller = caller
        caller.enter(self.guest, rest)
        for come in self._waiting:
            if not come.done():
                come.set_result(None)


class _Caller(asyncio.Protocol):
    """One connection that came in; a `Port` once it is somebody's."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._guest: Guest | None = None
        self._heard = b""
        self._deadline: asyncio.TimerHandle | None = None
        self.owner: PortProtocol | None = None
        self.address = ""
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self.address = transport.get_extra_info("peername")[0]
        _keep_alive(transport.get_extra_info("socket"))
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._listener.register_s, lambda: self._listener.unknown(self, self._heard))
        self._listener.arrived(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._guest is None:
            self._heard += data
            self._listener.said(self, self._heard)
        elif self.owner is not None and not _is_heartbeat(data, self._guest.heartbeat):
            self.owner.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.gone = True
        self._stop_waiting()
        self._listener.left(self)
        if self.owner is not None:
            self.owner.connection_lost(exc)

    def enter(self, guest: Guest, rest: bytes) -> None:
        """It is known who this is."""
        self._guest = guest
        self._heard = b""
        self._stop_waiting()
        if rest:
            self.data_received(rest)

    def write(self, data: bytes) -> None:
        """See `Port`."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """See `Port`."""
        self.gone = True
        if self._transport is not None:
            self._transport.abort()

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _is_heartbeat(data: bytes, heartbeat: bytes | None) -> bool:
    return bool(heartbeat) and data == (heartbeat or b"") * (len(data) // len(heartbeat or b" "))


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {"TCP_KEEPIDLE": _KEEPALIVE_S, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
    # TCP does not ask while what we sent is not acknowledged, and we go on sending: that has a limit of its own, in ms
    options["TCP_USER_TIMEOUT"] = 1000 * (_KEEPALIVE_S + 3 * 10)
    for option, value in options.items():
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
