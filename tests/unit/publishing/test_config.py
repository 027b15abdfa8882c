"""Keys of a destination."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.publishing.config import DestinationConfig


def config(**keys: Any) -> DestinationConfig:
    return DestinationConfig.model_validate({"name": "centre", "url": "mqtt://h:1883", "max_grade": 2} | keys)


def test_defaults_lose_nothing_and_leak_nothing() -> None:
    destination = config()
    assert (destination.no_subscribers, destination.start, destination.mqtt) == ("hold", "oldest", 5)
    assert (destination.batch.max_wait, destination.batch.max_bytes, destination.window) == (1.0, 256_000, 100)
    with pytest.raises(ValidationError):
        DestinationConfig.model_validate({"name": "centre", "url": "mqtt://h"})


def test_written_as_in_the_documentation() -> None:
    destination = config(
        **{"from": "now", "bandwidth": "1MB/s", "url": "mqtts://[::1]", "mqtt": "3.1.1", "keepalive": "10s"},
        batch={"max_wait": "500ms", "max_bytes": "10KB"},
        user={"name": "u", "password": "secret"},
    )
    assert destination.brokers == (("::1", 8883, True, None),)
    assert destination.brokers[0].where == "[::1]:8883"
    assert (destination.bandwidth, destination.start) == (1_000_000, "now")
    assert "secret" not in repr(destination)
    assert config(**{"from": "2025-11-21T12:40:00.000001+08:00"}).start == 1_763_700_000_000_001_000


def test_brokers_in_order_with_the_ports_of_their_schemes() -> None:
    others = ["mqtts://b", "ws://c", "wss://d/path/mqtt", "mqtt://a:1883"]
    destination = config(url="mqtt://a:1883", alternatives=others)
    assert destination.brokers == (
        ("a", 1883, False, None),
        ("b", 8883, True, None),
        ("c", 80, False, "/mqtt"),
        ("d", 443, True, "/path/mqtt"),
    )


def test_topics_of_cloud_platforms_begin_with_a_slash_or_a_dollar() -> None:
    for topic in ("/a1pk/{gateway}/user/data", "$oc/devices/{gateway}/user"):
        assert config(topic=topic).topic == topic


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "http://h"}, "expected mqtt://host:port"),
        ({"url": "mqtt://h:99999"}, "ort"),
        ({"url": "mqtt://u:p@h"}, "do not belong into the url"),
        ({"url": "mqtt://h/topic"}, "key of its own"),
        ({"topic": "a/{plant}"}, "unknown {plant}"),
        ({"topic": "a/#"}, "without"),
        ({"topic": "a/{gateway"}, "braces"),
        ({"topic": "a/{gateway:d}"}, "expected {gateway} in the topic without : and !"),
        ({"client_id": "{timestamp!r}"}, "expected {timestamp} in the text without"),
        ({"bandwidth": "1MB"}, "a rate such as"),
        ({"bandwidth": "1B/s"}, "at least"),
        ({"max_grade": 4}, "1, 2 or 3"),
        ({"classes": ["secret"]}, "general"),
        ({"qos": 1}, "not permitted"),
        ({"client_id": "a b"}, "pattern"),
        ({"from": "2026-11-20T08:00:00"}, "with its zone such as"),
        ({"from": "yesterday"}, "expected oldest, now or a time"),
        ({"from": 20261120}, "expected oldest, now or a time"),
        ({"alternatives": ["http://h"]}, "expected mqtt://host:port"),
        ({"client_id": "{box}"}, "unknown {box}"),
        ({"user": {"name": "{box}"}}, "unknown {box} in the text; known are {destination}, {enterprise}, "),
        ({"topic": "a/b/"}, "a slash at its end"),
        ({"topic": "a/$b"}, "without"),
        ({"proxy": {"url": "https://p:3128"}}, "expected http://host:port, found 'https://p:3128'"),
        ({"proxy": {"url": "http://p"}}, "expected http://host:port"),
        ({"proxy": {"url": "https://u:hunter2@p:3128"}}, "do not belong into the url"),
        ({"proxy": {"url": "http://p:3128", "user": {"name": "a:b", "password": "x"}}}, "pattern"),
        ({"source": "eth0"}, "expected an address of this box such as 192.168.1.5, found 'eth0'"),
        ({"interface": "no/such"}, "pattern"),
        ({"max_packet": "10B"}, "greater than or equal to 1000"),
        ({"window": 0}, "greater than or equal to 1"),
        ({"confirm": "centre", "mqtt": "3.1.1"}, "MQTT 3.1.1 has no way for a centre to answer; use `mqtt: 5`"),
        ({"confirm": "me"}, "'broker' or 'centre'"),
    ],
)
def test_mistakes(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**keys)
