"""Keys of a device file that contradict each other are errors where they stand, with what to do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from adapters.opcua.config import OpcUaDeviceConfig


def errors(**keys: Any) -> list[tuple[tuple[int | str, ...], str]]:
    """(place, message) of what is wrong with a device file of these keys."""
    points = keys.pop("points", [{}])
    try:
        OpcUaDeviceConfig.model_validate(
            {
                "device": "reactor",
                "adapter": "opcua",
                "connection": {"url": "opc.tcp://h:4840"},
                "points": [{"point": f"p{i}", "node": f"i={i + 1}", **point} for i, point in enumerate(points)],
                **keys,
            }
        )
    except ValidationError as error:
        return [(each["loc"], each["msg"]) for each in error.errors()]
    return []


@pytest.mark.parametrize("type", ["bool", "string", "bytes"])
def test_a_deadband_needs_a_number(type: str) -> None:
    ((place, message),) = errors(points=[{}, {"type": type, "deadband": 1}])
    assert place == ("points", 1, "deadband")
    assert message == f"a deadband needs a number, and type: {type} is none; take one of them out"
    assert not errors(points=[{"type": "float32", "deadband": 1}, {"deadband": "1%"}])
    assert not errors(points=[{"type": type}], subscribe={"deadband": 1}), "of the others"


@pytest.mark.parametrize("trigger", ["status", "timestamp"])
def test_a_deadband_and_another_trigger_exclude_each_other(trigger: str) -> None:
    both = {"trigger": trigger, "deadband": 1}
    ((place, message),) = errors(points=[both])
    assert place == ("points", 0, "trigger")
    assert "exclude each other" in message
    assert errors(subscribe=both)[0][0] == ("subscribe", "trigger")
    assert not errors(points=[{"trigger": "value", "deadband": 1}])


def test_sampling_faster_than_the_load_allows() -> None:
    load = {"min_sampling": "500ms"}
    found = errors(load=load, subscribe={"sampling": "100ms"}, points=[{}, {"sampling": "50ms"}, {"poll": "200ms"}])
    assert [place for place, _ in found] == [
        ("subscribe", "sampling"),
        ("points", 1, "sampling"),
        ("points", 2, "poll"),
    ]
    assert found[1][1] == "0.05 s is faster than load.min_sampling allows (0.5 s); change one of them"
    assert errors(load=load, poll="100ms")[0][0] == ("poll",)
    assert not errors(load={"min_sampling": "5s"}), "who has not asked for 1 s gets 5 s"


def test_requests_that_are_too_few_for_the_intervals() -> None:
    ((place, message),) = errors(load={"requests_per_s": 5}, subscribe={"publishing": "100ms"})
    assert place == ("load", "requests_per_s")
    assert "one request for each makes 10 a second" in message
    assert not errors(load={"requests_per_s": 20}, subscribe={"publishing": "100ms"}, points=[{"poll": "1s"}, {}])
    polled = [{"poll": "100ms"}]
    assert errors(load={"requests_per_s": 5}, points=polled), "polls count, the unused default subscription does not"
    assert not errors(load={"requests_per_s": 10}, points=polled)


def test_history_has_no_times_of_the_gateway() -> None:
    ((place, message),) = errors(backfill=True, clock="gateway")
    assert place == ("backfill",)
    assert "clock: gateway" in message
    assert not errors(backfill=True, clock="server")
    assert not errors(clock="gateway")


def test_keys_that_are_of_no_use_to_a_polled_point() -> None:
    ((place, message),) = errors(points=[{"poll": "1s", "queue": "10s"}])
    assert place == ("points", 0, "queue")
    assert message == "queue is of no use to a point that is polled; take it out"
    ((place, message),) = errors(points=[{"sampling": "2s"}], poll="1s")
    assert place == ("points", 0, "sampling")
    assert "poll: never" in message
    assert not errors(points=[{"sampling": "2s", "poll": "never"}], poll="1s")
