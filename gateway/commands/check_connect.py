"""`edge-gateway check CONFIG_DIR --connect`: every device and every point, each asked once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.config.cross import CheckedDevice
from gateway.contract import AdapterError, ConfigError
from gateway.contract.trial import HasTrial, Trial, TryOut

_AT_ONCE = 16
"""devices that are asked at the same time"""


class Tried(NamedTuple):
    """One device that was asked."""

    device: CheckedDevice
    trial: Trial
    seconds: float

    @property
    def good(self) -> bool:
        """Everything answers as the device file says."""
        return self.trial.problem is None and not self.trial.failing


def try_all(devices: Sequence[CheckedDevice]) -> list[Tried]:
    """Ask all devices, several at a time, each within its budget; what goes wrong is in the result."""
    # What goes wrong is in the result; the protocol library's own words beside it would only confuse.
    logging.basicConfig(handlers=[logging.NullHandler()])
    adapters = {device.adapter.name: device.adapter for device in devices}
    # Libraries are loaded before the first connection: that takes longer than some devices are waited for.
    trials = {name: adapter.trial() for name, adapter in adapters.items() if isinstance(adapter, HasTrial)}
    return asyncio.run(_try_all(devices, trials))


async def _try_all(devices: Sequence[CheckedDevice], trials: Mapping[str, TryOut]) -> list[Tried]:
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(device: CheckedDevice) -> Tried:
        async with turns:
            began = time.monotonic()
            return Tried(device, await _try(device, trials.get(device.adapter.name)), time.monotonic() - began)

    return list(await asyncio.gather(*(one(device) for device in devices)))


async def _try(device: CheckedDevice, try_out: TryOut | None) -> Trial:
    if try_out is None:
        return Trial((), 0, f"the adapter {device.adapter.name} cannot try its points out")
    try:
        return await try_out(device.config)
    except (AdapterError, ConfigError) as error:
        return Trial((), 0, str(error))


def in_words(tried: Sequence[Tried]) -> list[str]:
    """Lines for people."""
    lines = []
    for device, trial, seconds in tried:
        name, points = device.config.device, len(device.config.points)
        if trial.problem is not None:
            place = device.source.locate(("connection", "url"))
            lines.append(f"{name}: not reached")
            lines.append(f"  {place.file}:{place.line}:{place.column}: {trial.problem}")
            continue
        took = f"({trial.requests} requests, {seconds:.1f} s)"
        if not trial.failing:
            lines.append(f"{name}: all {points} points answer {took}")
            continue
        lines.append(f"{name}: {len(trial.failing)} of {points} points fail {took}")
        for failing in trial.failing:
            place = device.source.locate(("points", failing.point))
            point = device.config.points[failing.point].point
            lines.append(f"  {place.file}:{place.line}:{place.column}: {point} ({failing.where}): {failing.reason}")
    return lines


def report(tried: Sequence[Tried]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "device": device.config.device,
            "adapter": device.adapter.name,
            "reached": trial.problem is None,
            "problem": trial.problem,
            "points": len(device.config.points),
            "requests": trial.requests,
            "seconds": round(seconds, 3),
            "failing": [
                {
                    "point": device.config.points[failing.point].point,
                    "where": failing.where,
                    "reason": failing.reason,
                    **_place(device, failing.point),
                }
                for failing in trial.failing
            ],
        }
        for device, trial, seconds in tried
    ]


def _place(device: CheckedDevice, point: int) -> dict[str, str | int]:
    place = device.source.locate(("points", point))
    return {"file": place.file, "line": place.line, "column": place.column}
