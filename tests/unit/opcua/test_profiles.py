"""profiles.toml: every number has a source, none contradicts another, and the documentation says the same."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.opcua.config import LoadConfig, OpcUaDeviceConfig
from adapters.opcua.profiles import DEFAULT, PROFILES, Profile
from adapters.opcua.session.limits import Limits, ServerSays

ROOT = Path(__file__).parents[3]
WRITTEN: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "adapters/opcua/profiles.toml").read_text(encoding="utf-8"))
WORDS = {"name", "description", "source"}
BOUNDS = {field.name for field in dataclasses.fields(Profile)} - WORDS - {"cautious"}


def test_the_makes_that_are_promised_are_there() -> None:
    assert set(PROFILES) == {
        "default", "siemens-s7-1200", "siemens-s7-1500", "kepware", "prosys", "open62541", "codesys", "beckhoff",
    }  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_every_number_is_a_sensible_bound_with_a_source(name: str) -> None:
    keys = WRITTEN[name]
    assert keys["description"]
    assert re.search(r"\bsure\b|not found|our own caution", keys["source"], re.IGNORECASE), "say how sure it is"
    assert set(keys) <= BOUNDS | WORDS
    for key in set(keys) & BOUNDS - {"transfer"}:
        whole = key not in ("requests_per_s", "min_sampling", "min_publishing", "ramp")
        assert isinstance(keys[key], int if whole else int | float), key
        assert keys[key] > 0, "0 is no bound: leave it out"
    numbers = set(keys) & BOUNDS
    assert not numbers or name == DEFAULT or "sure" in keys["source"].lower()


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: profile.name)
def test_the_usual_device_file_is_within_every_profile(profile: Profile) -> None:
    limits = Limits.of(ServerSays(), profile, LoadConfig())
    assert limits.requests_per_s is not None, "a make of which nothing is known is treated with caution"
    assert limits.min_sampling <= 1
    assert limits.min_publishing <= 0.5
    assert limits.queue >= 31


def test_an_unknown_profile_is_refused_with_the_nearest() -> None:
    keys = {
        "device": "d",
        "adapter": "opcua",
        "connection": {"url": "opc.tcp://h:1"},
        "points": [{"point": "p", "node": "i=85"}],
    }
    with pytest.raises(ValidationError, match="no server profile 's7-1200'; did you mean 'siemens-s7-1200'"):
        OpcUaDeviceConfig.model_validate({**keys, "profile": "s7-1200"})
    with pytest.raises(ValidationError, match=r"no server profile 'zzz' \(known: beckhoff, codesys, default"):
        OpcUaDeviceConfig.model_validate({**keys, "profile": "zzz"})


def test_the_documentation_lists_what_the_file_says() -> None:
    page = (ROOT / "docs/opcua-subscriptions.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| ([^|]*) \|$", page, re.MULTILINE))
    expected = {
        name: ", ".join(f"`{key}` {value:g}" for key, value in keys.items() if key in BOUNDS) or "nothing found"
        for name, keys in WRITTEN.items()
    }
    assert {name: text for name, text in rows.items() if name in WRITTEN} == expected
    for name, keys in WRITTEN.items():
        source = keys["source"]
        assert f"- **{name}**: {keys['description']}. {source[0].upper()}{source[1:]}.\n" in page
