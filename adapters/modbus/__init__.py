"""Modbus: reads coils, discrete inputs, holding and input registers (function codes 1 to 4, nothing else).

`ADAPTER` is what the gateway loads. `config`, `point`, `url`, `address`: the keys of a device file. Points become few
block reads (`planner`), grouped by period (`polls`), which `rounds` passes to free `links` when they are due. A `link`
asks stations over TCP, TLS and UDP (`mbap`) or on a shared line (`framing`); `station` repeats and paces; `pdu` checks
replies; `deadlines` ends what is not answered; `poll` isolates what a device refuses. Whole cycles are decoded at once
(`decode`: `gather`, `values`, `totals`, `timestamps`). `wiretime` computes beforehand what all that asks of the wires;
`tools` are for an engineer at a terminal. pymodbus frames the messages on lines and is imported only when a device is
built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.modbus.config import ModbusDeviceConfig
from adapters.modbus.url import SCHEMES
from gateway.contract import Adapter, Clock, DeviceConfig, Point
from gateway.contract.plan import LoadPlan
from gateway.contract.registers import RegisterTools
from gateway.contract.trial import TryOut


class ModbusAdapterType:
    """See `gateway.contract.AdapterType`."""

    name: str = "modbus"
    device_model: type[DeviceConfig] = ModbusDeviceConfig
    schemes: tuple[str, ...] = SCHEMES

    def build(self, config: Any, points: Sequence[Point], clock: Clock) -> Adapter:
        """Plan the reads of `config` (a `ModbusDeviceConfig`) and make its adapter; no I/O, raises nothing."""
        from adapters.modbus.poll import ModbusAdapter  # noqa: PLC0415 - keeps the protocol library out of `check`

        return ModbusAdapter(config, points, clock)

    def register_tools(self) -> RegisterTools:
        """`read` and `scan` from a URL alone; see `gateway.contract.registers.HasRegisterTools`."""
        from adapters.modbus.tools import ModbusTools  # noqa: PLC0415 - as above

        return ModbusTools()

    def table_keys(self, cells: Mapping[str, str], base: int) -> dict[str, Any]:
        """A point of what a row of a point table says; see `gateway.contract.tables.HasTables`."""
        from adapters.modbus.tables import table_keys  # noqa: PLC0415 - only `points import` needs it

        return table_keys(cells, base)

    def trial(self) -> TryOut:
        """`check --connect`; see `gateway.contract.trial.HasTrial`."""
        from adapters.modbus.tools.trial import try_out  # noqa: PLC0415 - keeps the protocol library out of `check`

        return try_out

    def plan(self, devices: Sequence[Any]) -> LoadPlan:
        """What the devices will be asked, and what cannot be met; see `gateway.contract.plan.HasPlan`."""
        from adapters.modbus.wiretime import load_plan  # noqa: PLC0415 - `run` does not need it before its devices

        return load_plan(devices)


ADAPTER = ModbusAdapterType()

__all__ = ["ADAPTER", "ModbusAdapterType", "ModbusDeviceConfig"]
