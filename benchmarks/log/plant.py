"""A plant of about 1,000 readings a second for the log's figures: the machines of `simulators.plant`, as adapters offer
them. Seeded: the same for every run.

Four PLCs with five compressors each and three concentrators with six power meters each are polled over Modbus once a
second: every point is a reading, the times are those of four replies; the meters' floats are to the last bit, the
compressors' have the digits that their controllers show. Four OPC UA servers with twelve reactors each
notify what has changed since the last second. Two of them give their analog values with the digits that transmitters
have and one time for each scan; the other two give them to the last bit, each with a time of its own in 100 ns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from gateway.contract.adapter import Origin
from gateway.contract.batch import Basis, Batch, ValueType
from gateway.log.records import BatchRecord
from simulators.plant.layout import REACTOR_TYPES, reactor_values
from simulators.plant.machines import Compressor, PowerMeter, Reactor

STREAM: Final = "01KAAAAAAAAAAAAAAAAAAAAAAA"
T0: Final = 1_790_000_000_000_000_000
SECOND: Final = 1_000_000_000
WHAT: Final = (
    "20 compressors and 18 power meters in 7 Modbus devices polled at 1 s (the meters' float32 to the last bit, the "
    "other analog values decimals; counters, states, texts); 48 reactors behind 4 OPC UA servers that notify changes "
    "at 1 s (half with a transmitter's digits and a time for each scan, half to the last bit and with 100 ns times of "
    "their own)"
)

_BLOCKS: Final = 4
_DIGITS: Final = {
    "R3.Temp": 2, "R3.JacketTemp": 2, "R3.Pressure": 4, "R3.Level": 1, "R3.FeedFlow": 2, "R3.AgitatorCurrent": 2,
    "R3.CoolingValve": 1, "R3.pH": 2,
}  # fmt: skip
"""after the point, as the transmitters of such a reactor have them"""
_OPCUA_TYPES: Final = {
    "Double": ValueType.FLOAT64, "Float": ValueType.FLOAT32, "UInt64": ValueType.UINT64, "UInt32": ValueType.UINT64,
    "Int16": ValueType.INT64, "Int32": ValueType.INT64, "Boolean": ValueType.BOOL, "String": ValueType.STRING,
}  # fmt: skip
_Shown = tuple[ValueType, Any]


class Plant:
    """All batches, second by second."""

    def __init__(self, seed: int = 7) -> None:
        self._random = np.random.default_rng(seed)
        seeds = iter(range(seed * 1000, seed * 1000 + 1000))
        self._polled: list[tuple[str, Sequence[Compressor | PowerMeter]]] = [
            *((f"plc-{k}", [Compressor(next(seeds)) for _ in range(5)]) for k in range(1, 5)),
            *((f"meters-{k}", [PowerMeter(next(seeds)) for _ in range(6)]) for k in range(1, 4)),
        ]
        self._servers = [_Server(k, [Reactor(next(seeds)) for _ in range(12)], k % 2 == 0) for k in range(1, 5)]
        machines = [machine for _, polled in self._polled for machine in polled]
        for machine in (*machines, *(reactor for server in self._servers for reactor in server.reactors)):
            for _ in range(int(self._random.integers(400))):  # not all in the same phase
                machine.step(1.0)

    def second(self, index: int) -> Iterator[BatchRecord]:
        """The batches of one second, in the order in which they come."""
        at = T0 + index * SECOND
        for device, machines in self._polled:
            yield from self._poll(device, machines, at)
        for server in self._servers:
            yield from server.notify(at, self._random)

    def _poll(self, device: str, machines: Sequence[Compressor | PowerMeter], at: int) -> Iterator[BatchRecord]:
        columns: dict[ValueType, list[tuple[int, int, Any]]] = {}
        point = 0
        for number, machine in enumerate(machines):
            machine.step(1.0)
            block = number * _BLOCKS // len(machines)
            for type, value in _shown(machine):
                columns.setdefault(type, []).append((point, block, value))
                point += 1
        replies = at + np.cumsum(self._random.integers(2_000_000, 9_000_000, _BLOCKS))
        received = int(replies[-1])
        for type in sorted(columns):
            points, blocks, values = zip(*columns[type], strict=True)
            batch = Batch.of(
                device, type, points, np.array(values, type.dtype), received_time=received, monotonic=received - T0,
                source_time=replies[list(blocks)], basis=Basis.GATEWAY,
            )  # fmt: skip
            yield BatchRecord(STREAM, batch)


class _Server:
    def __init__(self, number: int, reactors: list[Reactor], exact: bool) -> None:
        self.reactors = reactors
        self._device = f"dcs-{number}"
        self._exact = exact
        self._origin = (f"urn:plant:{self._device}", 1000 + number)
        self._sequence = 0
        self._shown: dict[int, Any] = {}

    def notify(self, at: int, random: np.random.Generator) -> Iterator[BatchRecord]:
        """What has changed, one batch for each type."""
        columns: dict[ValueType, list[tuple[int, Any]]] = {}
        point = 0
        for reactor in self.reactors:
            reactor.step(1.0)
            for name, value in reactor_values(reactor).items():
                type = _OPCUA_TYPES[REACTOR_TYPES[name].name]
                shown = value if self._exact or name not in _DIGITS else round(value, _DIGITS[name])
                if self._shown.get(point) != shown:
                    self._shown[point] = shown
                    columns.setdefault(type, []).append((point, shown))
                point += 1
        self._sequence += 1
        origin = Origin(*self._origin, self._sequence)
        scanned = at + int(random.integers(10**5)) * 100
        received = scanned + int(random.integers(2_000_000, 30_000_000))
        for type in sorted(columns):
            points, values = zip(*columns[type], strict=True)
            times = scanned - random.integers(0, 10**7, len(points)) * 100 if self._exact else scanned
            batch = Batch.of(
                self._device, type, points, np.array(values, type.dtype), received_time=received,
                monotonic=received - T0, source_time=times,
            )  # fmt: skip
            yield BatchRecord(STREAM, batch, origin)


def _shown(machine: Compressor | PowerMeter) -> list[_Shown]:
    return _compressor(machine) if isinstance(machine, Compressor) else _meter(machine)


def _compressor(machine: Compressor) -> list[_Shown]:
    """What a compressor's registers give, scaled as `config/devices/compressor-1.yaml` does."""
    return [
        (ValueType.FLOAT32, round(machine.pressure_mpa, 3)),
        (ValueType.FLOAT32, round(machine.discharge_c, 1)),
        (ValueType.FLOAT32, round(machine.flow_m3_min, 2)),
        (ValueType.FLOAT64, round(machine.oil_c * 10) / 10),
        (ValueType.FLOAT64, round(machine.vacuum_kpa * 100) / 100),
        (ValueType.FLOAT64, round(machine.current_a * 10) / 10),
        (ValueType.UINT64, machine.speed_rpm),
        (ValueType.UINT64, int(machine.run_time_s)),
        (ValueType.UINT64, machine.load_cycles),
        (ValueType.UINT64, machine.fault_code),
        (ValueType.UINT64, 2408),
        (ValueType.STRING, "LG-75A-20240817"),
        (ValueType.FLOAT64, round(machine.ambient_c * 10) / 10),
        (ValueType.FLOAT32, float(np.float16(machine.filter_kpa))),
        (ValueType.BOOL, machine.running),
        (ValueType.BOOL, machine.loaded),
        (ValueType.BOOL, machine.alarm),
        (ValueType.BOOL, True),
    ]


def _meter(machine: PowerMeter) -> list[_Shown]:
    """What a power meter's registers give, scaled as `config/devices/meter-1.yaml` does."""
    analog = (*machine.voltage_v, *machine.current_a, machine.active_kw, machine.reactive_kvar)
    return [
        *((ValueType.FLOAT32, value) for value in analog),
        (ValueType.FLOAT64, round(machine.power_factor * 1000) / 1000),
        (ValueType.FLOAT64, round(machine.frequency_hz * 100) / 100),
        (ValueType.UINT64, machine.energy_wh),
        (ValueType.FLOAT64, machine.reactive_varh // 10 / 100),
        (ValueType.FLOAT64, machine.demand_kw),
        (ValueType.UINT64, 400),
        (ValueType.BOOL, machine.breaker_closed),
    ]
