"""The machines behave: they repeat with a seed, move within bounds, start and stop, and counters only grow."""

from __future__ import annotations

from simulators.plant.machines import Compressor, Phase, PowerMeter, Reactor

STEP_S = 0.5
STEPS = 4000


def test_same_seed_same_values() -> None:
    one, two, other = Reactor(7), Reactor(7), Reactor(8)
    for _ in range(200):
        for machine in (one, two, other):
            machine.step(STEP_S)
    assert vars(one).keys() == vars(two).keys()
    assert (one.temperature_c, one.ph, one.batch) == (two.temperature_c, two.ph, two.batch)
    assert one.temperature_c != other.temperature_c


def test_compressor_starts_stops_and_loads() -> None:
    machine = Compressor(1)
    running, loaded = set(), set()
    cycles = machine.load_cycles
    for _ in range(STEPS):
        machine.step(STEP_S)
        running.add(machine.running)
        loaded.add(machine.loaded)
        assert 0.2 < machine.pressure_mpa < 0.9
        assert machine.current_a >= 0
    assert running == loaded == {True, False}
    assert machine.load_cycles > cycles


def test_energy_only_grows() -> None:
    machine = PowerMeter(1)
    last = machine.energy_wh
    start = last
    for _ in range(STEPS):
        machine.step(STEP_S)
        assert machine.energy_wh >= last
        last = machine.energy_wh
    hours = STEPS * STEP_S / 3600
    assert 100_000 * hours < last - start < 300_000 * hours


def test_reactor_runs_through_its_phases_and_its_probe_fails_at_times() -> None:
    machine = Reactor(1)
    phases, probe = set(), set()
    hottest = 0.0
    for _ in range(STEPS):
        machine.step(STEP_S)
        phases.add(machine.phase)
        probe.add(machine.probe_state)
        hottest = max(hottest, machine.temperature_c)
    assert phases == set(Phase)
    assert probe == {"good", "uncertain", "bad"}
    assert 85 < hottest < 95
