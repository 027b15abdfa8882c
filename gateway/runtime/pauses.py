"""Devices that somebody has paused: kept in a file beside the log, so that a restart does not ask them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from gateway.contract.clock import Clock
from gateway.rfc3339 import rfc3339
from gateway.runtime.gate import Held

log = logging.getLogger(__name__)

FILE_NAME: Final = "paused.json"
_S: Final = 1_000_000_000
REASON: Final = "paused"
"""of the gap"""


class Pause(NamedTuple):
    """One device's."""

    since: str
    """RFC 3339"""
    by: str
    """who asked for it; empty where that is not known"""

    @property
    def held(self) -> Held:
        """For the device's gate."""
        who = f" by {self.by}" if self.by else ""
        return Held(REASON, f"paused{who} since {self.since}; `edge-gateway resume` lets it be asked again")


class Pauses:
    """What is paused; a file that cannot be read pauses every device, because the plant comes first."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path = folder / FILE_NAME
        self._clock = clock
        self._saving = asyncio.Lock()
        self._unreadable: Pause | None = None
        self._paused: dict[str, Pause] = {}
        self._load()

    def of(self, device: str) -> Pause | None:
        """The device's pause, if it is paused."""
        return self._paused.get(device, self._unreadable)

    def new(self, by: str) -> Pause:
        """One that begins now."""
        return Pause(self._now(), by)

    async def pause(self, devices: Iterable[str], by: str) -> None:
        """Remember these. Raises OSError when that cannot be kept for the next start."""
        fresh = [device for device in devices if device not in self._paused]
        self._paused.update(dict.fromkeys(fresh, self.new(by)))
        for device in fresh:
            _audit("paused", device, by)
        await self._save()

    async def resume(self, devices: Iterable[str], by: str, known: Iterable[str]) -> None:
        """Forget these. `known`: every device, for a file that could not be read. Raises OSError; then all stays."""
        if self._unreadable is not None:
            self._paused = dict.fromkeys(known, self._unreadable)
            self._unreadable = None
        before = dict(self._paused)
        lifted = [device for device in devices if self._paused.pop(device, None) is not None]
        try:
            await self._save()
        except OSError:
            self._paused = before
            raise
        for device in lifted:
            _audit("resumed", device, by)

    def _now(self) -> str:
        """To the second: people read it."""
        return rfc3339(self._clock.time_ns() // _S * _S)

    async def _save(self) -> None:
        if self._unreadable is not None:
            return  # it says that all are paused, and that holds
        async with self._saving:
            devices = {device: pause._asdict() for device, pause in self._paused.items()}
            await asyncio.to_thread(_write, self._path, {"version": 1, "devices": devices})

    def _load(self) -> None:
        try:
            content = orjson.loads(self._path.read_bytes())
            self._paused = {device: Pause(each["since"], each["by"]) for device, each in content["devices"].items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            self._unreadable = Pause(self._now(), "")
            log.error(
                "%s cannot be read (%s): every device is taken for paused until `edge-gateway resume --all`",
                self._path,
                error,
            )


def _audit(what: str, device: str, by: str) -> None:
    """The place for an audit entry of who paused or resumed what; until there is an audit, the log line is it."""
    log.warning("%s: %s%s", device, what, f" by {by}" if by else "")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file, durably: a power cut leaves the old one or the new. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
