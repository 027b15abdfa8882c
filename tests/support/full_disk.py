"""A gateway whose log lies on a small disk, which somebody else fills to the last byte and frees again."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from gateway.log.view import LogView
from simulators.centre.report import Report
from tests.support.crash_log import Held
from tests.support.crash_plant import counting_device, counting_file, recorder, recorder_file
from tests.support.faulty_machine import FaultyMachine
from tests.support.rig import Delivery, GatewayProcess
from tests.support.wait import eventually

SIZE: Final = "8m"
KILLS: Final = (None, "while full", "after")
PATIENCE_S: Final = 60.0
STALLED: Final = "the log is not written"


class FullDisk(Protocol):
    """A small disk."""

    folder: Path
    environment: dict[str, str]
    """what a program on it must find in its environment"""

    def fill(self) -> None:
        """Somebody else takes all the room that there is."""

    def free(self) -> None:
        """And gives it back."""


class MountedDisk:
    """The folder where it is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """To the last byte."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(65_536))
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        """And gives it back."""
        self._ballast.unlink()


class PretendedDisk:
    """One that says so below the program's libc: where nothing may be mounted."""

    def __init__(self, machine: FaultyMachine) -> None:
        self.folder = machine.disk
        self.environment = machine.environment()
        self.fill = machine.fill
        self.free = machine.mend


@contextlib.contextmanager
def full_disk(parent: Path, size: str, *, mounted: bool = True) -> Iterator[FullDisk]:
    """A tmpfs of `size`, such as 8m, or a pretended disk where that is not wanted or not permitted."""
    folder = parent / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mounted and shutil.which("mount") and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
        try:
            yield MountedDisk(folder)
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    else:
        (parent / "machine").mkdir()
        with FaultyMachine(parent / "machine") as machine:
            yield PretendedDisk(machine)


class _Rig:
    def __init__(self, gateway: GatewayProcess, delivery: Delivery, disk: FullDisk) -> None:
        self.gateway = gateway
        self.delivery = delivery
        self.disk = disk
        self.held = Held()

    def stored(self) -> int:
        with self.delivery.report() as report:
            return report.total()

    async def goes_on(self) -> None:
        """What is read from now on is delivered, by a gateway that has not ended."""
        before = self.stored()
        await eventually(lambda: self.stored() > before + 200 or not self.gateway.alive, PATIENCE_S, "more comes")
        assert self.gateway.alive, self.gateway.output

    async def until_full(self) -> None:
        told = self.gateway.output.count(STALLED)

        def full() -> bool:
            self.disk.fill()
            return self.gateway.output.count(STALLED) > told

        await eventually(full, PATIENCE_S, "the log has no room")
        assert self.gateway.alive, self.gateway.output

    async def one_round(self, killed: str | None) -> None:
        """Fill, perhaps kill and start again while it is full or just after, free."""
        pid = self.gateway.pid
        await self.until_full()
        if killed == "while full":
            self.gateway.kill()
            self.gateway.start(**self.disk.environment)
        self.disk.free()
        if killed == "after":
            self.gateway.kill()
            self.gateway.start(**self.disk.environment)
        await self.goes_on()
        assert killed or self.gateway.pid == pid, "it went on by itself"
        self.held.learn(self.gateway.log)

    def flaws(self, report: Report, *, may_drop: bool) -> list[str]:
        self.held.learn(self.gateway.log)
        reconciliation = report.reconcile()
        found = [f"{kind}: {count} messages" for kind, count in report.errors().items()]
        found += [f"offset {n} of {source} came with two contents" for source, n, _, _ in report.conflicts()]
        found += [f"the account: {difference}" for difference in reconciliation.differences]
        if not may_drop:
            found += [f"missing: {missing}" for missing in report.missing()]
            found += [] if reconciliation.exact else ["not everything accepted is delivered and stored"]
        other = sum(self.held.compare(device, report.readings(device)) for device in ("counter", "recorder"))
        if other or self.held.differing:
            found.append(f"{other} readings at the centre, {self.held.differing} in the log are not what was held")
        if len({count.source.stream for count in report.counts()}) != 1:
            found.append("a full disk broke a stream")
        with LogView(self.gateway.log) as view:
            return found + [f"{damage.file}: {damage.what}" for damage in view.verify(lambda _: None)]


async def disk_full_rounds(
    folder: Path, *, when_full: str, rounds: int, chance: random.Random, mounted: bool = True
) -> list[str]:
    """Fill and free so often, with kills in between; returns what is wrong in the end.

    Raises AssertionError where the gateway ends by itself or does not go on.
    """
    async with counting_device() as counter, recorder() as texts:
        files = [counting_file(counter.url, 10), recorder_file(texts.url)]
        with full_disk(folder, SIZE, mounted=mounted) as disk, Delivery(folder) as delivery:
            log = {"path": str(disk.folder / "log"), "commit": "50ms", "budget": "100MB", "when_full": when_full}
            with GatewayProcess(folder, files, log=log, destinations=[delivery.destination()]) as gateway:
                gateway.log = disk.folder / "log"
                rig = _Rig(gateway, delivery, disk)
                gateway.start(**disk.environment)
                await rig.goes_on()
                for _ in range(rounds):
                    await rig.one_round(chance.choice(KILLS))
                assert await delivery.stop(gateway) == 0, gateway.output
                with delivery.report() as report:
                    return rig.flaws(report, may_drop=when_full == "drop-oldest")
