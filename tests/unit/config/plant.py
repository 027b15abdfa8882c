"""A small config to break in tests."""

from __future__ import annotations

from pathlib import Path

GATEWAY = """\
gateway: {id: qd-chem-01, enterprise: "91370200MA3C00000K", region: "370200", industry: C26}
identifiers: {prefix: "88.118.8"}
governance: {domain: production, grade: 1, class: general}
log: {path: log}
destinations:
  - {name: centre, url: "mqtts://centre.example:8883", max_grade: 2}
"""

DEVICE = """\
device: boiler-1
adapter: modbus
connection: {url: "tcp://192.168.1.20:502"}
points:
  - {point: pressure, tag: PI-101, address: holding 0, type: float32, order: CDAB, unit: MPa}
  - {point: running, address: coil 0}
"""


def write(folder: Path, gateway: str | bytes = GATEWAY, **files: str | bytes) -> Path:
    """Write gateway.yaml and devices/boiler-1.yaml, or other files by keyword: `devices__pump="..."`."""
    contents = {"gateway": gateway, **(files or {"devices__boiler-1": DEVICE})}
    for name, content in contents.items():
        file = folder / (name.replace("__", "/") + ".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder
