"""How well the server says it is, how its clock differs from ours, when it will be back: one Read every few seconds.

ServerState: Part 5, 12.6. ServiceLevel: Part 4, 6.6.2.4.2, table of sub-ranges. EstimatedReturnTime: Part 5, 6.3.1.
"""

from __future__ import annotations

import datetime
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from adapters.opcua.decoding.batches import Moment
from adapters.opcua.session.endpoints import LONGEST_AWAY_S, Memory, Unwell

_logger = logging.getLogger(__name__)

SERVICE_LEVEL: Final = 2267
_STATE: Final = 2259
_CURRENT_TIME: Final = 2258
_TILL_SHUTDOWN: Final = 2992
_RETURN_TIME: Final = 12885
NODES: Final = (_STATE, _CURRENT_TIME, SERVICE_LEVEL, _RETURN_TIME, _TILL_SHUTDOWN)
"""node ids of namespace 0 (Part 6, annex A: NodeIds.csv)"""

MISSING: Final = frozenset({0x80340000, 0x80330000, 0x80350000, 0x803A0000, 0x803D0000, 0x801F0000})
"""BadNodeIdUnknown, BadNodeIdInvalid, BadAttributeIdInvalid, BadNotReadable, BadNotSupported, BadUserAccessDenied: this
server will not tell, however often it is asked"""

_RUNNING: Final = 0
_SHUTDOWN: Final = 4
_STATES: Final = {
    1: "Failed", 2: "NoConfiguration", 3: "Suspended", 4: "Shutdown", 5: "Test", 6: "CommunicationFault", 7: "Unknown",
}  # fmt: skip
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND: Final = datetime.timedelta(microseconds=1)
_MAINTENANCE: Final = 0
_NO_DATA: Final = 1
_HEALTHY: Final = 200
_SAMPLES: Final = 6


class Sample(NamedTuple):
    """One look at the server's clock."""

    offset_s: float
    """the server's clock minus ours; wrong by half of the round trip at most"""
    round_trip_s: float


class ClockOffset:
    """The best of the last few samples: the one with the shortest round trip, which leaves the least room for error."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=_SAMPLES)

    def add(self, sample: Sample) -> float:
        """The offset (s) as it is known now. A sample that contradicts an older one shows that a clock was set."""
        best = self._best() if self._samples else sample
        if abs(sample.offset_s - best.offset_s) > (sample.round_trip_s + best.round_trip_s) / 2:
            self._samples.clear()
        self._samples.append(sample)
        return self._best().offset_s

    def _best(self) -> Sample:
        return min(self._samples, key=lambda sample: sample.round_trip_s)


class Look(NamedTuple):
    """What one Read brought."""

    values: Mapping[int, Any]
    """by node id; those that the server did not give are left out"""
    asked: Moment
    answered: Moment


class ServerClock(Protocol):
    """Who wants to know what the server's clock says."""

    def server_time(self, time: int, asked: Moment, answered: Moment) -> None:
        """The server's CurrentTime, ns since the epoch, and when it was asked for and came."""
        ...


class Health:
    """Watches over one session's server."""

    def __init__(self, url: str, memory: Memory, *, alone: bool, watch: ServerClock | None = None) -> None:
        """`alone`: there is no other server that could be used instead."""
        self._url = url
        self._memory = memory
        self._alone = alone
        self._watch = watch
        self._offset = ClockOffset()
        self._announced = False
        self.condition: str | None = None
        """why the server is not well, in plain words; None = it is"""

    def take(self, look: Look) -> None:
        """Judge what was read. Raises Unwell where another server should be used."""
        values = look.values
        now = _time(values.get(_CURRENT_TIME))
        if now is not None:
            self._compare((now - _EPOCH) // _MICROSECOND * 1000, look.asked, look.answered)
        state, level = values.get(_STATE, _RUNNING), values.get(SERVICE_LEVEL)
        self._announce(state, level, now, values)
        self.condition = "; ".join(filter(None, (_state_text(state), level_text(level)))) or None
        if not self._alone and no_data(level) and not self._memory.of(self._url).avoided:
            raise Unwell(f"{self._url}: {level_text(level)}")

    def _compare(self, server_ns: int, asked: Moment, answered: Moment) -> None:
        # From the answer's moment on both clocks, so that a step of ours in between does not count.
        round_trip_ns = answered.monotonic - asked.monotonic
        offset_ns = server_ns - (answered.time - round_trip_ns // 2)
        self._memory.clock_offset_s = self._offset.add(Sample(offset_ns / 1e9, round_trip_ns / 1e9))
        if self._watch is not None:
            self._watch.server_time(server_ns, asked, answered)

    def _announce(self, state: Any, level: Any, now: datetime.datetime | None, values: Mapping[int, Any]) -> None:
        """Write down when the server will be back; say so once."""
        if state != _SHUTDOWN and level != _MAINTENANCE:
            self._announced = False
            self._memory.of(self._url).not_before = 0.0
            return
        seconds = 0.0
        returns = _time(values.get(_RETURN_TIME))
        if returns is not None and now is not None:
            seconds = _credible((returns - now).total_seconds())  # both by the server's clock
        left = values.get(_TILL_SHUTDOWN)
        if state == _SHUTDOWN and isinstance(left, int):
            seconds = max(seconds, _credible(left))
        if self._memory.of(self._url).away(seconds) and not self._announced:
            self._announced = True
            _logger.warning(
                "%s: the server %s; once the connection is lost the gateway tries again in %.0f s at the earliest",
                self._url,
                "announces its shutdown" if state == _SHUTDOWN else "is in maintenance",
                seconds,
            )


def no_data(level: Any) -> bool:
    """Whether a ServiceLevel says that the server is of no use: in maintenance, or without data."""
    return isinstance(level, int) and level <= _NO_DATA


def level_text(level: Any) -> str | None:
    """What a ServiceLevel means, None where it is healthy or not told."""
    if not isinstance(level, int) or level >= _HEALTHY:
        return None
    meaning = {
        _MAINTENANCE: "it is in maintenance, and asks clients to leave",
        _NO_DATA: "it has no data",
    }.get(level, "it has lost a part of its data sources or of its redundancy")
    return f"the server says ServiceLevel {level} of 255: {meaning}; look at the server"


def _state_text(state: Any) -> str | None:
    if not isinstance(state, int) or state == _RUNNING:
        return None
    return (
        f"the server says that its state is {_STATES.get(state, state)}, not Running; its values may stand still or be "
        "wrong; look at the server"
    )


def _credible(seconds: float) -> float:
    return seconds if 0 < seconds <= LONGEST_AWAY_S else 0.0


def _time(value: Any) -> datetime.datetime | None:
    """A DateTime as asyncua gives it, UTC."""
    if not isinstance(value, datetime.datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)
