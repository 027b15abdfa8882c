"""A config folder with a Modbus and an OPC UA device, and the command as an engineer calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.commands.main import main

GATEWAY = """\
gateway: {id: qd-chem-01, name: 青岛化工一厂, enterprise: "91370200MA3C00000K", region: "370200", industry: C26,
          timezone: Asia/Shanghai}
identifiers: {prefix: "88.118.8", pattern: "{prefix}/{device}.{point}"}
governance: {domain: production, grade: 1, class: general}
log: {path: log}
"""
BOILER = """\
# 1 号锅炉: the engineer's own words
device: boiler-1
name: 1 号锅炉
adapter: modbus
connection: {url: "tcp://192.168.1.20:502", station: 1}
points:
  # steam
  - {point: steam_pressure, tag: PI-101, address: holding 0, type: float32, order: CDAB, unit: MPa}  # as of 03
  - point: steam_temperature   # in block style
    tag: TI-101
    address: modicon 40003
    type: int16
    scale: 0.1
    unit: "℃"
    invalid: [0x7FFF]

  - {point: running, tag: XL-101, address: discrete 0, type: bool}
# the end
"""
REACTOR = """\
device: reactor-3
adapter: opcua
connection: {url: "opc.tcp://10.0.0.7:4840"}
points:
  - {point: temperature, tag: TIC-301.PV, node: "nsu=http://plant.example/ua;s=R3.Temp", unit: ℃, sampling: 500ms}
  - {point: level, tag: LI-301, node: "nsu=http://plant.example/ua;s=R3.Level", unit: "%", governance: {grade: 2}}
"""


class Plant:
    """A config folder and the command over it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.config = root / "config"
        self._capsys = capsys
        (self.config / "devices").mkdir(parents=True)
        (self.config / "gateway.yaml").write_text(GATEWAY)
        self.boiler.write_text(BOILER)
        (self.config / "devices" / "reactor-3.yaml").write_text(REACTOR)

    @property
    def boiler(self) -> Path:
        """The file of the Modbus device."""
        return self.config / "devices" / "boiler-1.yaml"

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        """Exit code and everything that is printed, the folder's own path taken out."""
        code = main(["points", *map(str, arguments)])
        printed = self._capsys.readouterr()
        return code, (printed.out + printed.err).replace(f"{self.root}/", "")

    def csv(self, text: str, encoding: str = "utf-8", name: str = "boiler-1.csv") -> Path:
        """A table as a file."""
        file = self.root / name
        file.write_bytes(text.encode(encoding))
        return file
