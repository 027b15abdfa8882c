"""Starts plant, broker, centre and gateway, shows them, ends them in order, and prints the loss account."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from gateway.commands.demo.account import print_account
from gateway.commands.demo.children import Child, Children, DemoError, accepts, free_port
from gateway.commands.demo.plan import write_config
from gateway.commands.demo.view import Scrape, ScrapeError, scrape, screen
from simulators.centre.report import Report

OK = 0
FAILED = 1
_GATEWAY_ENDS_IN_S = 4.0
_ACCOUNT_WITHIN_S = 2.0
_PLAIN_WIDTH = 120
"""columns where the output is no terminal"""


@dataclass(frozen=True, slots=True)
class Running:
    """The demo while it runs."""

    children: Children
    gateway: Child
    metrics_url: str
    centre_db: Path
    hints: list[str]


def main(seconds: float | None, *, keep: Path | None = None) -> int:
    """Run until Ctrl-C, or for `seconds` unattended; returns 0 only if nothing was lost.

    `keep` is a folder for config, log and the centre's database, which are thrown away otherwise. Raises DemoError.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    with _ended_like_ctrl_c(), _folder(keep) as folder, Children(folder) as children:
        running = _start(children, folder, console)
        started = time.monotonic()
        if console.is_dumb_terminal or (seconds is None and not console.is_terminal):
            console.print("\n".join(running.hints), markup=False, highlight=False, soft_wrap=True)
        try:
            _watch(running, console, seconds, started)
        except KeyboardInterrupt:
            console.print("stopping ...")
        if failed := children.failed():
            raise DemoError(f"demo: the {failed.name} ended by itself; it said:\n{failed.text()[-2000:]}")
        running.gateway.ask_to_stop()
        running.gateway.end_within(_GATEWAY_ENDS_IN_S)
        with Report(running.centre_db) as report:
            _await_account(report)
            exact = print_account(report, console, time.monotonic() - started)
        if not exact:
            console.print(f"the gateway said:\n{running.gateway.text()[-2000:]}", markup=False, highlight=False)
    return OK if exact else FAILED


@contextmanager
def _ended_like_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, raise KeyboardInterrupt; otherwise folder and children would stay."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise DemoError(f"demo: {keep} is not empty; name a new folder")
        yield keep
        return
    folder = Path(tempfile.mkdtemp(prefix="edge-gateway-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(children: Children, folder: Path, console: Console) -> Running:
    console.print("starting the broker, the plant, the centre and the gateway ...")
    broker_port = free_port()
    mosquitto = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if mosquitto:
        conf = folder / "mosquitto.conf"
        # Started by root, Mosquitto becomes another user, and Linux then forgets that it must die with the demo.
        user = pwd.getpwuid(os.getuid()).pw_name
        conf.write_text(f"listener {broker_port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nuser {user}\n")
        broker = children.start("broker", [mosquitto, "-c", str(conf)])
    else:
        broker = children.python("broker", "simulators.broker", str(broker_port))
    plant_ports = ("compressor-1=0", "meter-1=0", "reactor-3=0", "control=0")
    plant = children.python("plant", "simulators.plant", "--ports", *plant_ports)
    broker.wait_for(lambda: accepts(broker_port))
    url = f"mqtt://127.0.0.1:{broker_port}"
    database = folder / "centre.db"
    old_mqtt = [] if mosquitto else ["--mqtt311"]
    centre = children.python("centre", "simulators.centre", "run", "--broker", url, "--db", str(database), *old_mqtt)
    centre.wait_for(lambda: "centre:" in centre.text() and database.exists())
    plant.wait_for(lambda: "control" in plant.text())
    urls = dict(line.split()[:2] for line in plant.text().splitlines() if "://" in line)
    metrics_port = free_port()
    config = write_config(
        folder, urls, broker=url, mqtt311=not mosquitto, metrics_port=metrics_port, log=folder / "log"
    )
    gateway = children.python("gateway", "gateway.commands.main", "run", str(config))
    gateway.wait_for(lambda: accepts(metrics_port))
    metrics = f"http://127.0.0.1:{metrics_port}/metrics"
    control = urls["control"].removeprefix("tcp://").replace(":", "/")
    hints = [
        f"broker   {url} ({'Mosquitto' if mosquitto else 'amqtt, MQTT 3.1.1'})",
        f"metrics  {metrics}   files {folder}",
        f"break    echo 'meter-1 stop' > /dev/tcp/{control}   in another bash",
        f"mend     echo 'meter-1 ok' > /dev/tcp/{control}",
        "Ctrl-C ends everything",
    ]
    return Running(children, gateway, metrics, database, hints)


def _watch(running: Running, console: Console, seconds: float | None, started: float) -> None:
    before: Scrape | None = None
    with Live(console=console, auto_refresh=False, screen=False, transient=True) as live:
        while seconds is None or time.monotonic() < started + seconds:
            if running.children.failed():
                return
            try:
                now = scrape(running.metrics_url, time.monotonic())
            except ScrapeError:
                now = before or Scrape(time.monotonic())
            if console.is_terminal:
                elapsed = time.monotonic() - started
                live.update(screen(now, before, _centre(running.centre_db), elapsed, running.hints), refresh=True)
            before = now
            left = 1.0 if seconds is None else min(1.0, started + seconds - time.monotonic())
            time.sleep(max(0.0, left))


def _centre(database: Path) -> dict[str, Any]:
    with Report(database) as report:
        counts = report.counts()
        return {
            "stored": report.total(),
            "missing": sum(count.last_n + 1 - count.stored for count in counts),
            "twice": sum(count.copies for count in counts),
            "invalid": sum(report.errors().values()),
        }


def _await_account(report: Report) -> None:
    """The gateway publishes its closing account last; the centre needs a moment to store it."""
    deadline = time.monotonic() + _ACCOUNT_WITHIN_S
    while not any(account["period"] == "close" for account in report.accounts()):
        if time.monotonic() > deadline:
            sys.stderr.write("demo: no closing account reached the centre\n")
            return
        time.sleep(0.05)
