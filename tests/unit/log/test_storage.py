"""What the log lies on, from a made-up /sys and /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.log import budget_bytes, commit_default_s, kind_of, space


def system(
    root: Path, path: Path, *, fs: str = "ext4", disk: str, files: dict[str, str], partition: bool = True
) -> None:
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(f"36 35 {number} / /mnt rw,noatime shared:1 - {fs} /dev/{disk}p1 rw\n")
    home = root / "sys/devices/soc" / disk
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text + "\n")
    block = home
    if partition:
        block = home / f"{disk}p1"
        block.mkdir(parents=True)
        (block / "partition").write_text("1\n")
    for link in (root / "sys/dev/block" / number, root / "sys/class/block" / f"{disk}p1"):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(block)


@pytest.mark.parametrize(
    ("disk", "files", "kind", "commit_s"),
    [
        ("mmcblk0", {"device/type": "MMC", "queue/rotational": "0"}, "emmc", 2.0),
        ("mmcblk1", {"device/type": "SD", "queue/rotational": "0"}, "sd", 2.0),
        ("nvme0n1", {"queue/rotational": "0"}, "ssd", 0.2),
        ("sda", {"queue/rotational": "1"}, "hdd", 0.2),
        ("xda", {}, "unknown", 0.2),
    ],
)
@pytest.mark.parametrize("partition", [True, False])
def test_kind_by_disk(
    tmp_path: Path, disk: str, files: dict[str, str], kind: str, commit_s: float, partition: bool
) -> None:
    (tmp_path / "root/sys/devices/soc" / disk).mkdir(parents=True)
    system(tmp_path / "root", tmp_path, disk=disk, files=files, partition=partition)
    found = kind_of(tmp_path / "not" / "yet", root=tmp_path / "root")
    assert found == kind
    assert commit_default_s(found) == commit_s


def test_memory_is_not_storage(tmp_path: Path) -> None:
    system(tmp_path / "root", tmp_path, fs="tmpfs", disk="none", files={})
    assert kind_of(tmp_path, root=tmp_path / "root") == "tmpfs"


def test_this_machine_answers_something(tmp_path: Path) -> None:
    assert kind_of(tmp_path) in ("ssd", "emmc", "sd", "hdd", "tmpfs", "unknown")
    assert kind_of(Path("/dev/shm")) == "tmpfs"


def test_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, free = space(tmp_path)
    assert 0 < free <= total
    assert budget_bytes(tmp_path, 1_000_000) == 1_000_000
    sizes = {"total": 10_000_000_000, "free": 8_000_000_000}
    monkeypatch.setattr("gateway.log.storage.shutil.disk_usage", lambda _: type("Usage", (), sizes)())
    assert budget_bytes(tmp_path, "auto") == 4_000_000_000
    sizes["free"] = 3_000_000_000
    assert budget_bytes(tmp_path, "auto") == 2_000_000_000
    assert budget_bytes(tmp_path, "auto", used=1_500_000_000) == 3_500_000_000
    sizes["free"] = 500_000_000
    assert budget_bytes(tmp_path, "auto") == 0
    sizes.update(total=100_000_000_000, free=90_000_000_000)
    assert budget_bytes(tmp_path, "auto") == 20_000_000_000
