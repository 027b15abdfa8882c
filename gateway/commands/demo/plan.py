"""The demo's config: a copy of config/ that points at the simulated plant and at free ports."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gateway.commands.demo.children import DemoError


def example_config() -> Path:
    """config/ of a checkout, or its copy inside an installed package."""
    for folder in (Path(__file__).parents[3] / "config", Path(__file__).parent / "config"):
        if (folder / "gateway.yaml").exists():
            return folder
    raise DemoError("demo: the example config is missing from this installation; run it from a checkout")


def write_config(
    folder: Path, plant: Mapping[str, str], *, broker: str, mqtt311: bool, metrics_port: int, log: Path
) -> Path:
    """Copy the example into `folder` with other addresses; returns the config folder.

    `plant` maps device names to their urls.
    """
    target = folder / "config"
    shutil.copytree(example_config(), target)
    gateway = _load(target / "gateway.yaml")
    gateway["log"] = {**gateway.get("log", {}), "path": str(log)}
    gateway["metrics"] = {"listen": f"127.0.0.1:{metrics_port}"}
    for destination in gateway["destinations"]:
        destination["url"] = broker
        if mqtt311:
            destination["mqtt"] = "3.1.1"
    _save(gateway, target / "gateway.yaml")
    for path in sorted((target / "devices").glob("*.yaml")):
        device = _load(path)
        device["connection"]["url"] = plant[device["device"]]
        _save(device, path)
    return target


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _save(content: dict[str, Any], path: Path) -> None:
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
