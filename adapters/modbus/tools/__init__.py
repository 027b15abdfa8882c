"""Looking at Modbus equipment from a URL alone: a register in all its meanings (`assistant`), what answers (`scan`)."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from adapters.modbus.address import CELLS, Address, Table, parse_address
from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.links import open_links
from adapters.modbus.station import Counters, Station
from adapters.modbus.tools.asking import Asker
from adapters.modbus.tools.assistant import meanings
from adapters.modbus.tools.scan import scan
from gateway.contract import ConfigError, SystemClock
from gateway.contract.registers import Hint, Looked, Scanned, ScanProgress, ScanQuery, Wire

_MOST_REGISTERS = 4
"""of one value: 64 bits"""


class ModbusTools:
    """See `gateway.contract.registers.RegisterTools`."""

    async def look(self, wire: Wire, station: int, addresses: Sequence[str], hint: Hint) -> tuple[Looked, ...]:
        """See `RegisterTools.look`."""
        wanted = [_address(text) for text in addresses]
        config, clock = _config(wire, station), SystemClock()
        with open_links(config, clock, 1) as (link,):
            asker = Asker(Station(config, clock, Counters()), link, clock)
            return tuple([await _look(asker, address, hint) for address in wanted])

    async def scan(self, wire: Wire, query: ScanQuery, progress: ScanProgress | None = None) -> Scanned:
        """See `RegisterTools.scan`."""
        return await scan(lambda station: _config(wire, station), wire.requests_per_s, query, progress)


async def _look(asker: Asker, address: Address, hint: Hint) -> Looked:
    """The widest value that is there: four registers, else what the device lets be read."""
    problem: str | None = None
    for cells in [1] if address.table.is_bits else range(min(_MOST_REGISTERS, CELLS - address.offset), 0, -1):
        answer = await asker.read(address.table, address.offset, cells)
        if answer.data:
            return Looked(str(address), answer.data, None, meanings(address, answer.data, hint))
        problem = answer.problem
        if not answer.refused:
            break
    return Looked(str(address), b"", problem, ())


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _config(wire: Wire, station: int) -> ModbusDeviceConfig:
    """A device file that says the same; raises ConfigError in its words."""
    content = {
        "device": "tool",
        "adapter": "modbus",
        "connection": {"url": wire.url, "station": station, "retries": 0},
        "load": {"requests_per_s": wire.requests_per_s},
        "points": [{"point": "tool", "address": Address(Table.COIL, 0)}],
    }
    try:
        config = ModbusDeviceConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from error
    if wire.timeout_s is None:
        return config
    connection = config.connection.model_copy(update={"timeout": wire.timeout_s})
    return config.model_copy(update={"connection": connection})
