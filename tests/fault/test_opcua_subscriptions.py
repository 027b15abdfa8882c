"""Several subscriptions on one session, against node-opcua: each ends alone, all go through outages together."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from adapters.opcua.acquiring import services
from adapters.opcua.connecting import connect
from adapters.opcua.profiles import PROFILES
from gateway.contract import Filled, OpenGap, Remembered
from tests.fault.test_opcua_life import CREATE_ITEMS, CREATE_SESSION, CREATE_SUBSCRIPTION, SOON, TRANSFER, Device
from tests.support.interop import InteropServer, interop_server
from tests.support.machine import slowdown, within
from tests.support.opcua_rig import patient_device
from tests.support.opcua_wire import PUBLISH, OpcUaWire
from tests.support.wait import eventually

COUNTERS = 30
HALF = COUNTERS // 2
FAST, SLOW = range(HALF), range(HALF, COUNTERS)
PERIOD_MS = 250
READ, DELETE = 631, 847

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InteropServer]:
    folder = tmp_path_factory.mktemp("subscriptions")
    async with interop_server(folder, counters=COUNTERS, period_ms=PERIOD_MS) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def wire(server: InteropServer) -> AsyncIterator[OpcUaWire]:
    await server.tell("run")
    async with OpcUaWire("127.0.0.1", server.port) as made:
        yield made


def two_subscriptions(
    server: InteropServer, wire: OpcUaWire, connection: dict[str, Any] | None = None, **keys: Any
) -> Device:
    points = [{"point": f"p{i}", "node": server.node(f"c{i}")} for i in range(COUNTERS)]
    for point in points[HALF:]:
        point["publishing"] = "300ms"
    subscribe = {"publishing": "100ms", "sampling": "50ms", "queue": "30s"}
    config = patient_device(wire.port, [], subscribe=subscribe, points=points, connection=connection or {})
    return Device("reactor", config, **keys)


def ids(one: Device) -> list[int]:
    """Of the subscriptions, as the adapter has noted them for the process after it."""
    return [each["made"][0] for each in one.notes[-1].get("subscriptions", ())]


async def complete(one: Device) -> None:
    """Wait until the note says that all items are made."""
    await eventually(
        lambda: one.notes and len(ids(one)) == 2 and all(each["items"] for each in one.notes[-1]["subscriptions"])
    )


async def all_final(server: InteropServer, one: Device) -> list[int]:
    final: list[int] = (await server.tell("pause"))["values"]
    await eventually(lambda: all(one.last(p) == final[p] for p in range(COUNTERS)), message="the last values")
    return final


async def test_a_subscription_that_ends_without_a_word_is_made_anew_alone(
    server: InteropServer, wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "KEEP_ALIVE_S", 0.5)
    one = two_subscriptions(server, wire, **SOON)
    async with one.running(COUNTERS):
        await complete(one)
        before = ids(one)
        began_ns = time.time_ns()
        await server.tell("end", subscription=before[0])
        await within(lambda: len(one.gaps) == 1, 15, "the gap of the one that has been silent for too long")
        (gap,) = one.gaps
        assert (gap.points, gap.reason) == (tuple(FAST), "subscription-lost")
        assert 0 < gap.end - gap.start < time.time_ns() - began_ns + 1e9, "since it was heard last"
        await complete(one)
        assert ids(one)[0] != before[0]
        assert ids(one)[1] == before[1]
        one.assert_every_count(await all_final(server, one), SLOW)
        assert one.state.outages == 0
        one.assert_never_slower(2)
    assert wire.connections == 1
    assert wire.count(CREATE_SUBSCRIPTION) == 3


async def cut_off(one: Device, wire: OpcUaWire) -> None:
    """No connection any more, and the gap that the gateway begins then."""
    wire.broken = True
    wire.cut()
    await eventually(lambda: one.state.state == "down")
    # As the gateway does it: after what was received before the cut, which would end it.
    one.open = OpenGap("outage", time.time_ns(), "device-down")


async def more_counts(server: InteropServer, more: int) -> None:
    """Wait until the server has counted on."""

    async def counted() -> int:
        return int((await server.tell("run"))["values"][0])

    begun = await counted()

    async def enough() -> bool:
        return await counted() >= begun + more

    await eventually(enough)


@pytest.mark.parametrize("expired", [False, True], ids=["session kept", "session expired"])
async def test_an_outage_that_the_server_bridged_is_filled(
    server: InteropServer, wire: OpcUaWire, expired: bool
) -> None:
    one = two_subscriptions(server, wire)
    async with one.running(COUNTERS, steady=True):
        await complete(one)
        before = ids(one)
        await cut_off(one, wire)
        await more_counts(server, 8)
        if expired:
            await server.tell("expire")
        wire.broken = False
        await eventually(lambda: one.fills, 60, "the outage is filled")
        one.assert_every_count(await all_final(server, one), range(COUNTERS))
        assert [filled.gap for filled in one.fills] == ["outage"]
        assert one.fills[0].points == ()
        assert one.gaps == []
        assert ids(one) == before
    assert wire.count(TRANSFER) == expired


async def test_an_outage_that_lost_a_subscription_is_not_filled(server: InteropServer, wire: OpcUaWire) -> None:
    one = two_subscriptions(server, wire)
    async with one.running(COUNTERS, steady=True):
        await complete(one)
        before = ids(one)
        await cut_off(one, wire)
        await server.tell("end", subscription=before[1])
        wire.broken = False
        await eventually(lambda: len(one.gaps) == 1, 60, "the gap of the one that ended")
        assert (one.gaps[0].points, one.gaps[0].reason) == (tuple(SLOW), "subscription-lost")
        one.assert_every_count(await all_final(server, one), FAST)
        fills: list[Filled] = one.fills
        assert fills == []


async def test_spent_memory_for_longer_than_a_session_lives(
    server: InteropServer, wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As long as both sides need on this machine now: the server ends a session of which it hears too late.
    lives_s = min(5.0 * slowdown(), 60.0)
    monkeypatch.setattr(connect, "SESSION_TIMEOUT_S", lives_s)
    one = two_subscriptions(server, wire)
    async with one.running(COUNTERS):
        await complete(one)
        one.room.clear()
        await eventually(lambda: one.blocked)
        published, read = wire.count(PUBLISH), wire.count(READ)
        await asyncio.sleep(1.6 * lives_s)  # the session's timeout is what this test is about
        assert wire.count(PUBLISH) == published, "nothing is asked for while memory is spent"
        assert wire.count(READ) > read, "the session is kept alive by other requests"
        one.room.set()
        one.assert_every_count(await all_final(server, one), range(COUNTERS))
        assert one.state.outages == 0
        assert one.gaps == []
    assert wire.connections == 1
    assert wire.count(CREATE_SESSION) == 1


async def test_a_server_that_bears_fewer_subscriptions_than_it_says(
    server: InteropServer, wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "KEEP_ALIVE_S", 0.5)
    one = two_subscriptions(server, wire, **SOON)
    async with one.running(COUNTERS):
        await complete(one)
        try:
            await server.tell("refuse", services={"CreateSubscription": "BadTooManySubscriptions"})
            await server.tell("end", subscription=ids(one)[0])
            await eventually(lambda: one.state.state != "up", 60, "another plan is needed")
        finally:
            await server.tell("refuse", services={})
        await eventually(lambda: len(ids(one)) == 1 and one.notes[-1]["subscriptions"][0]["items"], 60)
        count = len(one.offers)
        await eventually(lambda: len(one.offers) > count)
        assert one.state.state == "up"
        await all_final(server, one)


async def left_behind(server: InteropServer, wire: OpcUaWire) -> dict[str, Any]:
    """Two subscriptions at the server as a crash leaves them; returns the note of them."""
    one = two_subscriptions(server, wire)
    async with one.running(COUNTERS):
        await complete(one)
        note = one.notes[-1]
        wire.broken = True
        wire.cut()
        await eventually(lambda: one.state.state == "down")
    wire.broken = False
    wire.requests.clear()
    assert one.notes[-1] == note, "they are still there"
    return note


def with_the_note(server: InteropServer, wire: OpcUaWire, note: dict[str, Any], **keys: Any) -> Device:
    two = two_subscriptions(server, wire, **keys)
    two.left = Remembered(note, ())
    return two


async def test_a_new_process_goes_on_with_what_an_old_one_left(server: InteropServer, wire: OpcUaWire) -> None:
    note = await left_behind(server, wire)
    before = (await server.tell("count"))["subscriptions"]
    two = with_the_note(server, wire, note)
    async with two.running(COUNTERS):
        await complete(two)
        assert ids(two) == [each["made"][0] for each in note["subscriptions"]]
        await eventually(lambda: all(len(two.values(p)) > two.start[p] for p in range(COUNTERS)), message="it goes on")
        two.assert_every_count(await all_final(server, two), range(COUNTERS))
        assert (await server.tell("count"))["subscriptions"] == before
    assert (wire.count(TRANSFER), wire.count(CREATE_SUBSCRIPTION)) == (1, 0)


def incomplete(note: dict[str, Any]) -> dict[str, Any]:
    """As it is before the items are made."""
    return {**note, "subscriptions": [{**each, "items": None} for each in note["subscriptions"]]}


def of_another_plan(note: dict[str, Any]) -> dict[str, Any]:
    return {**note, "subscriptions": [{**each, "digest": "another"} for each in note["subscriptions"]]}


@pytest.mark.parametrize("change", [incomplete, of_another_plan])
async def test_what_cannot_be_gone_on_with_is_deleted(
    server: InteropServer, wire: OpcUaWire, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    note = await left_behind(server, wire)
    before = (await server.tell("count"))["subscriptions"]
    two = with_the_note(server, wire, change(note))
    async with two.running(COUNTERS):
        await complete(two)
        assert not set(ids(two)) & {each["made"][0] for each in note["subscriptions"]}
        assert (await server.tell("count"))["subscriptions"] == before, "two deleted, two made"
    assert (wire.count(DELETE), wire.count(CREATE_SUBSCRIPTION)) == (1, 2)


def restarted(note: dict[str, Any]) -> dict[str, Any]:
    """Of a server that has been started anew since: another client's subscriptions may have the same ids."""
    return {**note, "started": note["started"] - 60_000}


def of_another_server(note: dict[str, Any]) -> dict[str, Any]:
    return {**note, "server": "urn:another"}


@pytest.mark.parametrize("change", [restarted, of_another_server])
async def test_what_may_be_somebody_elses_is_left_alone(
    server: InteropServer, wire: OpcUaWire, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    two = with_the_note(server, wire, change(await left_behind(server, wire)))
    async with two.running(COUNTERS):
        await complete(two)
    assert (wire.count(TRANSFER), wire.count(DELETE), wire.count(CREATE_SUBSCRIPTION)) == (0, 0, 2)


async def test_a_server_that_is_known_not_to_hand_over_is_not_asked(
    server: InteropServer, wire: OpcUaWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = await left_behind(server, wire)
    monkeypatch.setitem(PROFILES, "default", dataclasses.replace(PROFILES["default"], transfer=False))
    two = with_the_note(server, wire, note)
    async with two.running(COUNTERS):
        await complete(two)
    assert (wire.count(TRANSFER), wire.count(CREATE_SUBSCRIPTION)) == (0, 2)


async def test_a_bad_node_that_is_tried_again_does_not_wear_the_disk_out(
    server: InteropServer, wire: OpcUaWire
) -> None:
    one = Device("reactor", patient_device(wire.port, [server.node("c0"), server.node("nowhere")]), retry_s=0.1)
    async with one.running(2):
        await eventually(lambda: any(each["items"] for note in one.notes[-1:] for each in note["subscriptions"]))
        noted, created = len(one.notes), wire.count(CREATE_ITEMS)
        await eventually(lambda: wire.count(CREATE_ITEMS) > created + 5, message="it is tried again")
        assert len(one.notes) == noted


async def test_a_stop_in_good_order_leaves_nothing_and_says_so(server: InteropServer, wire: OpcUaWire) -> None:
    one = two_subscriptions(server, wire)
    before = (await server.tell("count"))["subscriptions"]
    async with one.running(COUNTERS):
        await complete(one)
        assert (await server.tell("count"))["subscriptions"] == before + 2
    assert one.notes[-1] == {}
    assert (await server.tell("count"))["subscriptions"] == before
