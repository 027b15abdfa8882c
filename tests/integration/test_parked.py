"""What a broker refuses for good is listed with its reason and sent again on request, and the account stays exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from gateway.commands.main import main
from gateway.contract import Batch, ValueType
from gateway.log import StateStore
from gateway.log.records import BatchRecord
from gateway.publishing.publisher import Publisher
from gateway.publishing.statistics import Counts
from tests.support.broker import Mosquitto
from tests.support.destination import BASE, Plant, delivered, running, state_of
from tests.support.fakelog import NOW, readings
from tests.support.rig import GATEWAY, write_yaml
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

SMALL = ["message_size_limit 3000"]
LARGE = ["message_size_limit 100000"]
TEXTS = ["short", "x" * 5000, "y" * 5000, "short"]


class Box:
    """A config folder, its state.db, and a plant that parks two readings, n 1 and 2, at a broker of small messages."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "config"
        (self.config / "devices").mkdir(parents=True)
        (folder / "log").mkdir()
        destinations = [{"name": "centre", "url": "mqtt://127.0.0.1", "max_grade": 1}]
        log = {"path": str(folder / "log")}
        write_yaml(self.config / "gateway.yaml", {**GATEWAY, "log": log, "destinations": destinations})
        point = {"point": "p0", "address": "holding 0", "type": "uint16"}
        device = {"device": "boiler-1", "adapter": "modbus", "connection": {"url": "tcp://127.0.0.1:1", "station": 1}}
        write_yaml(self.config / "devices" / "boiler-1.yaml", {**device, "points": [point]})
        self.state = StateStore(folder / "log" / "state.db")
        state: Any = self.state
        self.plant = Plant(state=state)
        values = np.empty(len(TEXTS), object)
        values[:] = TEXTS
        batch = Batch.of("boiler-1", ValueType.STRING, [0, 1, 2, 0], values, received_time=NOW, monotonic=0)
        self.plant.log.append(BatchRecord("S1", batch))

    async def parks(self, broker: Mosquitto, centre: Subscriber) -> None:
        """The gateway runs until two are delivered and two are parked, and stands then."""
        async with running(self.plant.publisher(broker)) as publisher:
            await two_of_four(publisher, centre)

    def entries(self) -> list[Any]:
        return [entry for _, _, entry in self.state.items("parked/")]

    def command(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
        assert main(["log", "parked", str(self.config), "--json", *arguments]) == 0
        return orjson.loads(capsys.readouterr().out)["parked"]


def counts(total: Counts) -> tuple[int, int, int, int]:
    return total.delivered, total.parked, total.waiting, total.unbalanced


async def two_of_four(publisher: Publisher, centre: Subscriber) -> None:
    """What is delivered is at the centre too: the broker, which persists nothing, may go now."""
    await eventually(lambda: counts(publisher.statistics().total) == (2, 2, 0, 0), 20, "two are parked")
    await eventually(lambda: set(centre.offsets()) == {0, 3}, 20, "two are at the centre")


def mend(broker: Mosquitto, centre: Subscriber) -> None:
    """The broker is started anew, and takes larger messages."""
    centre.forget()
    broker.change(options=LARGE)
    centre.resubscribed()


async def test_parked_readings_are_listed_and_sent_again_by_the_running_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Box(tmp_path)
    async with Mosquitto(options=SMALL) as broker:
        with Subscriber(broker.port) as centre:
            async with running(box.plant.publisher(broker)) as publisher:
                await two_of_four(publisher, centre)
                await eventually(lambda: sum(one["count"] for one in box.entries()) == 2)
                listed = box.command(capsys)
                assert sum(one["count"] for one in listed) == 2
                assert {(one["device"], one["stream"], one["reason"], one["topic"]) for one in listed} == {
                    ("boiler-1", "S1", "packet-too-large", f"{BASE}/boiler-1/readings")
                }
                # Not mended yet: refused again, and still there.
                assert all(one["resend"] for one in box.command(capsys, "--resend"))

                def refused_again() -> bool:
                    entries = box.entries()
                    back = sum(one["count"] for one in entries if "resend" not in one) == 2
                    return back and counts(publisher.statistics().total) == (2, 2, 0, 0)

                await eventually(refused_again, 20)
                mend(broker, centre)
                box.command(capsys, "--resend", "--destination", "centre")
                await eventually(lambda: counts(publisher.statistics().total) == (4, 0, 0, 0), 20)
                await eventually(lambda: box.entries() == [], 20)
                assert box.command(capsys) == []
                await eventually(lambda: set(centre.offsets()) == set(range(4)))
                lanes = {m.document["n"]: m.document["lane"] for m in centre.of("readings/1")}
                assert (lanes[1], lanes.get(2, "replay")) == ("replay", "replay")
                # The limit that was learned is forgotten: what comes now may be large again.
                box.plant.log.append(readings(200))
                await eventually(lambda: delivered(publisher, 204))
                await eventually(lambda: max(m.document["count"] for m in centre.of("readings/1")) > 30)
    box.state.close()


async def test_parked_readings_that_were_marked_while_it_stood_go_at_the_next_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Box(tmp_path)
    async with Mosquitto(options=SMALL) as broker:
        with Subscriber(broker.port) as centre:
            await box.parks(broker, centre)
            box.command(capsys, "--resend")
            mend(broker, centre)
            state: Any = box.state
            async with running(Plant(box.plant.log, state).publisher(broker)) as again:
                await eventually(lambda: counts(again.statistics().total) == (4, 0, 0, 0), 20)
            assert box.entries() == []
            async with running(Plant(box.plant.log, state).publisher(broker)) as third:
                await eventually(lambda: counts(third.statistics().total) == (4, 0, 0, 0), 20)
            await eventually(lambda: set(centre.offsets()) == set(range(4)))
    box.state.close()


async def test_what_left_the_log_or_the_clearance_is_not_sent_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    box = Box(tmp_path)
    async with Mosquitto(options=SMALL) as broker:
        with Subscriber(broker.port) as centre:
            await box.parks(broker, centre)
            box.command(capsys, "--resend")
            mend(broker, centre)
            state: Any = box.state
            box.plant.log.first = box.plant.log.end
            async with running(Plant(box.plant.log, state).publisher(broker)) as later:
                await eventually(lambda: {one["reason"] for one in box.entries()} == {"no-longer-in-the-log"}, 20)
                await eventually(lambda: counts(later.statistics().total) == (2, 2, 0, 0), 20)
            box.plant.log.first = 0
            box.command(capsys, "--resend")
            closed = Plant(box.plant.log, state).publisher(broker, domains=["research"])
            async with running(closed):
                await eventually(lambda: counts(closed.statistics().total) == (2, 0, 0, 0), 20)
                assert closed.statistics().total.withheld == 2
            async with running(Plant(box.plant.log, state).publisher(broker)) as last:
                await eventually(lambda: state_of(last)[0] == "online", 20)
                box.plant.log.append(readings(1))
                await eventually(lambda: 4 in centre.offsets(), 20, "what came before is there too")
            assert set(centre.offsets()) == {0, 3, 4}
    box.state.close()


def test_the_command_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = Box(tmp_path)
    assert main(["log", "parked", str(box.config)]) == 0
    assert capsys.readouterr().out == "nothing is parked\n"
    assert main(["log", "parked", str(box.config), "--destination", "cloud"]) == 2
    assert "expected one of centre, found 'cloud'" in capsys.readouterr().err
    box.state.close()
    (tmp_path / "log" / "state.db").write_bytes(b"not a database at all" * 100)
    assert main(["log", "parked", str(box.config)]) == 1
    assert (tmp_path / "log" / "state.db").exists(), "a look moves nothing"
    (tmp_path / "log" / "state.db").unlink()
    capsys.readouterr()
    assert main(["log", "parked", str(box.config)]) == 2
    assert "has not run" in capsys.readouterr().err
