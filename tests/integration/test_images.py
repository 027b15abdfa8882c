"""`image: 1h`: the last values of every device, for whoever comes late; no offsets, no part in the account."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.contract import Batch, ValueType
from gateway.log.records import BatchRecord, PointRecord
from simulators.centre.subscriber import Centre
from tests.support.broker import Mosquitto
from tests.support.destination import BASE, Plant, delivered, running, state_of
from tests.support.fakelog import NOW, define, readings, stream
from tests.support.subscriber import Received, Subscriber
from tests.support.wait import eventually

PATIENT_S = 60.0


def images(centre: Subscriber, device: str = "boiler-1") -> list[Received]:
    found = centre.of("image/1") + centre.of("image-columns/1")
    return [message for message in found if message.document["device"] == device]


def values(message: Received) -> dict[str, Any]:
    return {row["p"]: row["v"] for row in message.document["readings"]}


@pytest.mark.parametrize("format", ["json", "columns"])
async def test_who_comes_late_sees_points_that_do_not_change(tmp_path: Path, format: str) -> None:
    plant = Plant()
    plant.log.append(readings(9))  # p0 to p2 read 6, 7 and 8 at last
    async with Mosquitto() as broker:
        publisher = plant.publisher(broker, image="1s", format=format, compression="gzip", no_subscribers="deliver")
        async with running(publisher):
            await eventually(lambda: delivered(publisher, 9), PATIENT_S)
            with Centre(broker.url, "iiot/v1/#", tmp_path / "c.db") as late, late.report() as report:
                await eventually(lambda: len(report.image("boiler-1")) == 3, PATIENT_S)
                image = report.image("boiler-1")
                assert {p: (t - NOW, v, s) for p, (t, v, s, _) in image.items()} == {
                    f"p{k}": (1_000_000 * (6 + k), 6.0 + k, 0) for k in range(3)
                }
                plant.log.append(readings(1, start=42))
                await eventually(lambda: report.image("boiler-1")["p0"][1] == 42.0, PATIENT_S)
                assert report.image("boiler-1")["p1"][1] == 7.0
                assert (report.errors(), report.total()) == ({}, 1), "the images are no readings"
        total = publisher.statistics().total
        assert (total.accepted, total.delivered, total.unbalanced) == (10, 10, 0)


async def test_an_image_shows_what_the_destination_may_see_and_what_is() -> None:
    plant = Plant()
    secret = PointRecord("boiler-1", 3, "secret", "S3", 2, NOW, type=ValueType.FLOAT64)
    old = PointRecord("boiler-1", 4, "old", "S1", 2, NOW, type=ValueType.FLOAT64)
    raised = PointRecord("boiler-1", 5, "p2", "S3", 3, NOW, type=ValueType.FLOAT64)
    plant.log.append(stream("S3", grade=3), secret, old, raised)
    plant.log.append(readings(5, points=5), readings(6, stream_id="S3", start=10, points=6))
    plant.log.append(replace(old, retired_at=NOW + 1, catalogue=4))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, image="1s")) as publisher:
                (message,) = await eventually(lambda: images(centre)[:1], PATIENT_S)
                await eventually(lambda: publisher.statistics().total.waiting == 0, PATIENT_S)
            assert values(message).keys() == {"p0", "p1"}, "not secret, not raised to secret, not retired"
            assert "n" not in message.document
            assert {row["id"] for row in message.document["readings"]} == {
                "88.118.8/boiler-1.p0",
                "88.118.8/boiler-1.p1",
            }
            assert message.topic == f"{BASE}/boiler-1/image"
            assert centre.errors == []
            order = [m.document["schema"] for m in centre.messages]
            assert order.index("catalogue/1") < order.index("image/1")


async def test_a_relaxed_rule_shows_no_value_from_before_it() -> None:
    plant = Plant()
    plant.log.append(stream("S3", grade=3), *define("secret-1", stream_id="S3"))
    plant.log.append(readings(3, device="secret-1", stream_id="S3"))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, image="1s")) as strict:
                await eventually(lambda: strict.statistics().total.withheld == 3, PATIENT_S)
            async with running(plant.publisher(broker, image="1s", max_grade=3)) as relaxed:
                await eventually(lambda: state_of(relaxed)[0] == "online", PATIENT_S)
                plant.log.append(readings(1, device="secret-1", stream_id="S3", start=50), readings(1))
                await eventually(lambda: len(images(centre, "secret-1")) >= 2 and images(centre), PATIENT_S)
                assert relaxed.statistics().total.unbalanced == 0
            assert {tuple(values(message).items()) for message in images(centre, "secret-1")} == {(("p0", 50.0),)}


async def test_a_restart_takes_the_values_from_the_log() -> None:
    plant = Plant()
    plant.log.append(readings(9))
    for k in range(200):  # more than is looked through at once
        plant.log.append(readings(1, device="other", start=k))
    async with Mosquitto() as broker:
        keys = {"image": "1s", "no_subscribers": "deliver"}
        async with running(plant.publisher(broker, **keys)) as publisher:
            await eventually(lambda: delivered(publisher, 209), PATIENT_S)
        with Subscriber(broker.port) as centre:
            async with running(Plant(plant.log, plant.state).publisher(broker, **keys)):
                (message,) = await eventually(lambda: images(centre)[:1], PATIENT_S)
            assert values(message) == {"p0": 6.0, "p1": 7.0, "p2": 8.0}
            assert centre.of("readings/1") == []


async def test_a_large_device_comes_in_several_messages_below_the_packet_limit() -> None:
    plant = Plant()
    plant.log.append(*define("wide", count=500))
    texts = np.empty(500, object)
    texts[:] = ["x" * 100] * 499 + ["y" * 9000]
    plant.log.append(
        BatchRecord("S1", Batch.of("wide", ValueType.STRING, range(500), texts, received_time=NOW, monotonic=0))
    )
    async with Mosquitto(options=["max_packet_size 8000"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, image="2s")) as publisher:

                def complete() -> bool:
                    seen = {p for message in images(centre, "wide") for p in values(message)}
                    return seen == {f"p{k}" for k in range(499)}

                await eventually(complete, PATIENT_S, "all but the one that fits into no packet")
                assert publisher.statistics().total.parked == 1
            assert len(images(centre, "wide")) >= 499 * 100 // 8000
            assert centre.errors == []


async def test_a_broker_that_refuses_images_gets_readings_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    plant = Plant()
    acl = f"user gw\ntopic write {BASE}/status\ntopic write {BASE}/+/catalogue/+\ntopic write {BASE}/+/readings\n"
    async with Mosquitto(users={"gw": "x", "centre": "y"}, acl=acl + "user centre\ntopic read #\n") as broker:
        with Subscriber(broker.port, user="centre", password="y") as centre:
            publisher = plant.publisher(broker, image="1s", user={"name": "gw", "password": "x"})
            async with running(publisher):
                plant.log.append(readings(10))
                await eventually(lambda: f"refuses {BASE}/boiler-1/image (not-authorised)" in caplog.text, PATIENT_S)
                plant.log.append(readings(10, start=10))
                await eventually(lambda: delivered(publisher, 20), PATIENT_S)
                assert state_of(publisher)[0] == "online"
            assert images(centre) == []
