"""A whole gateway among sick and healthy devices: what it said of each, and how late each one's readings came."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from paho.mqtt import client as paho

from tests.support.broker import Mosquitto
from tests.support.rig import ANSWER_S, GatewayProcess
from tests.support.subscriber import Subscriber
from tests.support.wait import eventually

POLL_S = 0.2


class Arrived(NamedTuple):
    """A reading, as a centre gets it."""

    point: str
    value: int | None
    """None where it is bad"""
    source_s: float
    """seconds since the epoch: when it was sampled"""
    arrived_s: float
    """the same clock: when it was here"""


class Change(NamedTuple):
    """A device's metric changed."""

    at: float
    """time.time() of the look that showed it"""
    up: bool


class Span(NamedTuple):
    """A gap that was told, seconds since the epoch; `end` is infinite while it lasts."""

    reason: str
    start: float
    end: float


class PlantCentre(Subscriber):
    """Keeps readings by device with the time of their arrival."""

    def __init__(self, broker: Mosquitto) -> None:
        super().__init__(broker.port)
        self.arrived: dict[str, list[Arrived]] = {}

    def _on_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        now = time.time()
        if not message.topic.endswith("/readings"):
            if message.payload:
                super()._on_message(client, userdata, message)
            return
        document = orjson.loads(
            message.payload
        )  # schemas are checked elsewhere; here it would cost the time we measure
        kept = self.arrived.setdefault(document["device"], [])
        kept.extend(
            Arrived(reading["p"], None if reading["q"] == "bad" else reading["v"], _seconds(reading["t"]), now)
            for reading in document["readings"]
        )

    def since(self, device: str, at: float) -> list[Arrived]:
        """Good readings sampled after `at`."""
        found = [reading for reading in list(self.arrived.get(device, ())) if reading.source_s > at]
        return [reading for reading in found if reading.value is not None]

    def delays_s(self, device: str, start: float, end: float) -> list[float]:
        """How late each reading came that was sampled in that time, ascending."""
        return sorted(
            reading.arrived_s - reading.source_s for reading in self.since(device, start) if reading.source_s <= end
        )

    def gaps(self, device: str) -> list[Span]:
        """What the gateway told of readings that were lost, by the newest telling of each."""
        told: dict[str, Span] = {}
        for message in self.of("gap/1"):
            event = message.document
            if event["of"] == device:
                start = _seconds(event["from"]) if event["from"] else float("-inf")
                told[event["id"]] = Span(event["reason"], start, _seconds(event["to"]) if event["to"] else float("inf"))
        return list(told.values())

    def breaks(self, device: str, start: float, end: float) -> list[tuple[Arrived, Arrived]]:
        """Pairs of readings of a point, sampled in that time, between which counts are missing; each counts by one."""
        by_point: dict[str, list[Arrived]] = {}
        for reading in self.since(device, start):
            if reading.source_s <= end:
                by_point.setdefault(reading.point, []).append(reading)
        found = []
        for readings in by_point.values():
            readings.sort(key=lambda reading: reading.source_s)
            pairs = itertools.pairwise(readings)
            found += [(early, late) for early, late in pairs if (late.value or 0) - (early.value or 0) not in (0, 1)]
        return found


class Observer:
    """Looks at the gateway's metrics all the time."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._gateway = gateway
        self.changes: dict[str, list[Change]] = {}
        self.states: list[Mapping[str, int]] = []
        """OPC UA devices by state, whenever it changed"""

    async def run(self) -> None:
        """For as long as it runs."""
        while True:
            text = await asyncio.to_thread(self._read)
            now = time.time()
            for device, value in re.findall(
                r'^edge_gateway_device_up\{.*device="(\w+)".*\} (\S+)$', text, re.MULTILINE
            ):
                changes = self.changes.setdefault(device, [])
                if not changes or changes[-1].up != bool(float(value)):
                    changes.append(Change(now, bool(float(value))))
            of_opcua = r'^edge_gateway_devices\{adapter="opcua",state="(\w+)"\} (\S+)$'
            states = {state: int(float(value)) for state, value in re.findall(of_opcua, text, re.MULTILINE)}
            states = {state: count for state, count in states.items() if count}
            if states and (not self.states or self.states[-1] != states):
                self.states.append(states)
            await asyncio.sleep(POLL_S)

    def _read(self) -> str:
        """The page as it is; a parser would take time from the gateway that is measured here."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._gateway.metrics_port}/metrics", timeout=ANSWER_S
            ) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            return ""

    def up(self, device: str) -> bool:
        """Whether the device is shown as up now."""
        return bool(self.changes.get(device)) and self.changes[device][-1].up

    async def becomes(self, device: str, up: bool, within_s: float) -> float:
        """Wait until the metric says so; returns when it did."""
        await eventually(lambda: self.up(device) == up, within_s, f"{device} {'up' if up else 'down'}")
        return self.changes[device][-1].at


@asynccontextmanager
async def observing(gateway: GatewayProcess) -> AsyncIterator[Observer]:
    """An observer at work."""
    observer = Observer(gateway)
    task = asyncio.create_task(observer.run(), name="observer")
    try:
        yield observer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def changes_told(output: str, device: str) -> list[str]:
    """Which changes of state the gateway's own log tells of a device, in order: connected, down, refused, ..."""
    told = re.findall(rf"^\S+ \S+ \w+ +{re.escape(device)}: (connected|down|refused|failed)\b", output, re.MULTILINE)
    return [str(word) for word in told]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
