"""A broker or a centre that refuses readings is told to receivers, as `refusal/1` with an offset like any event."""

from __future__ import annotations

import numpy as np

from gateway.contract import Batch, ValueType
from gateway.log.records import BatchRecord, EventRecord
from tests.support.answering import AnsweringCentre, answer
from tests.support.broker import Mosquitto
from tests.support.destination import BASE, Plant, delivered, running, state_of
from tests.support.fakelog import NOW, define, readings, stream
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

PATIENT_S = 60.0


def told(plant: Plant) -> list[EventRecord]:
    records = [record for segment in plant.log.segments for record in segment.records]
    return [record for record in records if isinstance(record, EventRecord)]


async def test_a_reading_that_is_parked_is_told_in_its_stream_alone() -> None:
    plant = Plant(tells=True)
    plant.log.append(stream("S2", domain="research"), *define("lab-1", stream_id="S2"))
    values = np.empty(3, object)
    values[:] = ["short", "x" * 5000, "y" * 5000]
    batch = Batch.of("boiler-1", ValueType.STRING, [0, 1, 2], values, received_time=NOW, monotonic=0)
    plant.log.append(BatchRecord("S1", batch))
    async with Mosquitto(options=["message_size_limit 3000"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                (message,) = await eventually(lambda: centre.of("refusal/1"), PATIENT_S)
                await eventually(lambda: publisher.statistics().total.parked == 2, PATIENT_S)
                await eventually(lambda: delivered(publisher, 2), PATIENT_S)
            refusal = message.document
            assert message.topic == f"{BASE}/events"
            assert (refusal["of"], refusal["reason"], refusal["count"]) == ("centre", "packet-too-large", 1)
            assert (refusal["stream"], refusal["device"], refusal["n"]) == ("S1", "_events", 0)
            assert centre.errors == []
    assert [event.stream for event in told(plant)] == ["S1"], "the second for the same reason is no news"
    assert publisher.statistics().total.unbalanced == 0


async def test_a_destination_that_stands_still_is_told_in_every_stream_and_once() -> None:
    plant = Plant(tells=True)
    plant.log.append(stream("S2", domain="research"), *define("lab-1", stream_id="S2"))
    plant.log.append(readings(10))
    acl = f"user gw\ntopic write {BASE}/status\ntopic write {BASE}/+/catalogue/+\n"
    login = {"name": "gw", "password": "x"}
    async with Mosquitto(users={"gw": "x", "centre": "y"}, acl=acl + "user centre\ntopic read #\n") as broker:
        with Subscriber(broker.port, user="centre", password="y") as centre:
            async with running(plant.publisher(broker, user=login)) as publisher:
                await eventually(lambda: state_of(publisher)[0] == "refused" and told(plant), PATIENT_S)
                allowed = f"user gw\ntopic write {BASE}/#\nuser centre\ntopic read #\n"
                centre.forget()
                broker.change(acl=allowed)
                centre.resubscribed()
                await eventually(lambda: delivered(publisher, 12), PATIENT_S)
            await eventually(lambda: len(centre.of("refusal/1")) == 2, PATIENT_S)
            assert {message.document["stream"] for message in centre.of("refusal/1")} == {"S1", "S2"}
            assert {message.document["reason"] for message in centre.of("refusal/1")} == {"not-authorised"}
            assert centre.errors == []


async def test_what_a_centre_refuses_is_told_too() -> None:
    plant = Plant(tells=True)

    async with Mosquitto() as broker:
        refuse = [
            answer(refused=[{"stream": "S1", "device": "boiler-1", "n": 0, "count": 3, "reason": "no-such-point"}])
        ]
        with AnsweringCentre(broker.port, lambda asked: [*refuse, asked.stored()]), Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, confirm="centre")) as publisher:
                plant.log.append(readings(10))
                (message,) = await eventually(lambda: centre.of("refusal/1"), PATIENT_S)
                await eventually(lambda: delivered(publisher, 8), PATIENT_S)
            assert (message.document["reason"], message.document["count"]) == ("centre-no-such-point", 3)
            assert centre.errors == []
    assert publisher.statistics().total.parked == 3
