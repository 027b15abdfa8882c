"""Whose clock is wrong: a device's times beside ours, and what mends it. Pure.

Two things are watched: the server's own clock (ServerStatus.CurrentTime), and the times of live readings, of each batch
the greatest, minus the time at which it arrived. Times ahead of ours cannot be old values. Times behind ours can, since
an unchanged value keeps its source time (Part 4, 7.11.3), so only an offset counts that stands still while times go on.
Initial and backfilled readings are left out. Nothing is changed or held back: readings stay as they are.
"""

from __future__ import annotations

import logging
import statistics
from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from adapters.opcua.config import ClockRule, ClockShift
from adapters.opcua.decoding.batches import Moment
from gateway.contract import NO_TIME, Basis, Batch, Flag

SETTLE_S: Final = 180.0
"""for how long an offset must stand still before it is told"""
RIGHT_S: Final = 5.0
"""offsets within this are not told: transport, publishing and the steps of CurrentTime make up as much"""

_SECOND: Final = 1_000_000_000
_HALF_HOUR: Final = 1800 * _SECOND
_NEAR_ZONE: Final = 60 * _SECOND
"""a wrong zone and a clock that is up to a minute off; frozen times drift through twice this within `SETTLE_S`"""
_STILL_NEAR: Final = 90 * _SECOND
_STILL_OFF: Final = 3 * _SECOND
"""limits of what has been told, so that an offset at a limit is not told again and again"""
_FRESH: Final = 30 * _SECOND
"""times this close to ours are right, and no older values that happen to be there"""
_LATE: Final = 900 * _SECOND
"""means of a quarter of an hour, stamped with its beginning, are the latest values that are still no archive"""
_STEADY: Final = 15 * _SECOND
"""spread of an offset that is no zone's"""
_ZONES: Final = range(-24, 29)
"""in half hours; the zones in use go from UTC-12 to UTC+14 (IANA time zone database)"""
_SLOTS: Final = 12
_LEAST_SLOTS: Final = 6
_SLOTS_PER_SETTLE: Final = 10
_OLDEST: Final = 20
"""slots are forgotten after so many times the settling time"""
_STEP: Final = 2 * _SECOND
"""what wall and monotonic clock may part between two samples: time daemons slew by 500 ppm at most"""

_LOOKS_PER_SETTLE: Final = 360
"""arrivals that follow each other faster are passed over: clocks do not change so fast, and looking costs"""

_NOT_LIVE: Final = np.uint8(Flag.INITIAL | Flag.BACKFILLED)
_DOUBT: Final = "if other devices show the same, it is this gateway's clock that is wrong"

Say = Callable[[int, str], None]


class _Slot(NamedTuple):
    start: int
    """monotonic, ns"""
    greatest: int
    """offset, ns"""
    least: int
    point: int
    """whose time was the greatest"""


class _Verdict(NamedTuple):
    kind: Literal["right", "zone", "off"]
    offset: int
    """ns; positive = ahead of ours"""
    half_hours: int = 0
    partly: int | None = None
    """a point that is off while others are not"""


class _Window:
    """Offsets of the last minutes: per slot the greatest and the least."""

    def __init__(self, settle_ns: int, *, may_be_old: bool) -> None:
        """`may_be_old`: an offset below zero may come from old values rather than from a clock."""
        self._settle = settle_ns
        self._slot = settle_ns // _SLOTS_PER_SETTLE
        self._may_be_old = may_be_old
        self._slots: deque[_Slot] = deque(maxlen=_SLOTS)
        self._since = 0

    def add(self, monotonic: int, greatest: int, least: int, point: int = -1) -> bool:
        """Take a sample; True when it begins a new slot."""
        slots = self._slots
        if slots and monotonic - slots[-1].start < self._slot:
            last = slots[-1]
            if greatest > last.greatest:
                last = last._replace(greatest=greatest, point=point)
            if least < last.least:
                last = last._replace(least=least)
            slots[-1] = last
            return False
        self._since = self._since if slots else monotonic
        slots.append(_Slot(monotonic, greatest, least, point))
        while monotonic - slots[0].start > _OLDEST * self._settle:
            slots.popleft()
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._slots.clear()

    def age(self) -> int:
        """ns from the first sample to the newest slot."""
        return self._slots[-1].start - self._since if self._slots else 0

    def heard_since(self, monotonic: int) -> bool:
        """Whether there is a sample of that moment or later."""
        return bool(self._slots) and self._slots[-1].start + self._slot > monotonic

    def offset(self) -> int | None:
        """ns, the usual one."""
        return round(statistics.median(slot.greatest for slot in self._slots)) if self._slots else None

    def verdict(self, said: str | None) -> _Verdict | None:
        """None while the samples are too few or do not agree; `said`: the kind of verdict that has been told."""
        # The slot that has just begun holds one sample; the others hold all.
        slots = list(self._slots)[:-1]
        if len(slots) < _LEAST_SLOTS or self._slots[-1].start - slots[0].start < self._settle:
            return None
        highest = max(slot.greatest for slot in slots)
        zone = round(highest / _HALF_HOUR)
        tolerance = _STILL_NEAR if said == "zone" else _NEAR_ZONE
        near = [slot for slot in slots if abs(slot.greatest - zone * _HALF_HOUR) <= tolerance]
        if zone and zone in _ZONES and len(near) >= _LEAST_SLOTS and (zone > 0 or len(near) == len(slots)):
            offset = round(statistics.median(slot.greatest for slot in near))
            return _Verdict("zone", offset, zone, self._exception(near))
        if abs(highest) <= (_STILL_OFF if said == "off" else RIGHT_S * _SECOND):
            return _Verdict("right", highest)
        steady = [slot for slot in slots if highest - slot.greatest <= _STEADY]
        if abs(highest) <= RIGHT_S * _SECOND or len(steady) < (len(slots) if highest < 0 else _LEAST_SLOTS):
            return None
        return _Verdict("off", highest)

    def _exception(self, slots: list[_Slot]) -> int | None:
        """A point that is ahead while others are right all along."""
        if not self._may_be_old or sum(abs(slot.least) <= _FRESH for slot in slots) < _LEAST_SLOTS:
            return None
        highest = max(slots, key=lambda slot: slot.greatest)
        return highest.point if highest.greatest > _FRESH else None


class ClockWatch:
    """One device's clocks. Says one line when something is found to be wrong, another when it changes or is mended."""

    def __init__(self, rule: ClockRule, name_of: Callable[[int], str], say: Say, *, settle_s: float = SETTLE_S) -> None:
        """`rule`: the device's `clock`; `name_of`: a point's name by its index; `say` takes a logging level, a text."""
        self._rule = rule
        self._shift = round(rule.shift * _SECOND) if isinstance(rule, ClockShift) else 0
        self._name_of = name_of
        self._say = say
        self._settle = round(settle_s * _SECOND)
        self._server = _Window(self._settle, may_be_old=False)
        self._readings = _Window(self._settle, may_be_old=True)
        self._looked = -self._settle
        self._epoch: int | None = None
        self._right = False
        """whether all was right when our own clock was last as it should be"""
        self._stepped = 0
        """ns by which our clock was set since then"""
        self._said: tuple[str, int] | None = None
        self._refused: int | None = None
        """monotonic ns of the last time that was not credible, None while that has not been said"""

    def batch(self, batch: Batch) -> None:
        """Look at the times of a batch as it will be offered: after the configured shift."""
        if 0 < batch.monotonic - self._looked < self._settle // _LOOKS_PER_SETTLE:
            return
        self._looked = batch.monotonic
        now = Moment(batch.received_time, batch.monotonic)
        times, points = batch.source_time, batch.points
        if batch.original_time is not None:
            self._refuse(batch, now)
        live = self._live(batch)
        if live is not None:
            if not live.any():
                return
            times, points = times[live], points[live]
        self._notice_step(now)
        row = int(times.argmax())
        greatest, least = int(times[row]) - now.time, int(np.minimum.reduce(times)) - now.time
        if self._readings.add(now.monotonic, greatest, least, int(points[row])):
            self._judge(now)

    def server_time(self, time: int, asked: Moment, answered: Moment) -> None:
        """The server's CurrentTime, ns since the epoch, and when it was asked for and came."""
        took = answered.monotonic - asked.monotonic
        self._notice_step(answered)
        # From the answer's moment on both clocks, so that a step of ours in between does not count.
        offset = time - (answered.time - took // 2)
        if took <= RIGHT_S * _SECOND and self._server.add(answered.monotonic, offset, offset):
            self._judge(answered)

    def readings_offset_s(self, monotonic: int) -> float | None:
        """The times of readings minus ours, before the configured shift, seconds: for servers that tell no time.

        None when no reading has been heard of for twice the settling time before `monotonic` (ns).
        """
        offset = self._readings.offset()
        if offset is None or not self._readings.heard_since(monotonic - 2 * self._settle):
            return None
        return (offset + self._shift) / _SECOND

    def _live(self, batch: Batch) -> npt.NDArray[np.bool_] | None:
        """The readings whose times say something of a clock as it is now; None = all, as nearly always."""
        # The methods of the same names take twice as long on the short columns that we have.
        odd = np.bitwise_or.reduce(batch.flags) & _NOT_LIVE or np.maximum.reduce(batch.basis) == Basis.GATEWAY
        if not odd and batch.original_time is None:
            return None
        live: npt.NDArray[np.bool_] = (batch.flags & _NOT_LIVE == 0) & (batch.basis != Basis.GATEWAY)
        return live if batch.original_time is None else live & (batch.original_time == NO_TIME)

    def _notice_step(self, now: Moment) -> None:
        """Offsets from before a step of our own clock say nothing about those after it."""
        epoch = now.time - now.monotonic
        if self._epoch is not None and abs(epoch - self._epoch) > _STEP:
            self._server.clear()
            self._readings.clear()
            self._stepped += epoch - self._epoch
        self._epoch = epoch

    def _judge(self, now: Moment) -> None:
        self._trust_again(now)
        found = self._diagnose()
        if found is None:
            return
        verdict, of_readings = found
        key = (verdict.kind, verdict.half_hours)
        if verdict.kind == "right":
            self._right, self._stepped = True, 0
            if self._said is not None:
                self._said = None
                self._say(logging.INFO, f"{self._kind_of_times()} agree with this gateway's clock again")
        elif key != self._said:
            self._said = key
            self._say(logging.WARNING, self._text(verdict, of_readings))

    def _diagnose(self) -> tuple[_Verdict, bool] | None:
        """What is wrong, and whether it shows in readings; None while nobody knows."""
        if self._rule == "gateway":
            return None  # every reading carries our time
        said = self._said[0] if self._said is not None else None
        readings, server = self._readings.verdict(said), self._server_verdict(said)
        server_wrong = server is not None and server.kind != "right"
        if readings is None:
            # Readings may come yet, and then one line says it all.
            return (server, False) if server and server_wrong and self._server.age() >= 3 * self._settle else None
        if readings.kind == "right":
            return (server, False) if server and server_wrong else (readings, True)
        if readings.kind == "off" and -_LATE <= readings.offset < 0 and self._server_right():
            return None  # evenly late, as the means of a minute are
        return readings, True

    def _server_verdict(self, said: str | None) -> _Verdict | None:
        verdict = self._server.verdict(said)
        if verdict is not None and self._shift and abs(verdict.offset - self._shift) <= RIGHT_S * _SECOND:
            return _Verdict("right", verdict.offset)
        return verdict

    def _server_right(self) -> bool:
        """Whether the server's clock is right by what is known so far."""
        offset = self._server.offset()
        return offset is not None and abs(offset) <= RIGHT_S * _SECOND

    def _text(self, verdict: _Verdict, of_readings: bool) -> str:
        ahead = f"{_amount(verdict)} {'ahead of' if verdict.offset > 0 else 'behind'} this gateway's clock"
        end = "readings are kept as they are"
        if self._right and abs(self._stepped) > _STEP and abs(verdict.offset + self._stepped) <= _STEADY:
            direction = "forward" if self._stepped > 0 else "back"
            return (
                f"{self._kind_of_times()} are {ahead} since this gateway's clock was set {direction} by that much; the "
                f"device's ran on evenly: check this gateway's time (NTP, time zone) first; {end}"
            )
        if not of_readings:
            return (
                f"the server's own clock is {ahead}, the source times are not known to be: set it right (NTP, time "
                f"zone); readings without a source time carry it; {end}; {_DOUBT}"
            )
        subject = self._kind_of_times()
        if verdict.partly is not None:
            subject += f" of some points ({self._name_of(verdict.partly)} for one)"
        if isinstance(self._rule, ClockShift):
            subject += f", after the configured shift of {_hours(self._shift)},"
        return f"{subject} are {ahead}: {self._cause(verdict)}; {self._of_server()}; {end}; {_DOUBT}"

    def _kind_of_times(self) -> str:
        return "server times" if self._rule == "server" else "source times"

    def _cause(self, verdict: _Verdict) -> str:
        if verdict.kind == "off":
            return "the two clocks are not synchronised: check NTP at the server, at the devices behind it, and here"
        total = self._shift + verdict.half_hours * _HALF_HOUR
        if verdict.partly is not None:
            return (
                "what stamps them seems to write local time as UTC, and a shift would move the right ones too; set "
                f'that clock right, or make its points a device of their own with `clock: "shift: {_hours(total)}"`'
            )
        if total == 0:
            return "the device seems to stamp UTC now; take `clock` out of the device file"
        sign = "+" if total > 0 else "-"
        zone = f"UTC{sign}{abs(total) // (2 * _HALF_HOUR)}{':30' if total % (2 * _HALF_HOUR) else ''}"
        advice = f'`clock: "shift: {_hours(total)}"`' if self._rule != "server" else "`clock: gateway`"
        return f"the device seems to stamp local time ({zone}) as UTC; set {advice}, or set the device's clock right"

    def _of_server(self) -> str:
        offset = self._server.offset()
        if offset is None:
            return "the server's own clock is not known"
        if self._server_right():
            return "the server's own clock is right, so it is what stamps the values behind it"
        direction = "ahead of" if offset > 0 else "behind"
        return f"the server's own clock is {_amount(_Verdict('off', offset))} {direction} this gateway's"

    def _refuse(self, batch: Batch, now: Moment) -> None:
        """Say once that times are not credible."""
        said, self._refused = self._refused is not None, now.monotonic
        if said:
            return
        assert batch.original_time is not None
        row = int((batch.original_time != NO_TIME).argmax())
        original = np.datetime64(int(batch.original_time[row]) // 10_000_000, "s")
        name = self._name_of(int(batch.points[row]))
        doubt = f"; {_DOUBT}" if batch.original_time[row] > now.time // 100 else ""
        self._say(
            logging.WARNING,
            f"times that are not credible: {name} came with {original}Z; times before 2000 or more than a day ahead "
            "are not taken, the server's time or else ours is, and the original is kept beside it; set the clock of "
            f"what stamps the value{doubt}",
        )

    def _trust_again(self, now: Moment) -> None:
        if self._refused is not None and now.monotonic - self._refused > self._settle:
            self._refused = None
            self._say(logging.INFO, "all times are credible again")


def _amount(verdict: _Verdict) -> str:
    """How far off, without sign, as exact as it matters."""
    seconds = abs(verdict.offset) / _SECOND
    if seconds < 600:
        return f"{seconds:.0f} s"
    if seconds < 172_800:
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


def _hours(ns: int) -> str:
    """As a device file writes it: 8h, -5.5h; seconds where it is no half hour."""
    return f"{ns / (2 * _HALF_HOUR):g}h" if ns % _HALF_HOUR == 0 else f"{ns / _SECOND:g}s"
