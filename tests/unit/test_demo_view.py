"""The demo's screen fits the smallest usual terminal, 80 columns by 24 lines."""

import io

from rich.console import Console

from gateway.commands.demo.view import Scrape, screen

_PREFIX = "edge_gateway_"


def test_everything_is_readable_in_80_columns() -> None:
    now = Scrape(1.0)
    for device, adapter in (("compressor-1", "modbus"), ("meter-1", "modbus"), ("reactor-3", "opcua")):
        labels = (("adapter", adapter), ("device", device))
        now.values[f"{_PREFIX}device_up"][labels] = 1
        now.values[f"{_PREFIX}readings_accepted_total"][labels] = 123_456
    centre = (("destination", "provincial-centre"),)
    now.values[f"{_PREFIX}destination_state"][(*centre, ("state", "online"))] = 1
    for name in ("account_accepted_total", "account_delivered_total", "account_waiting"):
        now.values[_PREFIX + name][centre] = 123_456
    output = io.StringIO()
    Console(file=output, width=80).print(screen(now, None, {"stored": 1}, 3, ["a hint"] * 5))
    said = output.getvalue()
    assert "…" not in said
    assert len(said.splitlines()) < 24
    for word in ("compressor-1", "provincial-centre", "123,456", "dropped", "kB/s", "invalid messages"):
        assert word in said
