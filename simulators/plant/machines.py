"""How the machines behave: seeded models, stepped by time, without any I/O.

Each machine's `step(dt_s)` moves it on; its attributes are what its instruments show. The same seed and the same steps
give the same values.
"""

from __future__ import annotations

import math
from enum import IntEnum
from random import Random

MAX_STEP_S = 5.0
"""A longer pause (a suspended box) is taken as this much, so that no value leaps"""


def approach(value: float, target: float, time_constant_s: float, dt_s: float) -> float:
    """First-order lag: `value` after `dt_s` on its way to `target`."""
    return target + (value - target) * math.exp(-dt_s / time_constant_s)


class Compressor:
    """A screw compressor: loads and unloads between two pressures, rests at night rates."""

    LOAD_BELOW_MPA = 0.65
    UNLOAD_ABOVE_MPA = 0.78
    RUN_S = 240.0
    REST_S = 30.0

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._phase_s = 0.0
        self.running = True
        self.loaded = True
        self.pressure_mpa = 0.70
        self.discharge_c = 78.0
        self.oil_c = 62.0
        self.flow_m3_min = 12.0
        self.current_a = 140.0
        self.speed_rpm = 2960
        self.vacuum_kpa = -0.8
        self.ambient_c = 24.0
        self.filter_kpa = 3.0
        self.run_time_s = 38_214_000.0
        self.load_cycles = 184_220
        self.fault_code = 0

    @property
    def alarm(self) -> bool:
        """The oil is too hot or a fault is pending."""
        return self.oil_c > 95 or self.fault_code != 0

    def step(self, dt_s: float) -> None:
        """Move on by `dt_s` seconds."""
        dt_s = min(dt_s, MAX_STEP_S)
        noise = self._random.gauss
        self._phase_s += dt_s
        if self._phase_s > (self.RUN_S if self.running else self.REST_S):
            self._phase_s = 0.0
            self.running = not self.running
        self._load()
        demand = 7.0 + 2.0 * math.sin(self.run_time_s / 60) + noise(0, 0.3)
        self.flow_m3_min = approach(self.flow_m3_min, 12.5 if self.loaded else 0.0, 1.0, dt_s)
        self.pressure_mpa = min(0.85, max(0.3, self.pressure_mpa + (self.flow_m3_min - demand) * 0.002 * dt_s))
        self.discharge_c = approach(self.discharge_c, 85.0 if self.loaded else 45.0, 40, dt_s) + noise(0, 0.05)
        self.oil_c = approach(self.oil_c, 68.0 if self.running else 30.0, 90, dt_s) + noise(0, 0.03)
        load_a = 148.0 if self.loaded else 62.0
        self.current_a = max(0.0, approach(self.current_a, load_a if self.running else 0.0, 0.8, dt_s) + noise(0, 0.4))
        speed = approach(self.speed_rpm, 2960 if self.running else 0, 2.0, dt_s) + noise(0, 2)
        self.speed_rpm = max(0, round(speed))
        self.vacuum_kpa = approach(self.vacuum_kpa, -1.2 if self.loaded else -0.1, 2, dt_s) + noise(0, 0.01)
        self.ambient_c = approach(self.ambient_c, 24.0, 600, dt_s) + noise(0, 0.01)
        self.filter_kpa = 3.0 + 0.2 * self.flow_m3_min / 12.5 + noise(0, 0.01)
        if self.running:
            self.run_time_s += dt_s

    def _load(self) -> None:
        loaded = self.running and (
            self.pressure_mpa < self.LOAD_BELOW_MPA or (self.loaded and self.pressure_mpa < self.UNLOAD_ABOVE_MPA)
        )
        if loaded and not self.loaded:
            self.load_cycles += 1
        self.loaded = loaded


class PowerMeter:
    """A three-phase meter on the plant's feeder; its energy counters only grow."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._time_s = 0.0
        self._energy_wh = 8_345_123_456.0
        self._reactive_varh = 1_234_567_000.0
        self.voltage_v = [228.0, 229.0, 227.5]
        self.current_a = [310.0, 305.0, 318.0]
        self.power_factor = 0.93
        self.frequency_hz = 50.0
        self.demand_kw = 190.0
        self.breaker_closed = True

    @property
    def active_kw(self) -> float:
        """Active power of all phases."""
        return sum(v * a for v, a in zip(self.voltage_v, self.current_a, strict=True)) * self.power_factor / 1000

    @property
    def reactive_kvar(self) -> float:
        """Reactive power of all phases."""
        return self.active_kw * math.tan(math.acos(self.power_factor))

    @property
    def energy_wh(self) -> int:
        """Active energy counter."""
        return int(self._energy_wh)

    @property
    def reactive_varh(self) -> int:
        """Reactive energy counter."""
        return int(self._reactive_varh)

    def step(self, dt_s: float) -> None:
        """Move on by `dt_s` seconds."""
        dt_s = min(dt_s, MAX_STEP_S)
        noise = self._random.gauss
        self._time_s += dt_s
        load = 300 + 60 * math.sin(self._time_s / 120) + 15 * math.sin(self._time_s / 7)
        for i, share in enumerate((1.0, 0.98, 1.03)):
            self.current_a[i] = max(0.0, approach(self.current_a[i], load * share, 2.0, dt_s) + noise(0, 0.6))
            self.voltage_v[i] = approach(self.voltage_v[i], 230 - self.current_a[i] * 0.006, 5.0, dt_s) + noise(0, 0.08)
        self.power_factor = min(0.99, max(0.85, self.power_factor + noise(0, 0.0008)))
        self.frequency_hz = approach(self.frequency_hz, 50.0, 10, dt_s) + noise(0, 0.004)
        self.demand_kw = approach(self.demand_kw, self.active_kw, 900, dt_s)
        self._energy_wh += self.active_kw * 1000 * dt_s / 3600
        self._reactive_varh += self.reactive_kvar * 1000 * dt_s / 3600


class Phase(IntEnum):
    """Phases of the reactor's batch."""

    IDLE = 0
    CHARGE = 1
    HEAT = 2
    HOLD = 3
    COOL = 4
    DISCHARGE = 5


PHASE_NAMES = {
    Phase.IDLE: "待机",
    Phase.CHARGE: "进料",
    Phase.HEAT: "升温",
    Phase.HOLD: "保温反应",
    Phase.COOL: "降温",
    Phase.DISCHARGE: "出料",
}

_PHASE_S = {
    Phase.IDLE: 15.0,
    Phase.CHARGE: 40.0,
    Phase.HEAT: 60.0,
    Phase.HOLD: 90.0,
    Phase.COOL: 60.0,
    Phase.DISCHARGE: 30.0,
}


class Reactor:
    """A stirred batch reactor: charge, heat, hold, cool, discharge; its pH probe misbehaves now and then."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._phase_time_s = 0.0
        self._probe_s = 0.0
        self.phase = Phase.HEAT
        self.batch = 412
        self.temperature_c = 45.0
        self.jacket_c = 60.0
        self.pressure_mpa = 0.12
        self.level_percent = 72.0
        self.feed_t_h = 0.0
        self.feed_total_kg = 9_412_000.0
        self.agitator_rpm = 85
        self.agitator_a = 21.0
        self.valve_percent = 40.0
        self.ph = 6.8
        self.probe_state = "good"
        """good | uncertain | bad, of the pH probe"""
        self.hold_s = 5400
        self.catalyst_ratio = 0.0125

    @property
    def setpoint_c(self) -> float:
        """Temperature set point of the phase."""
        return 92.5 if self.phase in (Phase.HEAT, Phase.HOLD) else 35.0

    @property
    def running(self) -> bool:
        """A batch is on."""
        return self.phase is not Phase.IDLE

    @property
    def phase_name(self) -> str:
        """The phase as operators call it."""
        return PHASE_NAMES[self.phase]

    @property
    def batch_id(self) -> str:
        """Number of the batch."""
        return f"R3-{self.batch:06d}"

    def step(self, dt_s: float) -> None:
        """Move on by `dt_s` seconds."""
        dt_s = min(dt_s, MAX_STEP_S)
        noise = self._random.gauss
        self._next_phase(dt_s)
        self._step_probe(dt_s)
        heating = 118.0 if self.phase in (Phase.HEAT, Phase.HOLD) else 28.0
        self.jacket_c = approach(self.jacket_c, heating, 15, dt_s) + noise(0, 0.05)
        toward = min(self.jacket_c, self.setpoint_c) if heating > 100 else self.jacket_c
        self.temperature_c = approach(self.temperature_c, toward, 25, dt_s) + noise(0, 0.03)
        self.pressure_mpa = max(0.0, 0.101 + max(0.0, self.temperature_c - 40) * 0.0042 + noise(0, 0.0006))
        self.feed_t_h = max(0.0, approach(self.feed_t_h, 18.0 if self.phase is Phase.CHARGE else 0.0, 3, dt_s))
        self.feed_total_kg += self.feed_t_h * 1000 / 3600 * dt_s
        level = {Phase.CHARGE: 75.0, Phase.DISCHARGE: 4.0}.get(self.phase, self.level_percent)
        self.level_percent = approach(self.level_percent, level, 12, dt_s)
        stirring = self.running and self.level_percent > 10
        self.agitator_rpm = max(0, round(approach(self.agitator_rpm, 85 if stirring else 0, 3, dt_s) + noise(0, 0.6)))
        self.agitator_a = max(0.0, approach(self.agitator_a, 21.0 if stirring else 0.0, 2, dt_s) + noise(0, 0.1))
        self.valve_percent = min(100.0, max(0.0, 40 + (self.setpoint_c - self.temperature_c) * 1.5 + noise(0, 0.3)))
        self.ph = approach(self.ph, 6.2 if self.phase is Phase.HOLD else 6.9, 30, dt_s) + noise(0, 0.01)

    def _next_phase(self, dt_s: float) -> None:
        self._phase_time_s += dt_s
        if self._phase_time_s < _PHASE_S[self.phase]:
            return
        self._phase_time_s = 0.0
        self.phase = Phase((self.phase + 1) % len(Phase))
        if self.phase is Phase.CHARGE:
            self.batch += 1
            self.catalyst_ratio = round(0.0125 + self._random.uniform(-0.0005, 0.0005), 5)
            self.hold_s = self._random.choice((4800, 5400, 6000))

    def _step_probe(self, dt_s: float) -> None:
        self._probe_s -= dt_s
        if self._probe_s > 0:
            return
        if self.probe_state != "good":
            self.probe_state, self._probe_s = "good", self._random.uniform(8, 25)
        else:
            self.probe_state = self._random.choice(("uncertain", "uncertain", "bad"))
            self._probe_s = self._random.uniform(1, 4)
