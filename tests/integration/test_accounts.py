"""Accounts over real connections: an outage or a restart delays them, large ones come in parts."""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.support.broker import Mosquitto
from tests.support.destination import Plant, delivered, running, state_of
from tests.support.fakelog import define, readings
from tests.support.scripted_broker import ScriptedBroker
from tests.support.subscriber import Received, Subscriber
from tests.support.wait import eventually

PATIENT_S = 60.0


def accounts(centre: Subscriber, period: str = "hour") -> list[Received]:
    return [message for message in centre.of("account/1") if message.document["period"] == period]


def kept(plant: Plant) -> int:
    return len(list(plant.state.items("account/centre/")))


async def test_what_was_due_in_an_outage_comes_after_it_even_after_a_restart() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    broker = Mosquitto()
    async with running(plant.publisher(broker, account="1s")) as publisher:
        await eventually(lambda: kept(plant) >= 2, PATIENT_S, "drawn up without a connection")
        assert state_of(publisher)[0] in ("down", "connecting")
    before = [key for key, _, _ in plant.state.items("account/centre/")]
    assert before[-1].endswith("/close"), "the account of an orderly stop that nobody could be told"
    async with broker:
        with Subscriber(broker.port) as centre:
            async with running(Plant(plant.log, plant.state).publisher(broker, account="1h")) as again:
                await eventually(lambda: delivered(again, 10), PATIENT_S)
                await eventually(lambda: kept(plant) == 0, PATIENT_S, "all are taken")
            await eventually(lambda: len(accounts(centre, "close")) == 2, PATIENT_S)
            told = [message.document for message in centre.of("account/1")]
            times = [document["time"] for document in told]
            assert times == sorted(times)
            assert [document["entries"][0]["waiting"] for document in (told[0], told[-1])] == [10, 0]
            assert told[-1]["complete_until"] is not None
            assert centre.errors == []
    assert kept(plant) == 0


@pytest.mark.parametrize("option", ["max_packet_size 3000", "message_size_limit 3000"])
async def test_a_large_account_is_split_below_the_limit_that_the_broker_tells_or_shows(option: str) -> None:
    plant = Plant()
    for k in range(40):
        plant.log.append(*define(f"device-{k}"), readings(1, device=f"device-{k}"))
    async with Mosquitto(options=[option]) as broker:
        with Subscriber(broker.port) as centre:

            def whole() -> bool:
                """Every part of one account came: they share the time at which it was drawn up."""
                drawn: defaultdict[str, set[str]] = defaultdict(set)
                for message in accounts(centre):
                    drawn[message.document["time"]].update(entry["device"] for entry in message.document["entries"])
                return any(len(devices) == 40 for devices in drawn.values())

            async with running(plant.publisher(broker, account="1s")) as publisher:
                await eventually(lambda: delivered(publisher, 40), PATIENT_S)
                await eventually(whole, PATIENT_S)
            assert {"part", "parts"} <= accounts(centre)[-1].document.keys()
            assert centre.errors == []


async def test_an_account_that_nobody_subscribes_to_is_kept() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        async with running(plant.publisher(broker)) as publisher:
            await eventually(lambda: state_of(publisher)[0] == "online", PATIENT_S)
        keys = [key for key, _, _ in plant.state.items("account/centre/")]
        assert sum(key.endswith("/close") for key in keys) == 1, "beside it an hour of the wall clock may have ended"
        async with running(plant.publisher(broker, no_subscribers="deliver")):
            await eventually(lambda: kept(plant) == 0, PATIENT_S)


async def test_a_broker_that_cuts_the_connection_at_an_account_gets_readings_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Some brokers answer a forbidden publish by closing: what waits must not do that at every connection."""
    plant = Plant()
    async with ScriptedBroker() as broker:

        def answer(topic: str) -> int | None:
            if topic.endswith("/account"):
                broker.cut()
                return None
            return 0

        broker.answer = answer
        async with running(plant.publisher(broker.port, account="1s")) as publisher:
            plant.log.append(readings(10))
            await eventually(lambda: "account (it cuts the connection)" in caplog.text, PATIENT_S)
            plant.log.append(readings(10, start=10))
            await eventually(lambda: delivered(publisher, 20), PATIENT_S)
            assert kept(plant) >= 1
