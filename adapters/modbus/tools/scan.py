"""Which stations answer, and which cells they let be read. Asks for nothing outside of what was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from adapters.modbus.address import MOST_BITS, MOST_REGISTERS, CellRange, Table, parse_range
from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.links import open_links
from adapters.modbus.schedule import Pacer
from adapters.modbus.station import Counters, Station
from adapters.modbus.tools.asking import Asker
from adapters.modbus.url import parse_url
from gateway.contract import ConfigError, SystemClock
from gateway.contract.registers import Answering, Range, Scanned, ScanProgress, ScanQuery

_SILENT_IN_A_ROW: Final = 2
"""blocks without an answer after which a station that did answer is left alone"""

Make = Callable[[int], ModbusDeviceConfig]
"""The config of a station. Raises ConfigError"""


async def scan(make: Make, rate: float, query: ScanQuery, progress: ScanProgress | None = None) -> Scanned:
    """See `RegisterTools.scan`; `rate`: requests per second, of all stations together. Raises ConfigError, LinkLost."""
    blocks = allowed_blocks(query)
    configs = [make(station) for station in query.stations]
    _check_alone(configs[0], query)
    clock, pacer = SystemClock(), Pacer(rate)
    found: list[Answering] = []
    silent: list[int] = []
    requests = 0

    def may_read(cells: CellRange) -> bool:
        table = cells.table.name.lower()
        return any(one.table == table and one.first <= cells.first and cells.last <= one.last for one in blocks)

    with open_links(configs[0], clock, 1) as (link,):
        for number, config in zip(query.stations, configs, strict=True):
            asker = Asker(Station(config, clock, Counters(), pacer, may_read), link, clock)

            def tell(asker: Asker = asker, number: int = number, before: int = requests) -> None:
                if progress:
                    progress(number, before + asker.requests)

            answering = await _station(asker, number, blocks, tell)
            requests += asker.requests
            if answering is None:
                silent.append(number)
            else:
                found.append(answering)
    return Scanned(tuple(found), tuple(silent), requests)


async def _station(asker: Asker, number: int, blocks: Sequence[Range], tell: Callable[[], None]) -> Answering | None:
    """None = it does not answer at all. A refused block is halved until what is refused is known to the cell."""
    readable: list[Range] = []
    refused: list[Range] = []
    unknown: list[Range] = []
    waiting, mute = deque(blocks), 0
    while waiting:
        block = waiting.popleft()
        answer = await asker.read(Table[block.table.upper()], block.first, block.last - block.first + 1)
        tell()
        if answer.silent and not readable and not refused:
            return None
        mute = mute + 1 if answer.silent else 0
        if answer.data:
            readable.append(block)
        elif not answer.refused:
            unknown.append(block)
        elif block.first == block.last:
            refused.append(block)
        else:
            middle = (block.first + block.last) // 2
            waiting.extendleft((block._replace(first=middle + 1), block._replace(last=middle)))
        if mute >= _SILENT_IN_A_ROW:
            break
    unknown += waiting
    return Answering(number, joined(readable), joined(refused), joined(unknown))


def allowed_blocks(query: ScanQuery) -> list[Range]:
    """What may be asked, cut where something must not be read, in requests. Raises ConfigError."""
    if not query.stations or not query.ranges:
        raise ConfigError("say what may be asked: --stations 1-10 --range 'holding 0-99'; a scan never guesses")
    holes = [_parse(text) for text in query.without]
    blocks: list[Range] = []
    for text in query.ranges:
        wanted = _parse(text)
        pieces = [wanted]
        for hole in holes:
            pieces = [rest for piece in pieces for rest in _cut(piece, hole)]
        most = MOST_BITS if Table[wanted.table.upper()].is_bits else MOST_REGISTERS
        blocks += [
            Range(piece.table, first, min(first + most - 1, piece.last))
            for piece in pieces
            for first in range(piece.first, piece.last + 1, most)
        ]
    if not blocks:
        raise ConfigError("--without leaves nothing to ask")
    return blocks


def joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    """Neighbours as one."""
    found: list[Range] = []
    for one in sorted(ranges):
        if found and found[-1].table == one.table and found[-1].last + 1 >= one.first:
            found[-1] = found[-1]._replace(last=max(found[-1].last, one.last))
        else:
            found.append(one)
    return tuple(found)


def _parse(text: str) -> Range:
    try:
        table, first, last = parse_range(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return Range(table.name.lower(), first, last)


def _cut(piece: Range, hole: Range) -> list[Range]:
    if hole.table != piece.table or hole.last < piece.first or hole.first > piece.last:
        return [piece]
    rest = [piece._replace(last=hole.first - 1), piece._replace(first=hole.last + 1)]
    return [one for one in rest if one.first <= one.last]


def _check_alone(config: ModbusDeviceConfig, query: ScanQuery) -> None:
    place = parse_url(config.connection.url)
    if place.framing != "mbap" and not query.only_master:
        raise ConfigError(
            f"{config.connection.url}: a line has one master; two that ask at once take each other's replies. If "
            "nobody else asks on this line now (the PLC is off, the gateway is stopped), say so with --only-master"
        )
