"""A running gateway whose client certificate expires and is renewed, at a broker that lets nobody in without one."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from simulators.plant.modbus import ModbusDevice
from tests.support.broker import Mosquitto, free_port
from tests.support.destination import make_certificates
from tests.support.rig import START_S, Delivery, GatewayProcess
from tests.support.wait import eventually

EXPIRY = "edge_gateway_destination_certificate_expiry_timestamp_seconds"

AGAIN_S = 60.0
"""a broker that does not let us in is tried again within 30 s, the longest pause"""


async def test_an_expired_certificate_stops_the_next_connection_and_a_renewed_one_is_used_without_a_restart(
    tmp_path: Path,
) -> None:
    first, expired, renewed, theirs = (
        make_certificates(_folder(tmp_path / name), days)
        for name, days in (("first", 20.0), ("expired", -2.0), ("renewed", 30.0), ("broker", 1.0))
    )
    known = tmp_path / "known.pem"
    known.write_bytes(b"".join(files[0].read_bytes() for files in (first, expired, renewed)))
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", f"cafile {known}", "require_certificate true"]
    lines += [f"certfile {theirs[1]}", f"keyfile {theirs[2]}"]
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"

    def put(files: tuple[Path, Path, Path]) -> None:
        shutil.copy(files[1], certificate)
        shutil.copy(files[2], key)

    put(first)
    tls = {"ca": str(theirs[0]), "certificate": str(certificate), "key": str(key)}
    points = [{"point": "level", "address": "holding 0", "type": "uint16"}]
    broker = Mosquitto(persistence=True, options=lines)
    async with ModbusDevice() as meter:
        meter.write("holding", 0, 7)
        device = {"device": "meter", "adapter": "modbus", "every": "100ms", "points": points}
        device["connection"] = {"url": meter.url}
        with Delivery(tmp_path, broker) as delivery:
            destination = delivery.destination(url=f"mqtts://127.0.0.1:{port}", tls=tls)
            with GatewayProcess(_folder(tmp_path / "box"), [device], destinations=[destination]) as gateway:

                def state(word: str) -> bool:
                    return gateway.metric("edge_gateway_destination_state", destination="centre", state=word) == 1

                def delivered() -> float:
                    return gateway.metric("edge_gateway_account_delivered_total", destination="centre")

                def days_left() -> float:
                    ends = gateway.metric(EXPIRY, destination="centre")
                    return (ends - datetime.now(UTC).timestamp()) / 86_400

                gateway.start()
                await eventually(lambda: state("online") and delivered() > 0, START_S)
                await eventually(lambda: 19 < days_left() < 20)
                put(expired)
                await eventually(lambda: -3 < days_left() < -1, message="the file as it is now: the next connection's")
                before = delivered()
                await eventually(lambda: delivered() > before, message="the connection is left alone")
                broker.restart()
                await eventually(lambda: state("refused"), AGAIN_S)
                day = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%d}"
                assert f"our certificate {certificate} expired on {day}" in gateway.output
                put(renewed)
                await eventually(lambda: state("online"), AGAIN_S)
                await eventually(lambda: 29 < days_left() < 30)
                await delivery.stop(gateway)
        with delivery.report() as report:
            assert report.reconcile().exact
            assert report.missing() == []


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
