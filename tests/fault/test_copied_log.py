"""A copied, cloned or restored log folder: a new stream begins, and no offset is ever used twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.crash_plant import counting_device, counting_file
from tests.support.rig import START_S, Delivery, GatewayProcess
from tests.support.wait import eventually


def keep(log: Path, kept: Path) -> None:
    shutil.copytree(log, kept)


def restore_in_another_folder(log: Path, kept: Path) -> None:
    shutil.rmtree(log)
    shutil.copytree(kept, log)


def restore_over_the_same_files(log: Path, kept: Path) -> None:
    """As a backup program does that overwrites in place: the same inodes, older content."""
    for path in log.iterdir():
        if not (kept / path.name).exists():
            path.unlink()
    for path in kept.iterdir():
        (log / path.name).write_bytes(path.read_bytes())


async def collect(gateway: GatewayProcess, delivery: Delivery) -> None:
    """Run until 300 more readings are accepted and delivered."""
    gateway.start()

    def accepted() -> float:
        return gateway.metric("edge_gateway_account_accepted_total", destination="centre")

    await eventually(lambda: accepted() >= 0, START_S)
    before = accepted()
    await eventually(
        lambda: gateway.metric("edge_gateway_readings_accepted_total", device="counter", adapter="modbus") > 300,
        START_S,
    )
    await eventually(lambda: accepted() > before, START_S)
    await delivery.settled(gateway)
    assert await delivery.stop(gateway) == 0, gateway.output


def streams(delivery: Delivery) -> set[str]:
    with delivery.report() as report:
        return {count.source.stream for count in report.counts()}


def check_offsets(delivery: Delivery) -> None:
    with delivery.report() as report:
        assert report.conflicts() == [], "an offset was used twice"
        assert report.errors() == {}, report.error_samples()


@pytest.mark.parametrize("restore", [restore_in_another_folder, restore_over_the_same_files])
async def test_an_older_copy_begins_a_new_stream(tmp_path: Path, restore: Callable[[Path, Path], None]) -> None:
    kept = tmp_path / "kept"
    async with counting_device() as device:
        with Delivery(tmp_path) as delivery:
            files = [counting_file(device.url)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                await collect(gateway, delivery)
                keep(gateway.log, kept)
                await collect(gateway, delivery)
                (first,) = streams(delivery)
                restore(gateway.log, kept)
                await collect(gateway, delivery)
                assert len(streams(delivery)) == 2, gateway.output
                check_offsets(delivery)
                with delivery.report() as report:
                    (closed,) = report.events("stream/1")
                assert closed["closed"] == first
                assert closed["reason"] in ("restored", "copied")
                await collect(gateway, delivery)
                assert len(streams(delivery)) == 2, "it goes on with the new stream and needs no third"


async def test_a_clone_on_another_box_begins_a_new_stream(tmp_path: Path) -> None:
    async with counting_device() as device:
        with Delivery(tmp_path) as delivery:
            files = [counting_file(device.url)]
            other = tmp_path / "other"
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                await collect(gateway, delivery)
                other.mkdir()
                with GatewayProcess(other, files, destinations=[delivery.destination()]) as clone:
                    shutil.copytree(gateway.log, clone.log)
                    await collect(clone, delivery)
                    await collect(gateway, delivery)
            assert len(streams(delivery)) == 2, "the clone has its own stream, the original goes on with the first"
            check_offsets(delivery)


async def test_an_undisturbed_restart_goes_on_with_the_same_stream(tmp_path: Path) -> None:
    async with counting_device() as device:
        with Delivery(tmp_path) as delivery:
            files = [counting_file(device.url)]
            with GatewayProcess(tmp_path, files, destinations=[delivery.destination()]) as gateway:
                await collect(gateway, delivery)
                await collect(gateway, delivery)
            assert len(streams(delivery)) == 1
            check_offsets(delivery)
            with delivery.report() as report:
                assert report.missing() == []
                assert report.reconcile().exact
