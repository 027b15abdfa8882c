"""Watches the gateway's own clock: a step of it becomes a `clock/1` event in each stream, and a log line."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.contract.clock import Clock
from gateway.log.records import EventRecord

log = logging.getLogger(__name__)

EVERY_S: Final = 1.0
STEP_NS: Final = 500_000_000
"""a smaller step is told when several have come to this: NTP daemons slew what is small (ntpd: below 0.128 s)"""
APART_NS: Final = 10_000_000_000
"""between two events, so that two daemons that fight over the clock do not fill the log"""
_TOGETHER_NS: Final = 20_000_000
"""two clocks read further apart than this are read again"""
_TRIES: Final = 5
_UNSYNC: Final = 0x40
"""STA_UNSYNC of adjtimex(2)"""
_TIMESYNCD: Final = Path("/run/systemd/timesync/synchronized")
"""made by systemd-timesyncd at its first synchronisation since boot (systemd-timesyncd.service(8))"""


class Timekeeper:
    """Compares wall and monotonic time once a second; NTP slews both alike, so that only steps tell them apart."""

    def __init__(
        self,
        clock: Clock,
        streams: Callable[[], Sequence[str]],
        write: Callable[[Sequence[EventRecord]], object],
        synchronised: Callable[[], bool | None],
    ) -> None:
        self._clock = clock
        self._streams = streams
        self._write = write
        self._synchronised = synchronised
        self._ahead: int | None = None
        """wall minus monotonic time, as it was last told of"""
        self._synced = synchronised()
        self._told: int | None = None
        """ns, monotonic: when a step was last told"""

    async def run(self) -> None:
        """Look every second until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Compare the clocks now."""
        ahead = self._read()
        if ahead is None:
            return
        synced, was = self._synchronised(), self._synced
        self._synced = synced
        step = 0 if self._ahead is None else ahead - self._ahead
        if self._ahead is None:
            self._ahead = ahead
        elif abs(step) > STEP_NS and self._may_tell():
            self._ahead = ahead
            self._told = self._clock.monotonic_ns()
            log.warning(
                "clock: stepped by %+.3f s, %s; times before and after do not compare", step / 1e9, _in_words(synced)
            )
            self._tell(step, synced, "step")
        elif synced is not None and was is not None and synced != was:
            log.log(logging.INFO if synced else logging.WARNING, "clock: %s", _in_words(synced))
            self._tell(0, synced, "synchronised" if synced else "lost")

    def _may_tell(self) -> bool:
        return self._told is None or self._clock.monotonic_ns() - self._told >= APART_NS

    def _read(self) -> int | None:
        """Wall minus monotonic time, ns; None where this process was held up between the two each time."""
        for _ in range(_TRIES):
            before = self._clock.monotonic_ns()
            wall = self._clock.time_ns()
            took = self._clock.monotonic_ns() - before
            if took <= _TOGETHER_NS:
                return wall - before
        return None

    def _tell(self, step: int, synced: bool | None, reason: str) -> None:
        body: dict[str, Any] = {"schema": "clock/1", "step_ns": step, "synchronised": synced, "reason": reason}
        now = self._clock.time_ns()
        self._write([EventRecord(stream, now, dict(body)) for stream in self._streams()])


def _in_words(synced: bool | None) -> str:
    if synced is None:
        return "nobody says whether it is synchronised"
    return "it is synchronised" if synced else "it is not synchronised: see to NTP (chronyc tracking, timedatectl)"


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)); the kernel writes less than 300 bytes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 300),
    )


def synchronised(marker: Path = _TIMESYNCD) -> bool | None:
    """What the kernel knows: True or False; None where it may not be asked and systemd-timesyncd left no mark.

    The flag is cleared by whoever disciplines the clock (ntpd, chrony, timesyncd); PTP daemons may leave it set.
    """
    found = _kernel_status()
    if found is not None:
        return not found & _UNSYNC
    return True if marker.exists() else None


def _kernel_status() -> int | None:
    timex = _Timex()  # modes 0: only asks
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else int(timex.status)
