"""OPC UA: from a notification's bytes to the batches that the sink is offered."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import cache, partial
from typing import Final, NamedTuple

from adapters.opcua.decoding.batches import BatchBuilder, Moment
from adapters.opcua.decoding.clocks import ClockWatch
from adapters.opcua.decoding.decode import Items, decode_items
from adapters.opcua.decoding.fallback import decode_other
from benchmarks.load.kinds import PATTERNS
from benchmarks.load.notifications import SOURCE, VALUE, Part, filetime
from benchmarks.stages.stage import COLUMNS, Budget, Stage, Work
from gateway.contract import Batch

TICK: Final = 7
START: Final = 9
"""of the body: behind the extension object's type id, encoding and length"""
MIXED: Final = Budget(opcodes=8, objects=0.5, loops=12)
"""some are texts, arrays or structures, which are objects"""
MIXED_COLUMNS: Final = COLUMNS._replace(loops=3)
"""parts of many types are sorted and joined"""


class Notification(NamedTuple):
    """A notification and the builder that knows its points."""

    data: bytes
    builder: BatchBuilder

    def decode(self) -> list[Items]:
        """Bytes to columns."""
        return decode_items(self.data, START, len(self.data), decode_other)


def moment() -> Moment:
    """Now."""
    return Moment(time.time_ns(), time.monotonic_ns())


@cache
def notification(type: str, readings: int) -> Notification:
    """`readings` items of a kind, or "mix" or "plant", as the load server sends them."""
    part = Part(range(readings), range(readings), type, VALUE | SOURCE, TICK)
    clocks = ClockWatch("trust", lambda point: f"p{point}", lambda level, text: None)
    builder = BatchBuilder("load", dict.fromkeys(range(readings), 0), "trust", 0, clocks.batch)
    return Notification(part.encode(TICK, filetime(time.time_ns())), builder)


def batches(type: str, readings: int) -> list[Batch]:
    """What the sink is offered of it."""
    found = notification(type, readings)
    return found.builder.build(found.decode(), moment()).batches


def _decode(type: str, readings: int, _: ExitStack) -> Work:
    found = notification(type, readings)
    return Work(found.decode, readings, len(found.data))


def _batches(type: str, readings: int, _: ExitStack) -> Work:
    found = notification(type, readings)
    items, now = found.decode(), moment()
    return Work(lambda: found.builder.build(items, now), readings)


def stages(type: str) -> list[Stage]:
    """The stages before the sink, for one kind of value, the mix or a plant."""
    mixed = type in PATTERNS
    return [
        Stage(f"opcua {type}: decode", partial(_decode, type), MIXED if mixed else COLUMNS),
        Stage(f"opcua {type}: batches", partial(_batches, type), MIXED_COLUMNS if mixed else COLUMNS),
    ]
