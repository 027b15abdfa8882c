"""Modbus: reads coils, discrete inputs, holding and input registers over TCP (function codes 1 to 4, nothing else).

`ADAPTER` is what the gateway loads. Points become few block reads (`planner`), replies are checked (`pdu`, `client`),
whole poll cycles are decoded at once (`decode`), and `poll` keeps the time. pymodbus frames the messages and is
imported only when a device is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.modbus.config import ModbusDeviceConfig
from gateway.contract import Adapter, Clock, DeviceConfig, Point


class ModbusAdapterType:
    """See `gateway.contract.AdapterType`."""

    name: str = "modbus"
    device_model: type[DeviceConfig] = ModbusDeviceConfig

    def build(self, config: Any, points: Sequence[Point], clock: Clock) -> Adapter:
        """Plan the reads of `config` (a `ModbusDeviceConfig`) and make its adapter; no I/O, raises nothing."""
        from adapters.modbus.poll import ModbusAdapter  # noqa: PLC0415 - keeps the protocol library out of `check`

        return ModbusAdapter(config, points, clock)


ADAPTER = ModbusAdapterType()

__all__ = ["ADAPTER", "ModbusAdapterType", "ModbusDeviceConfig"]
