"""A time range is sent again: the same offsets in lane replay, behind everything else; the account stays as it was.

Also where the centre confirms: then a replay is done when the centre has all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
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
from gateway.publishing.replays import Replay, Request, all_replays, cancel, put_request
from gateway.publishing.selection import Selection
from gateway.publishing.statistics import Confirming
from simulators.centre.subscriber import Centre
from simulators.plant.modbus import ModbusDevice
from tests.support.answering import AnsweringCentre, Asked, answer
from tests.support.broker import Mosquitto
from tests.support.destination import Plant, delivered, running
from tests.support.fakelog import NOW, readings
from tests.support.rig import START_S, GatewayProcess, write_yaml
from tests.support.subscriber import Received, Subscriber
from tests.support.tcp_pipe import TcpPipe
from tests.support.wait import eventually

NARROW = {"bandwidth": "40KB/s", "format": "columns"}
"""a reading takes some ten bytes in columns: 20,000 take five seconds or more"""


class Box:
    """A plant with the real state.db."""

    def __init__(self, folder: Path) -> None:
        self.state = StateStore(folder / "state.db")
        state: Any = self.state
        self.plant = Plant(state=state)

    def add(self, batches: int, size: int = 100) -> None:
        for k in range(batches):
            self.plant.log.append(readings(size, start=k * size))

    def add_texts(self) -> None:
        """Four, of which the two in the middle are long."""
        values = np.empty(4, object)
        values[:] = ["short", "x" * 5000, "y" * 5000, "short"]
        texts = Batch.of("boiler-1", ValueType.STRING, [0, 1, 2, 0], values, received_time=NOW, monotonic=0)
        self.plant.log.append(BatchRecord("S1", texts))

    def publisher(self, broker: Mosquitto | int, **keys: Any) -> Publisher:
        state: Any = self.state
        return Plant(self.plant.log, state).publisher(broker, **keys)

    def ask(self, count: int, since_ms: int = 0, until_ms: int = 10_000, **keys: Any) -> Replay:
        """For everything in the log up to now; `count` as the command would have found it."""
        selection = Selection(NOW + since_ms * 10**6, NOW + until_ms * 10**6)
        request = Request("centre", selection, 0, self.plant.log.end, count, NOW, "engineer")
        return put_request(self.state, request._replace(**keys))

    def replay(self, id: int = 1) -> Replay:
        return next(one for one in all_replays(self.state) if one.id == id)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.state.close()


@asynccontextmanager
async def receiving(**keys: Any) -> AsyncIterator[tuple[Mosquitto, Subscriber]]:
    async with Mosquitto(**keys) as broker:
        with Subscriber(broker.port) as centre:
            yield broker, centre
            assert centre.errors == []


def replayed(centre: Subscriber) -> list[Received]:
    return [message for message in list(centre.messages) if message.document.get("lane") == "replay"]


def replayed_offsets(centre: Subscriber, device: str = "boiler-1") -> list[int]:
    found = [message.document for message in replayed(centre)]
    return [n for one in found if one["device"] == device for n in range(one["n"], one["n"] + one["count"])]


async def test_delivered_readings_are_sent_again_and_the_account_does_not_move(box: Box) -> None:
    box.add(10)
    async with receiving() as (broker, centre), running(box.publisher(broker)) as publisher:
        await eventually(lambda: delivered(publisher, 1000))
        before = publisher.statistics().total
        box.ask(500, since_ms=25, until_ms=75)
        await eventually(lambda: box.replay().state == "done", 20)
        await eventually(lambda: len(replayed_offsets(centre)) == 500)
        assert sorted(replayed_offsets(centre)) == [100 * k + ms for k in range(10) for ms in range(25, 75)]
        sent = {(m.document["stream"], m.topic) for m in replayed(centre)}
        assert sent == {(m.document["stream"], m.topic) for m in centre.of("readings/1")}
        assert publisher.statistics().total == before
        assert (box.replay().counts["sent"], box.replay().missing) == (500, 0)
        # One that is asked for later is taken up too, and new readings go on beside it.
        box.ask(1000)
        box.plant.log.append(readings(7))
        await eventually(lambda: box.replay(2).state == "done", 20)
        await eventually(lambda: delivered(publisher, 1007))
        assert publisher.statistics().replays.waiting == 0


async def test_the_backlog_comes_first_and_is_not_sent_twice(box: Box) -> None:
    box.add(20)
    async with receiving() as (broker, centre):
        async with running(box.publisher(broker)) as publisher:
            await eventually(lambda: delivered(publisher, 2000))
            await eventually(lambda: len(centre.offsets()) == 2000)
        box.add(30)
        box.ask(5000)
        centre.messages.clear()
        async with running(box.publisher(broker, bandwidth="400KB/s")) as publisher:
            await eventually(lambda: box.replay().state == "done", 20)
            assert delivered(publisher, 5000)
        await eventually(lambda: len(replayed_offsets(centre)) == 2000)
        assert set(replayed_offsets(centre)) == set(range(2000))
        lanes = [message.document["lane"] for message in centre.of("readings/1")]
        assert lanes == sorted(lanes), "backlog, and then replay"
        assert centre.offsets() == dict.fromkeys(range(5000), 1)
        assert (box.replay().counts["sent"], box.replay().counts["waiting"]) == (2000, 3000)


async def test_an_outage_and_a_restart_in_the_middle(box: Box) -> None:
    """It goes on near where it was: what is sent twice is what was not acknowledged or not saved."""
    box.add(40, 500)
    async with receiving() as (broker, centre), TcpPipe("127.0.0.1", broker.port) as pipe:
        async with running(box.publisher(broker, format="columns")) as publisher:
            await eventually(lambda: delivered(publisher, 20_000), 20)
        box.ask(20_000)
        async with running(box.publisher(pipe.port, **NARROW)) as publisher:
            await eventually(lambda: 0 < publisher.statistics().replays.waiting < 18_000, 20)
            pipe.cut()
            await eventually(lambda: publisher.statistics().replays.waiting < 14_000, 20)
        saved = box.replay()
        assert saved.state == "running"
        assert saved.missing == publisher.statistics().replays.waiting
        async with running(box.publisher(broker, format="columns")) as publisher:
            await eventually(lambda: box.replay().state == "done", 20)
            assert delivered(publisher, 20_000)
            assert (box.replay().counts["sent"], box.replay().missing) == (20_000, 0)
        await eventually(lambda: set(replayed_offsets(centre)) == set(range(20_000)))
        assert len(replayed_offsets(centre)) < 35_000, "it did not begin anew each time"


async def test_a_cancelled_replay_ends_in_the_middle(box: Box) -> None:
    box.add(40, 500)
    async with receiving() as (broker, centre):
        async with running(box.publisher(broker, format="columns")) as publisher:
            await eventually(lambda: delivered(publisher, 20_000), 20)
        box.ask(20_000)
        async with running(box.publisher(broker, **NARROW)) as publisher:
            await eventually(lambda: 0 < publisher.statistics().replays.waiting < 18_000, 20)
            cancel(box.state, 1, NOW)
            await eventually(lambda: publisher.statistics().replays.open == 0, 20)
        assert box.replay().state == "cancelled"
        async with running(box.publisher(broker, format="columns")):
            box.plant.log.append(readings(1))
            await eventually(lambda: 20_000 in centre.offsets(), 20, "what came before is there too")
        assert 0 < box.replay().counts["sent"] <= len(replayed_offsets(centre)) < 20_000


async def test_what_the_broker_refuses_now_is_counted_and_changes_nothing(box: Box) -> None:
    """Mosquitto cuts the connection at such a refusal: the rest goes all the same, and live readings too."""
    box.add_texts()
    async with receiving() as (broker, centre), running(box.publisher(broker)) as publisher:
        await eventually(lambda: delivered(publisher, 4))
        centre.forget()
        await asyncio.to_thread(broker.change, options=["message_size_limit 3000"])
        centre.resubscribed()
        box.ask(4)
        await eventually(lambda: box.replay().state == "done", 20)
        counts = box.replay().counts
        assert (counts["sent"], counts["refused"]) == (2, 2)
        total = publisher.statistics().total
        assert (total.delivered, total.parked, total.unbalanced) == (4, 0, 0)
        assert list(box.state.items("parked/")) == []
        box.plant.log.append(readings(3))
        await eventually(lambda: delivered(publisher, 7))


async def test_what_is_parked_stays_parked(box: Box) -> None:
    """Though the broker would take it now: the account says that it is not delivered."""
    box.add_texts()
    small = receiving(options=["message_size_limit 3000"])
    async with small as (broker, centre), running(box.publisher(broker)) as publisher:
        await eventually(lambda: publisher.statistics().total.parked == 2, 20)
        await eventually(lambda: delivered(publisher, 2))
        centre.forget()
        await asyncio.to_thread(broker.change, options=["message_size_limit 100000"])
        centre.resubscribed()
        box.ask(4)
        await eventually(lambda: box.replay().state == "done", 20)
        assert (box.replay().counts["sent"], box.replay().counts["parked"]) == (2, 2)
        assert publisher.statistics().total.parked == 2
        await eventually(lambda: sorted(replayed_offsets(centre)) == [0, 3])


async def test_what_has_left_the_log_is_told(box: Box) -> None:
    """With `oldest-first`, where one lane does everything else."""
    box.add(10)
    in_order = {"catch_up": "oldest-first"}
    async with receiving() as (broker, _), running(box.publisher(broker, **in_order)) as publisher:
        await eventually(lambda: delivered(publisher, 1000))
        box.plant.log.first = 4
        box.ask(1000)
        await eventually(lambda: box.replay().state == "done", 20)
        assert (box.replay().counts["sent"], box.replay().missing) == (700, 300)


CENTRE: dict[str, Any] = {"confirm": "centre", "confirm_timeout": "200ms"}


def confirming(publisher: Publisher) -> Confirming:
    found = publisher.statistics().confirming
    assert found is not None
    return found


def waits(publisher: Publisher) -> bool:
    """For answers of the centre."""
    return confirming(publisher).unconfirmed > 0


def told(publisher: Publisher) -> tuple[int, int, int]:
    """What the account says."""
    total = publisher.statistics().total
    assert (total.unbalanced, total.waiting, total.accepted) == (0, 0, total.delivered + total.parked)
    return total.delivered, confirming(publisher).confirmed, total.parked


async def test_a_centre_that_lost_what_it_had_confirmed_gets_it_again(box: Box, tmp_path: Path) -> None:
    """A replay is done when the centre has stored it; the account says what it said, and the centre's says the same."""
    box.add(10)
    async with Mosquitto() as broker:
        with Centre(broker.url, "iiot/v1/#", tmp_path / "lost.db") as centre:
            centre.wait_ready(20)
            async with running(box.publisher(broker, **CENTRE)) as publisher:
                await eventually(lambda: delivered(publisher, 1000))
                before = told(publisher)
        assert before == (1000, 1000, 0)
        with Centre(broker.url, "iiot/v1/#", tmp_path / "new.db") as centre:
            centre.wait_ready(20)
            async with running(box.publisher(broker, **CENTRE)) as publisher:
                box.ask(1000)
                await eventually(lambda: box.replay().state == "done")
                assert centre.taken >= 1000, "it was stored before it counted as sent"
                assert (box.replay().counts["sent"], box.replay().missing) == (1000, 0)
                assert told(publisher) == before
            with centre.report() as report:
                await eventually(lambda: report.accounts() and report.reconcile().exact)
                assert (report.total(), report.errors(), report.missing(), report.conflicts()) == (1000, {}, [], [])


async def test_a_silent_centre_holds_a_replay_up_and_nothing_else(box: Box) -> None:
    """Over a restart too: what it has not answered for is sent again, and what is live is confirmed beside it."""
    box.add(10)

    def live_only(asked: Asked) -> list[dict[str, Any]]:
        return [] if asked.document["lane"] == "replay" else [asked.stored()]

    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, lambda asked: [asked.stored()]) as centre:
            for count in (1000, 1007):
                async with running(box.publisher(broker, **CENTRE)) as publisher:
                    await eventually(partial(delivered, publisher, count))
                    centre.answers = live_only
                    if not all_replays(box.state):
                        box.ask(1000)
                    await eventually(partial(waits, publisher))
                    assert told(publisher) == (count, count, 0)
                    box.plant.log.append(readings(7))
                    await eventually(partial(delivered, publisher, count + 7))
                    assert told(publisher) == (count + 7, count + 7, 0)
                    assert (box.replay().state, box.replay().counts["sent"]) == ("running", 0)
            async with running(box.publisher(broker, **CENTRE)) as publisher:
                centre.answers = lambda asked: [asked.stored()]
                await eventually(lambda: box.replay().state == "done")
                assert (box.replay().counts["sent"], box.replay().missing) == (1000, 0)
                assert told(publisher) == (1014, 1014, 0)
                again = [asked.document for asked in centre.asked if asked.document["lane"] == "replay"]
                offsets = {n for one in again for n in range(one["n"], one["n"] + one["count"])}
                assert offsets == set(range(1000))


async def test_what_the_centre_refuses_of_a_replay_stays_delivered(box: Box) -> None:
    box.add(4, 10)
    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, lambda asked: [asked.stored()]) as centre:
            async with running(box.publisher(broker, **CENTRE)) as publisher:
                await eventually(lambda: delivered(publisher, 40))
                before = told(publisher)

                def but_two(asked: Asked) -> list[dict[str, Any]]:
                    """Of all, the offsets 15 and 16."""
                    refused = asked.entry(n=15, count=2, reason="no-such-point")
                    return [answer(refused=[refused]), asked.stored()]

                centre.answers = but_two
                box.ask(40)
                await eventually(lambda: box.replay().state == "done")
                counts = box.replay().counts
                assert (counts["sent"], counts["refused"], box.replay().missing) == (38, 2, 0)
                assert told(publisher) == before == (40, 40, 0)
                assert list(box.state.items("parked/")) == []


async def test_what_was_delivered_before_the_centre_had_to_confirm_is_sent_again_and_counts_as_it_did(box: Box) -> None:
    box.add(10)
    async with Mosquitto() as broker:
        with AnsweringCentre(broker.port, lambda asked: [asked.stored()]):
            async with running(box.publisher(broker)) as publisher:
                await eventually(lambda: delivered(publisher, 1000))
            async with running(box.publisher(broker, **CENTRE)) as publisher:
                box.ask(1000)
                await eventually(lambda: box.replay().state == "done")
                assert told(publisher) == (1000, 0, 0), "the account is of first deliveries"
                assert box.replay().counts["sent"] == 1000


POINTS = 50


@asynccontextmanager
async def device(every: str) -> AsyncIterator[dict[str, Any]]:
    points = [{"point": f"p{index}", "address": f"holding {index}", "type": "uint16"} for index in range(POINTS)]
    async with ModbusDevice({"holding": dict.fromkeys(range(POINTS), 7)}) as served:
        yield {
            "device": "press-1", "adapter": "modbus", "connection": {"url": served.url, "timeout": "60s"},
            "every": every, "load": {"requests_per_s": 100}, "points": points,
        }  # fmt: skip


async def test_a_running_gateway_takes_a_request_up_and_goes_on_after_being_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(gateway: GatewayProcess, *arguments: str, code: int = 0) -> Any:
        assert main(["log", "replay", str(gateway.config), "--json", *arguments]) == code, capsys.readouterr().err
        return orjson.loads(capsys.readouterr().out)

    async with device("20ms") as file, receiving(persistence=True) as (broker, centre):
        destination = {"name": "centre", "url": broker.url, "max_grade": 2, "format": "columns"}
        with GatewayProcess(tmp_path, [file], destinations=[destination]) as gateway:
            gateway.start()
            await eventually(
                lambda: gateway.metric("edge_gateway_account_delivered_total", destination="centre") > 3000, START_S
            )
            assert gateway.stop() == 0
            (stream,) = {m.document["stream"] for m in centre.of("columns/1")}
            asked = ["--destination", "centre", "--device", "press-*", "--from", "2020-01-01", "--to", "2100-01-01"]
            seen = await asyncio.to_thread(command, gateway, *asked, "--dry-run")
            assert seen["id"] is None
            count = seen["by_device"]["press-1"]
            assert command(gateway, "--list") == {"replays": []}
            # Asked for while nothing runs.
            assert (await asyncio.to_thread(command, gateway, *asked))["id"] == 1
            capped = {**gateway.content, "destinations": [destination | {"bandwidth": "40KB/s"}]}
            write_yaml(gateway.config / "gateway.yaml", capped)
            write_yaml(gateway.config / "devices" / "press-1.yaml", {**file, "every": "5s"})
            gateway.start()
            await eventually(lambda: "replay 1 begins" in gateway.output and replayed(centre), START_S)
            gateway.kill()
            gateway.start()
            # Asked for while it runs, and nothing gets through meanwhile: none is done before the last is cancelled.
            broker.pause()
            assert (await asyncio.to_thread(command, gateway, *asked, "--by", "received"))["id"] == 2
            assert (await asyncio.to_thread(command, gateway, *asked))["id"] == 3
            command(gateway, "--cancel", "3")
            broker.go_on()
            await eventually(lambda: "replay 2 is done" in gateway.output, 60)
            assert gateway.metric("edge_gateway_replay_waiting", destination="centre") == 0
            assert gateway.metric("edge_gateway_account_difference", destination="centre") == 0
            assert gateway.stop() == 0
            first, second, third = command(gateway, "--list")["replays"]
            assert (first["state"], first["sent"] + first["waiting"], first["missing"]) == ("done", seen["readings"], 0)
            assert first["sent"] > 3000
            # What was not delivered at the stop is the newest; whatever else was asked for are events.
            again = set(range(first["sent"] - (seen["readings"] - count)))
            await eventually(lambda: set(replayed_offsets(centre, "press-1")) >= again, 20)
            assert set(centre.offsets("press-1", stream)) >= set(range(count))
            assert (second["state"], second["sent"] + second["waiting"], second["missing"]) == (
                "done", second["readings"], 0
            )  # fmt: skip
            assert (third["state"], third["sent"]) == ("cancelled", 0)
            assert gateway.output.count("replay 1 begins") == 1
            assert gateway.output.count("replay 1 goes on") <= 1
            assert "replay 3" not in gateway.output
