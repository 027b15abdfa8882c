"""Where each machine shows its values: the register maps and node names of the small plant.

Written by hand from the same "manuals" as `config/devices/*.yaml`, never read from those files: a mistake in one of
both must show.
"""

from __future__ import annotations

from typing import Any

from asyncua import ua

from simulators.plant.encoding import encode, encode_bcd, encode_text
from simulators.plant.machines import Compressor, PowerMeter, Reactor
from simulators.plant.modbus import ModbusDevice
from simulators.plant.opcua import BAD_SENSOR, GOOD, UNCERTAIN_SENSOR, OpcUaDevice

COMPRESSOR_STATION = 1
METER_STATION = 2

PROBE_STATUS = {"good": GOOD, "uncertain": UNCERTAIN_SENSOR, "bad": BAD_SENSOR}


def show_compressor(machine: Compressor, device: ModbusDevice) -> None:
    """Put the compressor's values into its tables: words swapped (CDAB), as many controllers of its kind have it."""
    device.write(
        "holding",
        0,
        [
            *encode(machine.pressure_mpa, "float32", "CDAB"),  # 0
            *encode(machine.discharge_c, "float32", "CDAB"),  # 2
            *encode(machine.flow_m3_min, "float32", "CDAB"),  # 4
            *encode(round(machine.oil_c * 10), "int16"),  # 6: 0.1 ℃
            *encode(round(machine.vacuum_kpa * 100), "int16"),  # 7: 0.01 kPa
            *encode(round(machine.current_a * 10), "uint16"),  # 8: 0.1 A
            *encode(machine.speed_rpm, "uint16"),  # 9
            *encode(int(machine.run_time_s), "uint32", "CDAB"),  # 10: s
            *encode(machine.load_cycles, "uint32", "CDAB"),  # 12
            *encode(machine.fault_code, "uint16"),  # 14
            *encode(1 if machine.loaded else 0, "uint16"),  # 15: bit 0 loaded
            *encode_bcd(2408, 1),  # 16: month of manufacture, BCD
            0,  # 17
            0,  # 18
            0,  # 19
            *encode_text("LG-75A-20240817", 8),  # 20 to 27: serial number
        ],
    )
    device.write("input", 0, encode(round(machine.ambient_c * 10), "int16"))
    device.write("input", 1, encode(machine.filter_kpa, "float16"))
    device.write("discrete", 0, [machine.running, machine.loaded, machine.alarm])
    device.write("coil", 0, [True])


def show_meter(machine: PowerMeter, device: ModbusDevice) -> None:
    """Put the meter's values into its tables, all most significant byte first (ABCD)."""
    registers: list[int] = []
    for value in (*machine.voltage_v, *machine.current_a, machine.active_kw, machine.reactive_kvar):
        registers += encode(value, "float32")  # 0, 2, 4 V; 6, 8, 10 A; 12 kW; 14 kvar
    registers += encode(round(machine.power_factor * 1000), "int16")  # 16: 0.001
    registers += encode(round(machine.frequency_hz * 100), "uint16")  # 17: 0.01 Hz
    registers += encode(machine.energy_wh, "uint64")  # 18: Wh
    registers += encode(machine.reactive_varh // 10, "uint32")  # 22: 0.01 kvarh
    registers += encode(machine.demand_kw, "float64")  # 24: kW
    registers += encode(400, "uint16")  # 28: ratio of the current transformers
    device.write("input", 0, registers)
    device.write("discrete", 0, [machine.breaker_closed])


_T = ua.VariantType

REACTOR_TYPES = {
    "R3.Temp": _T.Double,
    "R3.TempSetpoint": _T.Double,
    "R3.JacketTemp": _T.Float,
    "R3.Pressure": _T.Float,
    "R3.Level": _T.Float,
    "R3.FeedFlow": _T.Float,
    "R3.FeedTotal": _T.UInt64,
    "R3.AgitatorSpeed": _T.Int16,
    "R3.AgitatorCurrent": _T.Float,
    "R3.CoolingValve": _T.Float,
    "R3.pH": _T.Float,
    "R3.Running": _T.Boolean,
    "R3.Phase": _T.Int32,
    "R3.PhaseName": _T.String,
    "R3.Batch.Id": _T.String,
    "R3.Recipe.HoldTime": _T.UInt32,
    "R3.Recipe.CatalystRatio": _T.Double,
}


def reactor_values(machine: Reactor) -> dict[str, Any]:
    """What each of the reactor's nodes shows."""
    return {
        "R3.Temp": machine.temperature_c,
        "R3.TempSetpoint": machine.setpoint_c,
        "R3.JacketTemp": machine.jacket_c,
        "R3.Pressure": machine.pressure_mpa,
        "R3.Level": machine.level_percent,
        "R3.FeedFlow": machine.feed_t_h,
        "R3.FeedTotal": int(machine.feed_total_kg),
        "R3.AgitatorSpeed": machine.agitator_rpm,
        "R3.AgitatorCurrent": machine.agitator_a,
        "R3.CoolingValve": machine.valve_percent,
        "R3.pH": machine.ph,
        "R3.Running": machine.running,
        "R3.Phase": int(machine.phase),
        "R3.PhaseName": machine.phase_name,
        "R3.Batch.Id": machine.batch_id,
        "R3.Recipe.HoldTime": machine.hold_s,
        "R3.Recipe.CatalystRatio": machine.catalyst_ratio,
    }


async def show_reactor(machine: Reactor, device: OpcUaDevice) -> None:
    """Write what changed since the last time to the reactor's nodes, the pH probe with its state."""
    for key, value in reactor_values(machine).items():
        status = PROBE_STATUS[machine.probe_state] if key == "R3.pH" else GOOD
        if device.shown(key) != (value, status):
            await device.write(key, value, status=status)
