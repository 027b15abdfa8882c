"""`check --connect`: the reads of the plan, each once; what a device refuses as a block is asked for point by point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.links import open_links
from adapters.modbus.planner import Block, Span
from adapters.modbus.schedule import Pacer
from adapters.modbus.station import Counters, Station
from adapters.modbus.tools.asking import Answered, Asker
from adapters.modbus.wiretime import blocks_by_period
from gateway.contract import SystemClock
from gateway.contract.trial import Failing, Trial

_RATE: Final = 20.0
"""requests a second where the device file names no budget"""
_MOST_SILENT: Final = 2
"""requests in a row without an answer after which a device that has answered nothing is left alone"""


async def try_out(config: ModbusDeviceConfig) -> Trial:
    """See `gateway.contract.trial.TryOut`."""
    clock = SystemClock()
    station = Station(config, clock, Counters(), Pacer(config.load.requests_per_s or _RATE))
    blocks = [block for blocks in blocks_by_period(config).values() for block in blocks]
    with open_links(config, clock, 1) as (link,):
        asker = Asker(station, link, clock)
        failing: list[Failing] = []
        answered, silent = False, 0
        for block in blocks:
            answer = await asker.read(block.table, block.start, block.cells)
            silent = silent + 1 if answer.silent else 0
            answered = answered or not answer.silent
            if not answered and silent >= min(_MOST_SILENT, len(blocks)):
                number = config.connection.station
                return Trial((), asker.requests, f"station {number} does not answer: {answer.problem}")
            if answer.refused and len(block.spans) > 1:
                failing += await _one_by_one(asker, config, block)
            elif not answer.data:
                failing += _failing(config, block.spans, answer)
        return Trial(tuple(sorted(failing)), asker.requests)


async def _one_by_one(asker: Asker, config: ModbusDeviceConfig, block: Block) -> list[Failing]:
    failing: list[Failing] = []
    for span in block.spans:
        answer = await asker.read(block.table, span.start, span.cells)
        if not answer.data:
            failing += _failing(config, (span,), answer)
    return failing


def _failing(config: ModbusDeviceConfig, spans: Sequence[Span], answer: Answered) -> Iterator[Failing]:
    for span in spans:
        yield Failing(span.key, str(config.points[span.key].address), answer.problem or "an empty answer")
