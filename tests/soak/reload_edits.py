"""Random edits of a running gateway's config, right and wrong ones: nothing is lost, nothing leaks.

    python -m tests.soak.reload_edits [--edits 200] [--seed 1]

Each edit changes, adds, removes or breaks a device file or a destination and reloads. At the end the account balances,
every offset has come once, every gap that began has ended or is of a device that was taken out, and file descriptors
and memory are what they were after the first edits.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gateway.control import ask
from simulators.plant.modbus import ModbusDevice
from tests.integration.test_control import device_file, up
from tests.support.rig import START_S, Delivery, GatewayProcess, write_yaml

DEVICES = 8
SETTLED = 40
"""edits after which descriptors and memory are looked at for the first time"""
MOST_FILES = 4
MOST_KB = 16_000


class Edits:
    """One change after the other, from a seed."""

    def __init__(
        self, gateway: GatewayProcess, plant: list[ModbusDevice], destination: dict[str, Any], seed: int
    ) -> None:
        self._gateway = gateway
        self._plant = plant
        self._destination = destination
        self._draw = random.Random(seed)
        self._there = set(range(1, len(plant)))

    def one(self) -> bool:
        """Write the next; whether it is right."""
        number = self._draw.randrange(1, len(self._plant))
        file = self._gateway.config / "devices" / f"d{number}.yaml"
        keys = {"every": f"{self._draw.randrange(100, 400)}ms"}
        content = device_file(f"d{number}", self._plant[number].url, **keys)
        match self._draw.randrange(6):
            case 0 if len(self._there) > 2 and number in self._there:
                self._there.discard(number)
                file.unlink()
            case 1:
                broken = file if number in self._there else self._gateway.config / "devices" / "broken.yaml"
                before = broken.read_bytes() if broken.exists() else None
                broken.write_text(self._draw.choice(["device: [", "device: x\nevry: 1s\n", ""]), encoding="utf-8")
                assert not self._reload()["ok"]
                broken.unlink() if before is None else broken.write_bytes(before)
                return False
            case 2:
                batch = {"max_wait": f"{self._draw.randrange(50, 200)}ms"}
                destinations = [{**self._destination, "batch": batch}]
                write_yaml(
                    self._gateway.config / "gateway.yaml", {**self._gateway.content, "destinations": destinations}
                )
            case 3:
                content["points"][0] |= {"scale": self._draw.choice([0.1, 0.01, 1]), "unit": self._draw.choice("ab")}
                write_yaml(file, content)
                self._there.add(number)
            case _:
                write_yaml(file, content)
                self._there.add(number)
        outcome = self._reload()
        assert outcome["ok"], outcome
        return True

    def _reload(self) -> dict[str, Any]:
        outcome: dict[str, Any] = ask(self._gateway.log, "reload", START_S)
        return outcome


def taken(pid: int) -> tuple[int, int]:
    """Open descriptors, and resident memory in kB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), int(memory.split()[1])


async def campaign(folder: Path, edits: int, seed: int) -> list[str]:
    """What was wrong at the end."""
    wrong: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        plant = [await stack.enter_async_context(ModbusDevice({"holding": {0: 17}})) for _ in range(DEVICES)]
        delivery = stack.enter_context(Delivery(folder))
        files = [device_file(f"d{number}", device.url, every="200ms") for number, device in enumerate(plant)]
        gateway = GatewayProcess(folder, files, destinations=[delivery.destination()])
        stack.enter_context(gateway)
        gateway.start()
        await up(gateway, "d0")
        editing = Edits(gateway, plant, delivery.destination(), seed)
        began, right, first = time.monotonic(), 0, (0, 0)
        opened = plant[0].connections_opened
        for number in range(edits):
            right += await asyncio.to_thread(editing.one)
            if number == min(SETTLED, edits // 2):
                first = taken(gateway.pid)
        last = taken(gateway.pid)
        await up(gateway, "d0")
        sys.stdout.write(
            f"{edits} edits, {right} of them right, in {time.monotonic() - began:.0f} s; "
            f"descriptors {first[0]} -> {last[0]}, memory {first[1]:,} -> {last[1]:,} kB\n"
        )
        if plant[0].connections_opened != opened:
            wrong.append("the device that was never edited was connected again")
        if last[0] - first[0] > MOST_FILES + DEVICES:
            wrong.append("descriptors leak")
        if last[1] - first[1] > MOST_KB:
            wrong.append("memory grows")
        await delivery.settled(gateway)
        if gateway.metric("edge_gateway_account_difference", destination="centre") != 0:
            wrong.append("the account does not balance")
        if await delivery.stop(gateway) != 0:
            wrong.append("the gateway did not end well")
        if "Traceback" in gateway.output or "internal error" in gateway.output:
            wrong.append("it failed in a way it should not: " + gateway.output[-3000:])
        with delivery.report() as report:
            missing, conflicts = report.missing(), report.conflicts()
        if missing or conflicts:
            wrong.append(f"offsets are missing or were given twice: {missing} {conflicts}")
    return wrong


def main() -> int:
    """Returns 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(campaign(Path(folder), given.edits, given.seed))
    sys.stdout.writelines(f"WRONG: {each}\n" for each in wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
