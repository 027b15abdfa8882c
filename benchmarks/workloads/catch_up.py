"""B6: an hour of backlog at 10,000 readings/s is delivered beside 10,000 live readings/s, without a bandwidth cap.

    python -m benchmarks.workloads.catch_up --format columns --seconds 3600

The log is what the real writer makes of the hour in compressed time, with the gateway's default commit, closed files
made into blocks; it is made once per run of the benchmarks. Then a gateway starts on a copy of it. A live reading's
delay is arrival minus its source time at the server, in whatever lane it comes, for all that were sampled from a few
seconds after the first on: what had come before the destination was reached is backlog.
"""

from __future__ import annotations

import argparse
import json as json_lines
import shutil
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.load import backlog
from benchmarks.rig.gateway_config import Delivery, write_gateway, write_opcua
from benchmarks.rig.launch import gateway_process
from benchmarks.rig.loads import opcua_server
from benchmarks.rig.measure import DRAIN_S, READY_S, progress
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import CORES, Bench, BenchmarkError, Child, core_busy_s, free_port

HOUR_S: Final = 3600
LIVE_POINTS: Final = 10_000
LIVE: Final = "load"
"""the live device"""
DELIVERY: Final = Delivery()
BATCH_S: Final = 0.2
BOUND_S: Final = BATCH_S + 2 * backlog.COMMIT_S
SETTLE_S: Final = 3.0
"""of the delay: what the device gave until the destination was reached is backlog too"""
LOOK_S: Final = 1.0
MOST_S: Final = 110.0
"""then the rate is told of what was delivered until then"""


def columns(_: float) -> Outcome:
    """The hour in `columns`."""
    return catch_up(DELIVERY, HOUR_S, 500_000)


def json(_: float) -> Outcome:
    """The hour in JSON."""
    return catch_up(Delivery(format="json"), HOUR_S, None)


def catch_up(delivery: Delivery, seconds: int, bar: float | None) -> Outcome:
    """Drain so many seconds of backlog."""
    made, filled = backlog.filled_log(seconds)
    progress(f"  filled with {filled.readings:,} readings in {filled.seconds:.0f} s, {filled.disk_bytes / 1e6:.0f} MB")
    with Bench() as bench:
        load, port = opcua_server(bench, LIVE_POINTS, rate=1.0)
        broker = bench.broker()
        receiver = _receiver(bench)
        config = bench.folder / "config"
        write_gateway(config, delivery, bench.broker_port, free_port())
        write_opcua(config, port, LIVE_POINTS, "1s")
        _copy(made, config)
        gateway = gateway_process(bench, config)
        return _watch(load, broker, receiver, gateway, filled.readings, bar)


def _receiver(bench: Bench) -> Child:
    receiver = bench.python(
        "receiver", "receive.lanes", "--port", bench.broker_port, "--delays-of", LIVE, "--any-lane",
        "--values", f"{LIVE}=double", "--values", f"{backlog.PREFIX}=double",
    )  # fmt: skip
    receiver.ask()
    return receiver


def _copy(made: Path, config: Path) -> None:
    """A log and the file beside it that says whose it is."""
    for entry in made.iterdir():
        if entry.is_dir():
            shutil.copytree(entry, config / entry.name)
        else:
            shutil.copy(entry, config / entry.name)


def _watch(load: Child, broker: Child, receiver: Child, gateway: Child, readings: int, bar: float | None) -> Outcome:
    start = _wait(receiver, gateway, backlog.PREFIX)
    _wait(receiver, gateway, LIVE)
    time.sleep(SETTLE_S)
    receiver.ask("reset")
    used, busy, moment = gateway.usage(), core_busy_s(CORES.measured), time.monotonic()
    others = broker.usage().cpu_s + load.ask("stats")["cpu_s"] + receiver.ask("stats")["cpu_s"]
    highest = used.rss
    while True:
        now = receiver.ask("stats")
        now_used, now_busy, now_moment = gateway.usage(), core_busy_s(CORES.measured), time.monotonic()
        highest = max(highest, now_used.rss)
        old = now["groups"][backlog.PREFIX]
        if old["distinct"] >= readings or now["time"] - start > MOST_S:
            break
        progress(f"  {old['distinct']:>12,} of {readings:,}; live delay {now['delay_s']}")
        time.sleep(LOOK_S)
    elapsed = now_moment - moment
    cpu = now_used.cpu_s - used.cpu_s
    rest = broker.usage().cpu_s + load.ask("stats")["cpu_s"] + now["cpu_s"] - others
    complete, live_lost = old["distinct"] >= readings, 0
    rate = old["distinct"] / max(old["last"] - old["first"], 1e-9)
    live = now["groups"][LIVE]
    if complete:
        live_lost = _rest_of_live(load, receiver)
        now = receiver.ask("stats")
    delay = now["delay_s"] or {"p50": 0.0, "p99": 0.0, "max": 0.0, "count": 0}
    wrong = old["wrong"] + live["wrong"] + old["skipped"] + old["repeated"] + now["unreadable"]
    figures = [
        Figure("backlog drained", rate, "readings/s", bar),
        Figure("live delay p99", delay["p99"] * 1e3, "ms", BOUND_S * 1e3, at_least=False),
        Figure("live delay p50", delay["p50"] * 1e3, "ms"),
        Figure("live delay max", delay["max"] * 1e3, "ms"),
        # What was left when the time was over is not lost
        Figure("lost, wrong or out of order", live_lost + wrong, "readings", 0, at_least=False),
        Figure("CPU", cpu / elapsed * 100, "% of the core"),
        Figure("RSS, the most seen", highest / 1e6, "MB"),
    ]
    details = {
        "backlog": readings,
        "others_share": max(0.0, (now_busy - busy - cpu) / elapsed),
        "load_cpu_share": rest / elapsed,
        "complete": complete,
        **{key: value for key, value in now.items() if key != "by_device"},
    }
    return Outcome(figures, details)


def _rest_of_live(load: Child, receiver: Child) -> int:
    """Stop the load and wait for what it made; how many readings never came."""
    load.ask("rate 0")
    deadline = time.monotonic() + DRAIN_S
    while True:
        made, came = load.ask("stats"), receiver.ask("stats")["groups"][LIVE]["distinct"]
        left = int(made["generated"] - made["dropped"] - came)
        if left <= 0 or time.monotonic() > deadline:
            return left + int(made["dropped"])
        time.sleep(0.2)


def _wait(receiver: Child, gateway: Child, prefix: str) -> float:
    """Until something came of these devices; monotonic seconds of it."""
    deadline = time.monotonic() + READY_S
    while True:
        group: dict[str, Any] = receiver.ask("stats")["groups"][prefix]
        if group["distinct"]:
            return float(group["first"])
        if not gateway.running() or time.monotonic() > deadline:
            raise BenchmarkError(f"nothing of {prefix} comes within {READY_S:g} s:\n{gateway.log_tail()}")
        time.sleep(0.1)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", choices=("columns", "json"), default="columns")
    parser.add_argument("--seconds", type=int, default=HOUR_S, help="of backlog")
    arguments = parser.parse_args()
    outcome = catch_up(Delivery(format=arguments.format), arguments.seconds, None)
    shown = {"figures": [figure._asdict() for figure in outcome.figures], **outcome.details}
    print(json_lines.dumps(shown, indent=1))


if __name__ == "__main__":
    main()
