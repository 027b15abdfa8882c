"""The simulated centre behind a real Mosquitto: nothing is missed, doubles are seen, the account is checked."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import paho.mqtt.client as mqtt
import pytest
import zstandard
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from simulators.centre.report import Missing, Source
from simulators.centre.subscriber import Centre
from tests.support.broker import Mosquitto
from tests.support.listener import leave
from tests.support.messages import (
    ENTERPRISE,
    GATEWAY,
    STREAM,
    TOPIC,
    account,
    catalogue,
    columns,
    entry,
    head,
    readings,
    stream_closed,
)
from tests.support.wait import eventually_sync

PATIENT_S = 60.0
"""on a machine with other work to do; no test here measures it"""
BOILER = Source(ENTERPRISE, GATEWAY, STREAM, "boiler-1")


class Publisher:
    def __init__(self, broker: Mosquitto) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.connect(broker.host, broker.port)
        self._client.loop_start()

    def send(self, message: dict[str, Any], leaf: str = "boiler-1/readings", *, retain: bool = False) -> None:
        self.send_bytes(orjson.dumps(message), leaf, retain=retain)

    def send_bytes(self, payload: bytes, leaf: str, *, retain: bool = False, encoding: str | None = None) -> None:
        properties = Properties(PacketTypes.PUBLISH)
        if encoding:
            properties.UserProperty = ("content-encoding", encoding)
        sent = self._client.publish(f"{TOPIC}/{leaf}", payload, qos=1, retain=retain, properties=properties)
        sent.wait_for_publish(PATIENT_S)
        assert sent.is_published()

    def close(self) -> None:
        leave(self._client)


@pytest.fixture
def broker() -> Iterator[Mosquitto]:
    with Mosquitto(persistence=True) as broker:
        yield broker


@pytest.fixture
def publisher(broker: Mosquitto) -> Iterator[Publisher]:
    publisher = Publisher(broker)
    yield publisher
    publisher.close()


@pytest.mark.parametrize("mqtt311", [False, True], ids=["mqtt5", "mqtt311"])
def test_from_broker_to_account(broker: Mosquitto, publisher: Publisher, tmp_path: Path, mqtt311: bool) -> None:
    publisher.send(catalogue(), "boiler-1/catalogue/0", retain=True)
    with Centre(broker.url, "iiot/v1/#", tmp_path / "c.db", mqtt311=mqtt311) as centre:
        centre.wait_ready(PATIENT_S)
        publisher.send(readings(0, [1, 2]))
        publisher.send_bytes(gzip.compress(orjson.dumps(columns(2, [3, 4]))), "boiler-1/readings", encoding="gzip")
        publisher.send_bytes(zstandard.compress(orjson.dumps(columns(6, [5]))), "boiler-1/readings")
        publisher.send(readings(1, [2, 3]))
        publisher.send(readings(6, [5.5]))
        publisher.send(stream_closed(0, {}), "events")
        publisher.send(
            head("status/1", state="online", time="2026-11-20T08:00:00Z", version="0", session="s"), "status"
        )
        publisher.send(account(entry(accepted=7, delivered=5, dropped={"budget": 2})), "account")
        eventually_sync(lambda: centre.taken == 9, message="all taken")
        with centre.report() as report:
            eventually_sync(report.accounts, message="the account is stored")
            assert report.errors() == {}
            assert report.missing() == [Missing(BOILER, 4, 5)]
            assert report.duplicates() == {BOILER: {1: 1, 2: 1, 6: 1}}
            assert [n for _, n, _, _ in report.conflicts()] == [6]
            assert report.states() == ["online"]
            assert [line.stored for line in report.reconcile().lines] == [5]
            assert [d.kind for d in report.reconcile().differences] == ["unaccounted"]  # the event


def test_nothing_is_missed_while_the_centre_or_the_broker_is_away(broker: Mosquitto, tmp_path: Path) -> None:
    db = tmp_path / "c.db"
    with Centre(broker.url, "iiot/v1/#", db) as centre:
        centre.wait_ready(PATIENT_S)
        first = Publisher(broker)
        first.send(readings(0, [1]))
        eventually_sync(lambda: centre.taken == 1)
    for n in range(1, 60):
        first.send(readings(n, [n]))
    first.close()
    with Centre(broker.url, "iiot/v1/#", db) as centre:
        eventually_sync(lambda: centre.taken == 59, message="what the broker kept")
        broker.restart()
        centre.wait_ready(PATIENT_S)
        second = Publisher(broker)
        second.send(readings(60, [60]))
        second.send(account(entry(accepted=61)), "account")
        eventually_sync(lambda: centre.taken >= 60)
        second.close()
        with centre.report() as report:
            eventually_sync(lambda: report.reconcile().exact, message="account agrees")
            assert report.missing() == []
            assert report.conflicts() == []


def test_command_line(broker: Mosquitto, publisher: Publisher, tmp_path: Path) -> None:
    db = tmp_path / "c.db"
    command = [sys.executable, "-m", "simulators.centre"]
    arguments = ["run", "--broker", broker.url, "--topic", "iiot/v1/#", "--db", str(db)]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("centre: mqtt://")
            publisher.send(readings(0, [1, 2, 3]))
            publisher.send(account(entry(accepted=3)), "account")
            done = eventually_sync(lambda: _report(command, db, exact=True), PATIENT_S, "exact report")
        finally:
            process.terminate()
        assert process.wait(PATIENT_S) == 0
    assert done["readings"] == 3
    assert done["differences"] == []


def _report(command: list[str], db: Path, *, exact: bool) -> dict[str, Any]:
    outcome = subprocess.run([*command, "report", str(db), "--json"], capture_output=True, text=True, check=False)
    summary: dict[str, Any] = json.loads(outcome.stdout)
    assert outcome.returncode == (0 if summary["exact"] else 1)
    return summary if summary["exact"] is exact else {}


def test_a_broker_url_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected mqtt://HOST:PORT"):
        Centre("http://127.0.0.1", "#", tmp_path / "c.db")
    with pytest.raises(FileNotFoundError, match=r"no \*\.schema\.json"):
        Centre("mqtt://127.0.0.1", "#", tmp_path / "c.db", schemas=tmp_path)
