"""Load generators as children of a run."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.rig.processes import Bench, Child


def opcua_server(
    bench: Bench, items: int, type: str = "double", rate: float = 0.0, options: Sequence[object] = ()
) -> tuple[Child, int]:
    """A load server and its port."""
    load = bench.python("load", "load.opcua_server", "--items", items, "--type", type, "--rate", rate, *options)
    return load, int(load.ask()["port"])


def modbus_devices(
    bench: Bench,
    devices: int,
    apart: bool = False,
    *,
    still: bool = False,
    measured: bool = False,
    name: str = "load",
) -> tuple[Child, list[int]]:
    """Modbus devices and their ports; `apart`: each has its own values, which the receiver's "modbus-apart" checks;
    `still`: their registers never change; `measured`: values as of a plant's transmitters.
    """
    options = [*["--apart"] * apart, *["--still"] * still, *["--measured"] * measured]
    load = bench.python(name, "load.modbus_devices", "--devices", devices, *options)
    return load, list(load.ask()["ports"])
