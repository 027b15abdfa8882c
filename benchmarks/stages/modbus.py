"""Modbus: from the replies to the requests of one cycle to the batch that the sink is offered."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import cache
from typing import NamedTuple

from adapters.modbus.address import Table
from adapters.modbus.decode import Layout, Replies
from adapters.modbus.planner import Limits, Span, plan
from adapters.modbus.point import ModbusPointConfig
from benchmarks.load.modbus_devices import Image
from benchmarks.stages.stage import Stage, Work
from gateway.contract import Batch, Point


class Cycle(NamedTuple):
    """What came of one cycle, and the layout that knows its points."""

    layout: Layout
    replies: Replies

    def decode(self) -> list[Batch]:
        """Bytes to the batch."""
        now = time.time_ns()
        return self.layout.decode(self.replies, now, 0)


@cache
def cycle(readings: int) -> Cycle:
    """One device with `readings` float32, one behind the other."""
    points = [
        Point(k, ModbusPointConfig.model_validate({"point": f"p{k}", "address": f"holding {2 * k}", "type": "float32"}))
        for k in range(readings)
    ]
    image = Image()
    blocks = plan(Table.HOLDING, [Span(2 * k, 2, k) for k in range(readings)], Limits())
    payloads = [image.data[2 * block.start : 2 * (block.start + block.cells)] for block in blocks]
    n, now = len(blocks), time.time_ns()
    return Cycle(Layout("load", points, blocks), Replies(payloads, [0] * n, [True] * n, [now] * n))


def _decode(readings: int, _: ExitStack) -> Work:
    return Work(cycle(readings).decode, 2 * readings)


STAGES = [Stage("modbus: decode, per register", _decode)]
"""the stage before the sink"""
