"""What a reload would do, from two config folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gateway.config import LoadedConfig, load_config
from gateway.runtime.changes import Changes, changes
from gateway.runtime.reloading import in_words

DESTINATION = {"name": "centre", "url": "mqtt://127.0.0.1:1", "max_grade": 1}
GATEWAY: dict[str, Any] = {
    "gateway": {"id": "gw-1", "enterprise": "91370200MA3C00000K"},
    "governance": {"domain": "production", "grade": 1, "class": "general"},
    "log": {"path": "log"},
    "destinations": [DESTINATION],
}


def device(name: str, *points: dict[str, Any], **keys: Any) -> dict[str, Any]:
    given = list(points) or [point("level")]
    return {"device": name, "adapter": "modbus", "connection": {"url": "tcp://10.0.0.1:502"}, "points": given, **keys}


def point(name: str, **keys: Any) -> dict[str, Any]:
    return {"point": name, "address": "holding 0", "type": "uint16", **keys}


def load(folder: Path, *devices: dict[str, Any], **gateway: Any) -> LoadedConfig:
    for old in (folder / "devices").glob("*.yaml"):
        old.unlink()
    (folder / "devices").mkdir(parents=True, exist_ok=True)
    (folder / "gateway.yaml").write_text(yaml.safe_dump({**GATEWAY, **gateway}), encoding="utf-8")
    for one in devices:
        (folder / "devices" / f"{one['device']}.yaml").write_text(yaml.safe_dump(one), encoding="utf-8")
    return load_config(folder)


def compare(folder: Path, after: list[dict[str, Any]], **gateway: Any) -> Changes:
    before = load(folder, device("a"), device("b"))
    return changes(before, load(folder, *after, **gateway))


def test_the_same_is_no_change(tmp_path: Path) -> None:
    assert not compare(tmp_path, [device("a"), device("b")])


def test_devices_that_are_new_changed_and_gone(tmp_path: Path) -> None:
    found = compare(tmp_path, [device("a", point("level", scale=0.1), point("flow"), every="2s"), device("c")])
    assert (found.devices.added, found.devices.removed) == (("c",), ("b",))
    assert set(found.devices.changed["a"]) == {
        "every: 1.0 -> 2.0", "points.level.scale: nothing -> 0.1", "+ point flow"
    }  # fmt: skip
    assert not found.destinations
    assert in_words(found) == "device new: c; device changed: a; device gone: b"


def test_a_label_of_the_gateway_changes_every_device_that_inherits_it(tmp_path: Path) -> None:
    own = {"domain": "production", "grade": 1, "class": "general"}
    before = load(tmp_path, device("a"), device("b", governance=own))
    after = load(tmp_path, device("a"), device("b", governance=own), governance={**own, "grade": 2})
    found = changes(before, after)
    assert dict(found.devices.changed) == {"a": ("governance: other labels",)}


def test_identifiers_too(tmp_path: Path) -> None:
    found = compare(tmp_path, [device("a"), device("b")], identifiers={"prefix": "88.118.8"})
    assert set(found.devices.changed) == {"a", "b"}
    assert found.devices.changed["a"] == ("identifiers: other ones",)


def test_destinations_and_a_password_is_not_shown(tmp_path: Path) -> None:
    user = {"name": "gateway", "password": "very-secret"}
    found = compare(tmp_path, [device("a"), device("b")], destinations=[{**DESTINATION, "user": user}])
    assert set(found.destinations.changed) == {"centre"}
    assert "very-secret" not in str(found)
    other = {**user, "password": "another-secret"}
    before = load(tmp_path, device("a"), destinations=[{**DESTINATION, "user": user}])
    after = load(tmp_path, device("a"), destinations=[{**DESTINATION, "user": other}])
    assert set(changes(before, after).destinations.changed) == {"centre"}


def test_another_time_zone_concerns_every_destination(tmp_path: Path) -> None:
    identity = {**GATEWAY["gateway"], "timezone": "UTC"}
    found = compare(tmp_path, [device("a"), device("b")], gateway=identity)
    assert dict(found.destinations.changed) == {"centre": ("gateway.timezone",)}
    assert not found.impossible


def test_what_only_a_start_takes_over_is_said_key_by_key(tmp_path: Path) -> None:
    found = compare(tmp_path, [device("a"), device("b")], log={"path": "other", "keep": "10d"})
    assert len(found.impossible) == 1
    assert "log.keep: 15552000.0 -> 864000.0" in found.impossible[0]
    assert "restart the gateway" in found.impossible[0]
    renamed = {**GATEWAY["gateway"], "id": "gw-2"}
    assert "from gw-1 to gw-2: that is another gateway" in compare(
        tmp_path, [device("a"), device("b")], gateway=renamed
    ).impossible[0]  # fmt: skip
