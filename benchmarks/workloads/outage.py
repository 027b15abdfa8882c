"""A minute without a broker, in the middle of which the power fails: what is lost, and when data comes again.

    python -m benchmarks.workloads.outage

1,000 readings a second. The broker is ended, half a minute later the measured process and everything that it started
gets SIGKILL and is started anew, as a service manager would, and another half minute later the broker is back on its
port. Every value that was made is looked for at the receiver by item and tick. The sequence is the same for any
process that can be started and started again: see `Subject`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.rig.gateway_config import Delivery, write_gateway, write_opcua
from benchmarks.rig.launch import gateway_process
from benchmarks.rig.loads import opcua_server
from benchmarks.rig.measure import READY_S, progress
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import Bench, BenchmarkError, Child, free_port

ITEMS: Final = 100
RATE_HZ: Final = 10.0
PERIOD_S: Final = 1 / RATE_HZ
STEADY_S: Final = 5.0
UNTIL_KILL_S: Final = 30.0
UNTIL_BACK_S: Final = 30.0
RESTART_S: Final = 1.0
"""what a service manager waits"""
FIRST_S: Final = 60.0
"""the longest that data is waited for when the broker is back"""
SETTLE_S: Final = 20.0
"""when the load has stopped, what is missing for so long without becoming less will not come"""
LEAST_TICKS: Final = 10


class Place(NamedTuple):
    """What a subject needs to know."""

    bench: Bench
    folder: Path
    """its own, empty at the first start; what it keeps there outlives the kill"""
    opcua_port: int
    """of the load: items "ns=1;i=0" to i=ITEMS-1, security None, anonymous"""
    broker_port: int


class Subject(NamedTuple):
    """A process that is put through the outage."""

    start: Callable[[Place], Child]
    """starts it with `place.bench.start`; called again after the kill"""
    reader: str
    """"module:function" that finds the values in a message; see `benchmarks.receive.ticks.Reader`"""
    tells_gaps: bool
    """whether what is lost has to be told in gap records"""
    power_fails: bool = True
    """whether it is killed in the middle; else it is only without a broker"""


def _gateway(place: Place) -> Child:
    config = place.folder / "config"
    if not config.exists():
        write_gateway(config, Delivery(), place.broker_port, free_port())
        write_opcua(config, place.opcua_port, ITEMS, f"{PERIOD_S * 1e3:g}ms")
    return gateway_process(place.bench, config)


GATEWAY: Final = Subject(_gateway, "benchmarks.receive.ticks:readings", tells_gaps=True)


def run(_: float = 0) -> Outcome:
    """The gateway; the time that it takes is the outage's, not that of a rate."""
    return endure(GATEWAY)


def endure(subject: Subject) -> Outcome:
    """Put a process through the outage; about two minutes. Raises BenchmarkError."""
    with Bench() as bench:
        load, opcua_port = opcua_server(bench, ITEMS, rate=RATE_HZ)
        broker = bench.broker(keeps=True)
        receiver = bench.python(
            "receiver", "receive.outage", "--port", bench.broker_port, "--items", ITEMS, "--reader", subject.reader
        )
        receiver.ask()
        folder = bench.folder / "measured"
        folder.mkdir()
        place = Place(bench, folder, opcua_port, bench.broker_port)
        measured = subject.start(place)
        _wait_for_tick(receiver, measured, 1)
        time.sleep(STEADY_S)
        first = int(receiver.ask("newest"))
        time.sleep(LEAST_TICKS * PERIOD_S)
        return _sequence(subject, place, load, broker, receiver, measured, first)


def _sequence(
    subject: Subject, place: Place, load: Child, broker: Child, receiver: Child, measured: Child, first: int
) -> Outcome:
    stopped = _tick(load)
    progress(f"  the broker ends at tick {stopped}")
    broker.end()
    time.sleep(UNTIL_KILL_S)
    killed = _tick(load) if subject.power_fails else None
    if killed is not None:
        progress(f"  the process is killed at tick {killed}")
        measured.kill()
        time.sleep(RESTART_S)
        measured = subject.start(place)
    time.sleep(UNTIL_BACK_S - (RESTART_S if subject.power_fails else 0))
    receiver.ask(f"mark {stopped}")
    place.bench.broker(keeps=True)
    back = time.monotonic()
    progress(f"  the broker is back at tick {_tick(load)}")
    came = _first_data(receiver, measured)
    time.sleep(STEADY_S)
    load.ask("rate 0")
    last = _tick(load)
    account = _settled(receiver, first, last)
    details = {"first_tick": first, "broker_ended": stopped, "killed": killed, "last_tick": last, **account}
    return Outcome(_figures(subject, account, came - back, (last - first + 1) * ITEMS), details)


def _figures(subject: Subject, account: dict[str, Any], first_s: float, made: int) -> list[Figure]:
    figures = [
        Figure("first data after the broker is back", first_s, "s", 2 if subject.tells_gaps else None, at_least=False),
        Figure("made", made, "readings"),
        Figure("lost", account["lost"], "readings"),
        Figure("lost, as time", account["lost"] / ITEMS * PERIOD_S, "s"),
        Figure("arrived twice", account["twice"], "readings"),
        Figure("wrong", account["wrong"], "readings", 0, at_least=False),
    ]
    if subject.tells_gaps:
        told = account["lost_and_not_told"]
        figures.insert(1, Figure("lost and in no gap record", told, "readings", 0, at_least=False))
        figures.insert(2, Figure("gap records", account["told_s"], "s"))
    return figures


def _tick(load: Child) -> int:
    return int(load.ask("stats")["ticks"])


def _wait_for_tick(receiver: Child, measured: Child, tick: int) -> None:
    deadline = time.monotonic() + READY_S
    while receiver.ask("newest") < tick:
        if not measured.running() or time.monotonic() > deadline:
            raise BenchmarkError(f"no values come within {READY_S:g} s:\n{measured.log_tail()}")
        time.sleep(0.1)


def _first_data(receiver: Child, measured: Child) -> float:
    deadline = time.monotonic() + FIRST_S
    while (came := receiver.ask("marked")) is None:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"no data within {FIRST_S:g} s after the broker is back:\n{measured.log_tail()}")
        time.sleep(0.02)
    return float(came)


def _settled(receiver: Child, first: int, last: int) -> dict[str, Any]:
    """The account when what is missing has not become less for a while."""
    account: dict[str, Any] = receiver.ask(f"account {first} {last} {PERIOD_S * 1e9}")
    changed = time.monotonic()
    while time.monotonic() - changed < SETTLE_S:
        time.sleep(0.5)
        now = receiver.ask(f"account {first} {last} {PERIOD_S * 1e9}")
        if (now["lost"], now["gaps"]) != (account["lost"], account["gaps"]):
            changed = time.monotonic()
        account = now
    return account


if __name__ == "__main__":
    outcome = run()
    print(json.dumps({"figures": [figure._asdict() for figure in outcome.figures], **outcome.details}, indent=1))
