"""The load server as asyncua's client sees it, without security and with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from asyncua import ua as asyncua_types
from asyncua.client.client import Client
from asyncua.crypto import uacrypto
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.ua.ua_binary import uatcp_to_binary

from benchmarks.load import kinds
from benchmarks.load.kinds import KINDS, PLANT
from benchmarks.load.opcua_security import Identity, SecurityError, Symmetric, make_certificate
from benchmarks.load.opcua_server import Connection
from benchmarks.load.opcua_subscription import Load
from benchmarks.load.opcua_wire import Wire

ua: Any = asyncua_types
"""its annotations and its generated code do not agree"""
ITEMS = 100
URI = "urn:test:client"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates and keys of a server, its client, and a stranger."""
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("server", "client", "stranger"):
        make_certificate(folder / f"{name}.der", folder / f"{name}.pem", URI if name != "server" else "urn:load")
    return folder


@asynccontextmanager
async def serving(type: str, identity: Identity | None = None) -> AsyncIterator[tuple[Load, str]]:
    load = Load(ITEMS, 0.0, type, 1000)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(load, identity), "127.0.0.1", 0)
    async with server:
        yield load, f"opc.tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        load.set_rate(0.0)


def identity_of(made: Path) -> Identity:
    return Identity.load(made / "server.der", made / "server.pem", made / "client.der")


async def secure(client: Client, made: Path, name: str, mode: Any) -> None:
    client.application_uri = URI
    await client.set_security(
        SecurityPolicyBasic256Sha256,
        uacrypto.CertProperties((made / f"{name}.der").read_bytes(), "der"),
        uacrypto.CertProperties((made / f"{name}.pem").read_bytes(), "pem"),
        server_certificate=uacrypto.CertProperties((made / "server.der").read_bytes(), "der"),
        mode=mode,
    )


async def changes(client: Client, load: Load, wanted: int) -> list[Any]:
    """So many data changes of all items, at a high rate."""
    came: list[Any] = []
    enough = asyncio.Event()

    def take(node: Any, value: Any, data: Any) -> None:
        came.append((node.nodeid.Identifier, value, data.monitored_item.Value))
        if len(came) >= wanted:
            enough.set()

    handler: Any = SimpleNamespace(datachange_notification=take)
    subscription = await client.create_subscription(10, handler)
    await subscription.subscribe_data_change([client.get_node(ua.NodeId(item, 1)) for item in range(ITEMS)])
    load.set_rate(50.0)
    async with asyncio.timeout(20):
        await enough.wait()
    return came


@pytest.mark.parametrize("secured", [False, True])
async def test_values_come_also_after_the_channel_was_renewed(secured: bool, made: Path) -> None:
    async with serving("double", identity_of(made) if secured else None) as (load, url):
        client = Client(url)
        if secured:
            await secure(client, made, "client", ua.MessageSecurityMode.SignAndEncrypt)
        async with client:
            came = await changes(client, load, 10 * ITEMS)
            await client.open_secure_channel(renew=True)
            values = [(await client.get_node(ua.NodeId(2255)).read_value())[1:] for _ in range(3)]
            assert values == [["urn:load", "urn:load:types"]] * 3
            more = await changes(client, load, ITEMS)
    for item, value, _ in [*came, *more]:
        tick, carried = kinds.ticks_and_items("double", np.array([value]))
        assert (carried[0], tick[0] <= load.tick) == (item, True)


async def definition_of(type: Any) -> Any:
    return (await type.read_attribute(ua.AttributeIds.DataTypeDefinition)).Value.Value


async def test_a_plant_explains_its_types() -> None:
    async with serving("plant") as (_, url), Client(url) as client:
        structure = client.get_node(ua.NodeId(PLANT.index("structure"), 1))
        type = await structure.read_data_type()
        definition = await definition_of(client.get_node(type))
        assert [field.Name for field in definition.Fields] == [name for name, _ in kinds.FIELDS]
        enumeration = client.get_node(ua.NodeId(PLANT.index("enumeration"), 1))
        of = client.get_node(await enumeration.read_data_type())
        assert definition.Fields[2].DataType == of.nodeid
        texts = await definition_of(of)
        assert [(field.Value, field.Name) for field in texts.Fields] == [*enumerate(kinds.MODES)]
        for node, parent in ((of, 29), (client.get_node(type), 22)):
            references = await node.get_references(ua.ObjectIds.HasSubtype, ua.BrowseDirection.Inverse)
            assert [reference.NodeId.Identifier for reference in references] == [parent]
        for item in range(ITEMS):
            kind = KINDS[PLANT[item]]
            node = client.get_node(ua.NodeId(item, 1))
            if kind.name not in ("structure", "enumeration"):
                assert (await node.read_data_type()).Identifier == kind.built_in
            assert await node.read_value_rank() == (1 if kind.element else -1)


async def test_a_round_of_changes_is_every_item_once() -> None:
    async with serving("plant") as (load, url), Client(url) as client:
        came = await changes(client, load, 12 * ITEMS)
    assert {item for item, _, _ in came[:ITEMS]} == set(range(ITEMS))
    for at in range(1, 11):
        part = [item for item, _, _ in came[at * ITEMS : (at + 1) * ITEMS]]
        assert sorted(part) == list(range(ITEMS))
        assert part != sorted(part)


async def test_strangers_and_weaker_modes_are_refused(made: Path) -> None:
    async with serving("double", identity_of(made)) as (_, url):
        endpoint = (await Client(url).connect_and_get_server_endpoints())[0]
        assert endpoint.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt
        assert endpoint.ServerCertificate == (made / "server.der").read_bytes()
        for name, mode in (
            ("stranger", ua.MessageSecurityMode.SignAndEncrypt),
            ("client", ua.MessageSecurityMode.Sign),
            (None, ua.MessageSecurityMode.None_),
        ):
            client = Client(url, timeout=2)
            if name is not None:
                await secure(client, made, name, mode)
            with pytest.raises((ConnectionError, TimeoutError, ua.UaError)):
                await client.connect()


def test_answers_are_cut_into_chunks_that_the_client_takes() -> None:
    wire, hello = Wire(), ua.Hello()
    hello.ReceiveBufferSize = ua.UInt32(8192)
    assert wire.feed(uatcp_to_binary(ua.MessageType.Hello, hello)) == []
    wire.outgoing = []
    body = bytes(range(251)) * 200
    stream, came, finals = b"".join(wire.answer(7, body)), b"", b""
    while stream:
        size = int.from_bytes(stream[4:8], "little")
        assert size <= 8192
        assert int.from_bytes(stream[20:24], "little") == 7
        came, finals, stream = came + stream[24:size], finals + stream[3:4], stream[size:]
    assert (came, finals) == (body, b"CCCCCCF")


def test_what_was_changed_on_the_way_is_refused() -> None:
    client_nonce, server_nonce = b"c" * 32, b"s" * 32
    server, mirror = Symmetric(client_nonce, server_nonce), Symmetric(server_nonce, client_nonce)
    # The mirror sends as the client does: keys of the directions are exchanged
    chunk = b"".join(mirror.secure(b"MSGF", bytes(8), bytes(8), b"a body of some length" * 9))
    assert server.receive(chunk[:16], chunk[16:])[8:] == b"a body of some length" * 9
    for at in (3, 9, 20, 60, len(chunk) - 1):
        spoilt = bytearray(chunk)
        spoilt[at] ^= 1
        with pytest.raises(SecurityError):
            server.receive(bytes(spoilt[:16]), bytes(spoilt[16:]))
    with pytest.raises(SecurityError):
        server.receive(chunk[:16], chunk[16:-3])
    room = Symmetric.room(8192)
    assert len(b"".join(server.secure(b"MSGF", bytes(8), bytes(8), bytes(room)))) <= 8192
    assert len(b"".join(server.secure(b"MSGF", bytes(8), bytes(8), bytes(room + 16)))) > 8192
