"""The crash campaign: a gateway under load is killed again and again while its broker comes and goes.

Each round starts a real `edge-gateway run` beside a plant that goes on, and ends it by SIGKILL: at a random moment, or
in the middle of something that is seen in the log's folder. With a `PowerCut` the kill is a failure of the power.
Nothing may be lost that the gateway had counted as accepted. At the end the centre's account must come out, and the
centre must hold what the log held.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.log.records import Series
from gateway.log.view import LogView
from simulators.centre.report import Reconciliation, Report
from tests.support import file_watch
from tests.support.crash_log import Held, where_it_hit
from tests.support.crash_plant import Plant, plant
from tests.support.file_watch import Change, FileWatch
from tests.support.forked import ForkedGateway, ForkServer
from tests.support.power_cut import Failure, Loss, PowerCut
from tests.support.rig import Delivery
from tests.support.wait import eventually

AIMS: Final = ("anywhere", "commit", "rotation", "compaction", "trim", "position save", "start-up")
HITS: Final = (*AIMS[1:], "elsewhere")
LOG: Final = {"commit": "50ms", "budget": "1MB", "when_full": "stop-acquiring"}
"""a small budget has small files, of 250 kB: so they turn over, are made into blocks and let go within seconds"""
AIM_S: Final = 4.0
"""so long a kill waits for what it is aimed at, once the gateway runs"""
TRIM_S: Final = 6.0
"""and for a trim, for which the gateway looks every 5 s"""
COLD: Final = 10
"""every tenth life begins with Python's imports; the others find them made: that makes ten times more lives an hour"""
LOOK_S: Final = 0.2
"""between two looks at what the gateway counts as accepted"""
UP_S: Final = 120.0
"""far more than a start takes"""
SETTLE_S: Final = 600.0
LOSSES: Final[tuple[Loss, ...]] = ("all", "in order", "sectors")


@dataclass(slots=True)
class Round:
    """One life of the gateway."""

    hit: str
    broker_up: bool
    accepted: dict[Series, tuple[int, int]]
    """offsets given: first, and after the last"""
    first_data_s: float | None
    """from the start of the process to the first Good reading that the log kept; None = it was killed before"""
    cold: bool
    """it began with Python's imports"""
    promised: int
    """offsets that the gateway said to have accepted, in all lives up to this one"""
    kept: int
    """offsets that the log knows of after it"""
    failure: Failure | None = None


@dataclass(slots=True)
class Outcome:
    """What there is in the end."""

    seed: int
    rounds: list[Round]
    held: Held
    reconciliation: Reconciliation
    missing: list[tuple[Series, int, int]]
    """ranges of offsets that the log gave and the centre does not have"""
    duplicates: list[tuple[Series, int, int]]
    """offsets that came more than once: series, offset, how often too often"""
    conflicts: list[tuple[Series, int]]
    """offsets that came with two contents"""
    errors: dict[str, int]
    differing: int
    """readings at the centre that are not what the log held"""
    damage: list[str]
    """what is not as it was written, in the log's files at the end"""
    seen: dict[str, int]
    """rotations, compactions and trims in all"""

    def flaws(self) -> list[str]:
        """What must not be, whatever was killed when; empty = everything accepted is at the centre, once and right."""
        found = [f"{kind}: {count} messages" for kind, count in self.errors.items()]
        found += [
            f"life {number}: {one.promised} offsets were counted as accepted, the log knows of {one.kept}"
            for number, one in enumerate(self.rounds, 1)
            if one.promised > one.kept
        ]
        found += [f"offsets {start} to {end - 1} of {series} are missing" for series, start, end in self.missing]
        found += [f"offset {n} of {series} came with two contents" for series, n in self.conflicts]
        found += [f"the account: {difference}" for difference in self.reconciliation.differences]
        if not self.reconciliation.exact:
            found.append("the account alone does not show that everything accepted is delivered and stored")
        if self.differing:
            found.append(f"{self.differing} readings at the centre are not what the log held")
        return found + self.damage

    @property
    def streams(self) -> int:
        """Streams that readings were written to."""
        return len({series.stream for series in self.held.next_n})


class Campaign:
    """`await Campaign(folder, seed=1, rounds=20).run()`"""

    def __init__(
        self,
        folder: Path,
        *,
        seed: int,
        rounds: int,
        cut: PowerCut | None = None,
        lie_s: float = 0.0,
        confirm: str = "broker",
        most_s: float = 1e9,
        **log: Any,
    ) -> None:
        """`cut`: the disk that the log lies on; `lie_s`: it says to have synced what it has not, up to so many seconds.
        `most_s`: no new round begins after so long. `log`: keys of the log's config that replace ours.
        """
        self._seed = seed
        self._chance = random.Random(seed)
        self._folder = folder
        self._rounds = rounds
        self._cut = cut
        self._lie_s = lie_s
        self._confirm = confirm
        self._most_s = most_s
        home = cut.folder if cut else folder
        self._log_config = {**LOG, "path": str(home / "log"), **log}
        self._held = Held()
        self._seen = dict.fromkeys(("rotation", "compaction", "trim"), 0)
        self._start_s = {True: 4.0, False: 0.5}
        """how long the last cold start took, and the last other one"""

    async def run(self, told: Callable[[str], None] = lambda _: None) -> Outcome:
        """All rounds, then a last life in which everything is delivered; `told` gets a line for each round.

        Raises AssertionError where the gateway ends by itself, does not settle, or does not stop.
        """
        delivery = Delivery(self._folder)
        aims = self._aims()
        until = time.monotonic() + self._most_s
        async with plant(self._folder) as devices:
            with delivery, self._gateway(devices, delivery) as gateway:
                rounds: list[Round] = []
                for number, aim in enumerate(aims, 1):
                    began = time.monotonic()
                    if began > until:
                        break
                    gateway.cold = number % COLD == 0
                    rounds.append(await self._round(gateway, delivery, aim))
                    told(f"round {number}: {_line(rounds[-1])}, {time.monotonic() - began:.1f} s")
                rounds.append(await self._last(gateway, delivery, devices))
                return self._outcome(rounds, delivery)

    @contextlib.contextmanager
    def _gateway(self, devices: Plant, delivery: Delivery) -> Iterator[ForkedGateway]:
        destination = delivery.destination(format="columns", confirm=self._confirm)
        with (
            ForkServer(**(self._cut.environment() if self._cut else {})) as server,
            ForkedGateway(
                self._folder, devices.files(), server, log=self._log_config, destinations=[destination]
            ) as gateway,
        ):
            gateway.log = Path(self._log_config["path"])
            gateway.log.mkdir(exist_ok=True)
            yield gateway

    async def _last(self, gateway: ForkedGateway, delivery: Delivery, devices: Plant) -> Round:
        """The life in which everything is delivered."""
        await asyncio.to_thread(delivery.broker.start)
        gateway.cold = True
        started = time.time_ns()
        gateway.start()
        await eventually(
            lambda: gateway.metric("edge_gateway_readings_accepted_total", device="recorder", adapter="modbus") > 0,
            UP_S,
            "the last life accepts readings",
        )
        await devices.fall_silent()
        await delivery.settled(gateway, SETTLE_S)
        promised = _accepted(gateway)
        assert await delivery.stop(gateway) == 0, gateway.output
        return self._learn(gateway, "ended in order", started, True, promised)

    def _aims(self) -> list[str]:
        """Each as often as the others, in an order of this seed."""
        aims: list[str] = []
        while len(aims) < self._rounds:
            aims += self._chance.sample(AIMS, len(AIMS))
        return aims[: self._rounds]

    async def _round(self, gateway: ForkedGateway, delivery: Delivery, aim: str) -> Round:
        broker = delivery.broker
        # What a broker has acknowledged it must hold: it may only die with it where the centre confirms.
        away = broker.kill if self._confirm == "centre" else broker.stop
        plan = self._chance.choice(("up", "up", "down", "goes", "comes"))
        if plan in ("up", "goes") or aim == "position save":
            await asyncio.to_thread(broker.start)
        else:
            await asyncio.to_thread(away)
        said, started = gateway.output.count("running:"), time.time_ns()
        changing = None
        with FileWatch(gateway.log) as watch:
            gateway.start()
            promises = asyncio.create_task(_promises(gateway))
            if plan in ("goes", "comes"):
                changing = asyncio.create_task(self._change(away if plan == "goes" else broker.start))
            killer = _Killer(gateway, watch, lambda: gateway.output.count("running:") > said)
            await asyncio.to_thread(killer.kill, aim, self._chance, self._start_s[gateway.cold])
            killer.count(self._seen)
        broker_up = broker.running
        gateway.kill()
        if changing is not None:
            await changing
        running = gateway.output.count("running:") > said
        if killer.running_after_s is not None:
            self._start_s[gateway.cold] = killer.running_after_s
        hit = where_it_hit(gateway.log, aim if killer.aimed else None, running)
        failure = None
        if self._cut is not None:
            lie_s = self._chance.uniform(0.0, self._lie_s)
            failure = self._cut.fail(self._chance, lie_s=lie_s, loss=self._chance.choice(LOSSES))
        found = self._learn(gateway, hit, started, broker_up, await promises)
        found.failure = failure
        return found

    async def _change(self, how: Callable[[], None]) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, 2.0))  # the broker's own random moment
        await asyncio.to_thread(how)

    def _learn(self, gateway: ForkedGateway, hit: str, started: int, broker_up: bool, promised: int) -> Round:
        before = dict(self._held.next_n)
        first = None
        # Killed in its first start it has left no log yet.
        if list(gateway.log.glob("data-*.db")):
            first = self._held.learn(gateway.log)
        given = {
            series: (before.get(series, 0), n) for series, n in self._held.next_n.items() if n > before.get(series, 0)
        }
        first_data_s = None if first is None else (first - started) / 1e9
        kept = sum(self._held.next_n.values())
        return Round(hit, broker_up, given, first_data_s, gateway.cold, promised, kept)

    def _outcome(self, rounds: list[Round], delivery: Delivery) -> Outcome:
        with delivery.report() as report:
            devices = {series.device for series in self._held.readings}
            differing = sum(self._held.compare(device, report.readings(device)) for device in devices)
            return Outcome(
                self._seed,
                rounds,
                self._held,
                report.reconcile(),
                self._missing(report),
                [
                    (Series(source.stream, source.device), n, times)
                    for source, offsets in report.duplicates().items()
                    for n, times in offsets.items()
                ],
                [(Series(source.stream, source.device), n) for source, n, _, _ in report.conflicts()],
                report.errors(),
                differing + self._held.differing,
                self._damage(),
                self._seen,
            )

    def _damage(self) -> list[str]:
        with LogView(Path(self._log_config["path"])) as view:
            return [f"{damage.file}: {damage.what}" for damage in view.verify(lambda _: None)]

    def _missing(self, report: Report) -> list[tuple[Series, int, int]]:
        found = [(Series(x.source.stream, x.source.device), x.first, x.last + 1) for x in report.missing()]
        last = {Series(x.source.stream, x.source.device): x.last_n + 1 for x in report.counts()}
        ends = {series: (last.get(series, 0), n) for series, n in self._held.next_n.items()}
        return found + [(series, start, end) for series, (start, end) in ends.items() if start < end]


async def _promises(gateway: ForkedGateway) -> int:
    """What it counts as accepted, looked at again and again until it ends."""
    seen = 0
    while gateway.alive:
        seen = max(seen, await asyncio.to_thread(_accepted, gateway))
        await asyncio.sleep(LOOK_S)
    return seen


def _accepted(gateway: ForkedGateway) -> int:
    """Offsets since the first life, as the account has them; 0 while it cannot be read."""
    accepted = gateway.metric("edge_gateway_account_accepted_total", destination="centre")
    return 0 if math.isnan(accepted) else int(accepted)


def _line(done: Round) -> str:
    accepted = sum(end - start for start, end in done.accepted.values())
    broker = "up" if done.broker_up else "down"
    failure = f", {done.failure.lost} of {done.failure.unsynced} changes lost" if done.failure else ""
    return f"{done.hit}, broker {broker}, {accepted} accepted{failure}"


class _Killer:
    """Waits for its moment and kills."""

    def __init__(self, gateway: ForkedGateway, watch: FileWatch, is_running: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._watch = watch
        self._is_running = is_running
        self._began = time.monotonic()
        self._changes: list[Change] = []
        self.aimed = False
        """it met what it was aimed at"""
        self.running_after_s: float | None = None

    def kill(self, aim: str, chance: random.Random, start_s: float) -> None:
        """In a thread: it ends with the process. Raises AssertionError where that has ended by itself."""
        if aim == "start-up":
            self._wait(chance.uniform(0.0, start_s))
        elif aim == "anywhere":
            while not self._runs():
                self._wait(0.05)
            self._wait(chance.uniform(0.0, 2.0))
        else:
            self.aimed = self._meet(aim, chance)
        ended = not self._gateway.alive
        if not ended:
            os.kill(self._gateway.pid, signal.SIGKILL)
        assert not ended, f"the gateway ended by itself:\n{self._gateway.output[-4000:]}"

    def _runs(self) -> bool:
        """It runs, or there is nothing to wait for."""
        if self.running_after_s is None and self._is_running():
            self.running_after_s = time.monotonic() - self._began
        late = time.monotonic() > self._began + UP_S
        return self.running_after_s is not None or late or not self._gateway.alive

    def _wait(self, seconds: float) -> None:
        self._changes += self._watch.changes(seconds)

    def _meet(self, aim: str, chance: random.Random) -> bool:
        which = chance.randint(1, {"commit": 60, "position save": 12, "rotation": 2, "compaction": 4}.get(aim, 1))
        delay = chance.choice((0.0, 0.0, chance.uniform(0.0, 0.01)))
        until: float | None = None
        while until is None or time.monotonic() < until:
            if until is None and self._runs():
                until = time.monotonic() + (TRIM_S if aim == "trim" else AIM_S)
            for change in self._watch.changes(0.05):
                self._changes.append(change)
                which -= is_of(change, aim)
                if which == 0:
                    threading.Event().wait(delay)
                    return True
        return False

    def count(self, seen: dict[str, int]) -> None:
        """Add what was done in the folder."""
        for change in [*self._changes, *self._watch.changes(0.0)]:
            if change.kind == file_watch.MOVED_FROM:
                seen["rotation"] += change.name == "new.db"
                seen["compaction"] += change.name == "compact.db"
            elif is_of(change, "trim"):
                seen["trim"] += 1


def is_of(change: Change, aim: str) -> bool:
    """Does a change in the log's folder belong to what is named?"""
    kind, name = change
    data = name.startswith("data-")
    match aim:
        case "commit":
            return kind == file_watch.MODIFY and data and name.endswith(".db-wal")
        case "position save":
            return kind == file_watch.MODIFY and name == "state.db-wal"
        case "rotation":
            return name == "new.db" and kind in (file_watch.CREATE, file_watch.MOVED_FROM)
        case "compaction":
            return name == "compact.db" and kind in (file_watch.CREATE, file_watch.MODIFY, file_watch.MOVED_FROM)
        case "trim":
            return kind == file_watch.DELETE and data and name.endswith(".db")
    return False
