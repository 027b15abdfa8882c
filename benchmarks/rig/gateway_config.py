"""Configs for the gateway under test, written as an engineer would, into a temporary folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENTERPRISE: Final = "91370200MA3C00000K"
GATEWAY_ID: Final = "bench"
_GATEWAY = """\
gateway: {{id: {id}, name: bench, enterprise: "{enterprise}", timezone: Asia/Shanghai}}
identifiers: {{prefix: "88.118.8", pattern: "{{prefix}}/{{device}}.{{point}}"}}
governance: {{domain: production, grade: 1, class: general}}
log: {{path: {log}, budget: 4GB, commit: {commit}}}
metrics: {{listen: "127.0.0.1:{metrics_port}"}}
destinations:
"""
_DESTINATION = """\
  - name: {name}
    url: mqtt://127.0.0.1:{broker_port}
    topic: "bench/{{gateway}}"
    format: {format}
    compression: {compression}
    batch: {{max_wait: {max_wait}, max_bytes: {max_bytes}}}
    max_grade: 2
"""
_OPCUA = """\
device: {device}
adapter: opcua
connection: {{url: "opc.tcp://127.0.0.1:{port}", timeout: 30s{connection}}}
subscribe: {{publishing: {publishing}, sampling: {sampling}, queue: 30s}}
load: {{requests_per_s: 1000}}
points:
"""
_MODBUS = """\
device: {device}
adapter: modbus
connection: {{url: "tcp://127.0.0.1:{port}", station: 1, timeout: 2s}}
load: {{connections: {connections}}}
every: {every}
template: load
"""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What differs between workloads on the way out."""

    format: str = "columns"
    compression: str = "none"
    max_wait: str = "200ms"
    max_bytes: str = "256KB"
    commit: str = "auto"


def write_gateway(
    folder: Path, delivery: Delivery, broker_port: int, metrics_port: int, others: Mapping[str, int] | None = None
) -> None:
    """gateway.yaml; the log lies in `folder`/log. `others`: further destinations, by the ports of their brokers."""
    (folder / "devices").mkdir(parents=True, exist_ok=True)
    text = _GATEWAY.format(
        id=GATEWAY_ID,
        enterprise=ENTERPRISE,
        log=folder / "log",
        commit=delivery.commit,
        metrics_port=metrics_port,
    )
    for name, port in {"centre": broker_port, **(others or {})}.items():
        text += _DESTINATION.format(
            name=name,
            broker_port=port,
            format=delivery.format,
            compression=delivery.compression,
            max_wait=delivery.max_wait,
            max_bytes=delivery.max_bytes,
        )
    (folder / "gateway.yaml").write_text(text)


def write_opcua(
    folder: Path, port: int, points: int, publishing: str, *, sampling: str | None = None, connection: str = ""
) -> None:
    """One OPC UA device; point p<k> is item k. It samples as often as it publishes unless told.

    `connection`: more keys, each behind a comma.
    """
    lines = [f'  - {{point: p{k}, node: "ns=1;i={k}"}}\n' for k in range(points)]
    head = _OPCUA.format(
        device="load", port=port, publishing=publishing, sampling=sampling or publishing, connection=connection
    )
    text = head + "".join(lines)
    (folder / "devices" / "load.yaml").write_text(text)


def write_modbus(folder: Path, ports: Sequence[int], points: int, every: str, connections: int = 1) -> None:
    """Equal Modbus devices of `points` float32 each; point p<k> is the float at register 2k."""
    (folder / "templates").mkdir(exist_ok=True)
    lines = [f"  - {{point: p{k}, address: holding {2 * k}, type: float32}}\n" for k in range(points)]
    (folder / "templates" / "load.yaml").write_text("points:\n" + "".join(lines))
    for number, port in enumerate(ports):
        text = _MODBUS.format(device=f"m{number}", port=port, every=every, connections=connections)
        (folder / "devices" / f"m{number}.yaml").write_text(text)
