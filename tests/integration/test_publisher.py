"""The publisher against a real broker."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.contract import Batch, ValueType
from gateway.log.errors import LogFullError
from gateway.log.records import BatchRecord, EventRecord
from tests.support.broker import Mosquitto, free_port
from tests.support.campaign import exact
from tests.support.destination import (
    BASE,
    ENTERPRISE,
    Plant,
    delivered,
    make_certificates,
    running,
    saved_delivered,
    state_of,
)
from tests.support.fakelog import NOW, FakeState, define, readings, stream
from tests.support.listener import leave
from tests.support.subscriber import Received, Subscriber
from tests.support.wait import eventually

HELD_S = 60.0
"""a broker that came back before the subscriber is tried again within 30 s, the longest pause"""


def closing(centre: Subscriber) -> list[Received]:
    """The accounts of stops; an hour of the wall clock may end during a test as well."""
    return [message for message in centre.of("account/1") if message.document["period"] == "close"]


async def test_everything_arrives_once_with_catalogue_status_events_and_account() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                for k in range(20):
                    plant.log.append(readings(50, start=k * 50))
                gap = {"schema": "gap/1", "id": "g", "of": "boiler-1", "points": None, "from": None, "to": None}
                plant.log.append(EventRecord("S1", NOW, gap | {"reason": "device-down"}))
                await eventually(lambda: delivered(publisher, 1001))
            await eventually(lambda: closing(centre) and len(centre.of("status/1")) == 2)
            assert centre.errors == []
            await eventually(lambda: centre.offsets() == dict.fromkeys(range(1000), 1))
            assert len(centre.of("gap/1")) == 1
            order = [message.document["schema"] for message in centre.messages]
            assert order.index("catalogue/1") < order.index("readings/1")
            assert [message.document["state"] for message in centre.of("status/1")] == ["online", "offline"]
            (account,) = closing(centre)
            entries = {entry["device"]: entry for entry in account.document["entries"]}
            assert entries["boiler-1"]["accepted"] == entries["boiler-1"]["delivered"] == 1000
            assert entries["_events"]["accepted"] == entries["_events"]["delivered"] == 1
            assert centre.of("health/1")
            readings_message = centre.of("readings/1")[0]
            assert ["schema", "readings/1"] in [list(pair) for pair in readings_message.properties["UserProperty"]]
            assert readings_message.properties["ContentType"] == "application/json"
        with Subscriber(broker.port) as later:
            await eventually(lambda: later.of("status/1") and later.of("catalogue/1"))
            assert later.of("status/1")[0].retained
            assert later.of("status/1")[0].document["reason"] == "stopped"
    statistics = publisher.statistics()
    assert statistics.state == "stopped"
    assert statistics.total.unbalanced == 0


async def test_broker_killed_and_restarted_costs_duplicates_and_no_readings() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                for k in range(10):
                    plant.log.append(readings(50, start=k * 50))
                await eventually(lambda: publisher.statistics().total.delivered >= 50)
                centre.forget()
                await asyncio.to_thread(broker.kill)
                for k in range(10, 20):
                    plant.log.append(readings(50, start=k * 50))
                await eventually(lambda: state_of(publisher)[0] == "down")
                await asyncio.to_thread(broker.start)
                await asyncio.to_thread(centre.resubscribed)
                await eventually(lambda: delivered(publisher, 1000), HELD_S)
                for k in range(20, 30):
                    plant.log.append(readings(50, start=k * 50))
                await eventually(lambda: delivered(publisher, 1500), HELD_S)
            await eventually(lambda: set(centre.offsets()) == set(range(1500)))
            assert centre.errors == []
            lanes = {message.document["lane"] for message in centre.of("readings/1")}
            assert lanes == {"live", "backlog"}
    assert publisher.statistics().total.unbalanced == 0


async def test_broker_down_at_the_start_is_a_state_and_ends_when_it_comes() -> None:
    plant = Plant()
    broker = Mosquitto()
    plant.log.append(readings(10))
    async with running(plant.publisher(broker)) as publisher:
        await eventually(lambda: state_of(publisher)[0] == "down")
        assert "nothing listens" in state_of(publisher)[1]
        async with broker:
            with Subscriber(broker.port):
                await eventually(lambda: delivered(publisher, 10), HELD_S)
                await eventually(lambda: state_of(publisher) == ("online", ""))


async def test_receive_maximum_of_one_is_kept() -> None:
    plant = Plant()
    for k in range(30):
        plant.log.append(readings(10, start=k * 10))
    async with Mosquitto(max_inflight=1) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, batch={"max_wait": "50ms", "max_bytes": "1KB"})) as publisher:
                seen: set[int] = set()

                def done() -> bool:
                    seen.add(publisher.statistics().in_flight)
                    return delivered(publisher, 600)

                await eventually(lambda: publisher.statistics().total.delivered > 0)
                # While nobody acknowledges, the window fills to its bound and no further.
                broker.pause()
                for k in range(30):
                    plant.log.append(readings(10, start=300 + k * 10))
                await eventually(lambda: publisher.statistics().in_flight)
                done()
                broker.go_on()
                await eventually(done)
            assert max(seen) == 1
            await eventually(lambda: set(centre.offsets()) == set(range(600)))
    exact(publisher, delivered=600)


async def test_wrong_password_says_what_to_check() -> None:
    plant = Plant()
    async with Mosquitto(users={"gw": "right"}) as broker:
        publisher = plant.publisher(broker, user={"name": "gw", "password": "wrong"})
        async with running(publisher):
            await eventually(lambda: state_of(publisher)[0] == "refused")
            assert "check `user`" in state_of(publisher)[1]
            assert "wrong" not in state_of(publisher)[1].replace("wrong user name", "")


async def test_a_topic_denied_by_the_broker_stops_with_its_name() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    acl = f"user gw\ntopic write {BASE}/status\ntopic write {BASE}/+/catalogue/+\n"
    async with Mosquitto(users={"gw": "x"}, acl=acl) as broker:
        publisher = plant.publisher(broker, user={"name": "gw", "password": "x"})
        async with running(publisher):
            await eventually(lambda: state_of(publisher)[0] == "refused")
            reason = state_of(publisher)[1]
            assert f"{BASE}/boiler-1/readings (not-authorised)" in reason
            assert publisher.statistics().total.waiting == 10


async def test_messages_that_the_broker_finds_too_large_are_split() -> None:
    plant = Plant()
    plant.log.append(readings(200))
    async with Mosquitto(options=["message_size_limit 3000"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 200))
            await eventually(lambda: set(centre.offsets()) == set(range(200)))
    exact(publisher, delivered=200)


async def test_a_single_reading_that_is_too_large_is_parked() -> None:
    plant = Plant()
    values = np.empty(3, object)
    values[:] = ["short", "x" * 5000, "short"]
    batch = Batch.of("boiler-1", ValueType.STRING, [0, 1, 2], values, received_time=NOW, monotonic=0)
    plant.log.append(BatchRecord("S1", batch))
    async with Mosquitto(options=["message_size_limit 3000"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 2))
            await eventually(lambda: set(centre.offsets()) == {0, 2})
    exact(publisher, delivered=2, parked=1)
    (key,) = (key for key in plant.state.entries if key.startswith("parked/"))
    assert plant.state.get(key)[1]["reason"] == "packet-too-large"


async def test_maximum_packet_size_of_the_broker_is_kept() -> None:
    plant = Plant()
    plant.log.append(readings(500))
    async with Mosquitto(options=["max_packet_size 4000"]) as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 500))
            await eventually(lambda: centre.offsets() == dict.fromkeys(range(500), 1))
    exact(publisher, delivered=500)


async def test_without_subscribers_it_holds_and_goes_on_when_one_comes() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto() as broker, running(plant.publisher(broker)) as publisher:
        await eventually(lambda: state_of(publisher)[0] == "holding")
        assert publisher.statistics().total.delivered == 0
        with Subscriber(broker.port) as centre:
            await eventually(lambda: delivered(publisher, 10), HELD_S)
            await eventually(lambda: set(centre.offsets()) == set(range(10)))
            await eventually(lambda: state_of(publisher) == ("online", ""))


async def test_without_subscribers_it_delivers_when_told_so() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto() as broker, running(plant.publisher(broker, no_subscribers="deliver")) as publisher:
        await eventually(lambda: delivered(publisher, 10))


async def test_after_a_crash_only_what_was_not_saved_is_sent_again() -> None:
    plant = Plant()
    plant.log.append(readings(500))
    saved = FakeState()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 500))
                await eventually(lambda: saved_delivered(plant.state) == 500)
                saved.entries = dict(plant.state.entries)
                plant.log.append(readings(100, start=500))
                await eventually(lambda: delivered(publisher, 600))
            async with running(Plant(plant.log, saved).publisher(broker)) as again:
                await eventually(lambda: delivered(again, 600))
            await eventually(lambda: centre.offsets().total() == 700)
            offsets = centre.offsets()
            assert all(offsets[n] == 1 for n in range(500))
            assert all(offsets[n] == 2 for n in range(500, 600))
    assert again.statistics().total.unbalanced == 0


async def test_streams_above_the_clearance_are_withheld_and_not_shown() -> None:
    plant = Plant()
    plant.log.append(stream("S3", grade=3), *define("secret-1", stream_id="S3"))
    plant.log.append(readings(10), readings(10, device="secret-1", stream_id="S3"))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 10))
                await eventually(lambda: publisher.statistics().total.withheld == 10)
            await eventually(lambda: centre.of("account/1"))
            assert "secret-1" not in str(centre.messages)
            assert "S3" not in str(centre.messages)


@pytest.mark.parametrize("version", [5, "3.1.1"])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
async def test_columns_and_compression(version: int | str, compression: str) -> None:
    plant = Plant()
    plant.log.append(readings(100))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            publisher = plant.publisher(broker, format="columns", compression=compression, mqtt=version)
            async with running(publisher):
                await eventually(lambda: delivered(publisher, 100))
            await eventually(lambda: centre.offsets() == dict.fromkeys(range(100), 1))
            assert centre.errors == []


async def test_trimmed_backlog_is_counted_as_dropped() -> None:
    plant = Plant()
    for k in range(10):
        plant.log.append(readings(10, start=k * 10))
    broker = Mosquitto()
    async with running(plant.publisher(broker)) as publisher:
        await eventually(lambda: publisher.statistics().total.waiting == 100)
        gone = plant.log.trim(6)
        await publisher.trimmed(6, gone)
        assert publisher.statistics().total.dropped == {"budget": 50}
        async with broker:
            with Subscriber(broker.port) as centre:
                await eventually(lambda: delivered(publisher, 50), HELD_S)
                await eventually(lambda: set(centre.offsets()) == set(range(50, 100)))
    assert publisher.statistics().total.unbalanced == 0


async def test_live_readings_do_not_wait_behind_the_backlog() -> None:
    plant = Plant()
    for k in range(100):
        plant.log.append(readings(100, start=k * 100))
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, bandwidth="100KB/s")) as publisher:
                await eventually(lambda: centre.of("readings/1"))
                plant.log.append(readings(10, start=10_000))
                await eventually(lambda: 10_009 in centre.offsets())
                assert publisher.statistics().total.waiting > 5000, "under the cap half of the backlog takes 5 s"
                live = [m.document["n"] for m in centre.of("readings/1") if m.document["lane"] == "live"]
                assert live == [10_000]


async def test_stops_within_five_seconds_when_the_broker_hangs() -> None:
    plant = Plant()
    plant.log.append(readings(10))
    async with Mosquitto() as broker:
        with Subscriber(broker.port):
            publisher = plant.publisher(broker)
            task = asyncio.create_task(publisher.run())
            await eventually(lambda: delivered(publisher, 10))
            broker.pause()
            plant.log.append(readings(10))
            await eventually(lambda: publisher.statistics().in_flight)
            began = asyncio.get_running_loop().time()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert asyncio.get_running_loop().time() - began < 5.0
            broker.go_on()
    assert publisher.statistics().total.waiting == 10


async def test_what_is_in_the_log_at_the_stop_is_still_delivered() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            async with running(plant.publisher(broker, batch={"max_wait": "30s"})) as publisher:
                await eventually(lambda: state_of(publisher)[0] == "online")
                plant.log.append(readings(10))
            assert delivered(publisher, 10)
            await eventually(lambda: closing(centre))
            assert closing(centre)[0].document["entries"][0]["waiting"] == 0


async def test_the_will_speaks_when_the_gateway_dies() -> None:
    plant = Plant()
    async with Mosquitto() as broker:
        with Subscriber(broker.port) as centre:
            publisher = plant.publisher(broker)
            async with running(publisher):
                await eventually(lambda: state_of(publisher)[0] == "online")
                # Somebody else takes the session over, as after a crash: the broker publishes the will.
                thief = paho.Client(CallbackAPIVersion.VERSION2, f"{ENTERPRISE}-gw-1-centre", protocol=paho.MQTTv5)
                thief.connect("127.0.0.1", broker.port)
                thief.loop_start()
                await eventually(lambda: any(m.document["state"] == "offline" for m in centre.of("status/1")))
                leave(thief)
            will = next(m.document for m in centre.of("status/1") if m.document["state"] == "offline")
            assert "reason" not in will
            assert will["session"] == centre.of("status/1")[0].document["session"]


async def test_a_full_disk_stops_the_saving_and_not_the_delivery(caplog: pytest.LogCaptureFixture) -> None:
    class FullState(FakeState):
        full = True

        def put_many(self, changes: Any) -> list[int]:
            if self.full:
                raise LogFullError("no space left")
            return super().put_many(changes)

    state = FullState()
    plant = Plant(state=state)
    plant.log.append(readings(10))
    async with Mosquitto() as broker:
        with Subscriber(broker.port):
            async with running(plant.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 10))
                await eventually(lambda: "cannot be saved" in caplog.text)
                state.full = False
                await eventually(lambda: saved_delivered(state) == 10)


async def test_tls_with_a_trusted_and_an_untrusted_certificate(tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path)
    plant = Plant()
    plant.log.append(readings(10))
    options = [f"listener {(port := free_port())} 127.0.0.1", f"certfile {certificate}", f"keyfile {key}"]
    async with Mosquitto(options=options) as broker:
        with Subscriber(broker.port):
            url = f"mqtts://127.0.0.1:{port}"
            async with running(plant.publisher(broker, url=url)) as untrusting:
                await eventually(lambda: state_of(untrusting)[0] == "refused")
                assert "check `tls: ca`" in state_of(untrusting)[1]
            async with running(plant.publisher(broker, url=url, tls={"ca": str(ca)})) as publisher:
                await eventually(lambda: delivered(publisher, 10))


async def test_a_broker_that_wants_a_certificate_gets_one(tmp_path: Path) -> None:
    ca, certificate, key = make_certificates(tmp_path)
    plant = Plant()
    plant.log.append(readings(10))
    port = free_port()
    options = [
        f"listener {port} 127.0.0.1",
        f"cafile {ca}",
        f"certfile {certificate}",
        f"keyfile {key}",
        "require_certificate true",
    ]
    async with Mosquitto(options=options) as broker:
        with Subscriber(broker.port):
            url = f"mqtts://127.0.0.1:{port}"
            async with running(plant.publisher(broker, url=url, tls={"ca": str(ca)})) as stranger:
                await eventually(lambda: state_of(stranger)[0] in ("refused", "down"))
                assert not delivered(stranger, 10)
            tls = {"ca": str(ca), "certificate": str(certificate), "key": str(key)}
            async with running(plant.publisher(broker, url=url, tls=tls)) as publisher:
                await eventually(lambda: delivered(publisher, 10))
