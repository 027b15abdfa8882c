"""What every part of the broker campaign needs: readings to lose, an account to check, a thief of sessions."""

from __future__ import annotations

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from gateway.publishing.publisher import Publisher
from tests.support.destination import ENTERPRISE, Plant
from tests.support.fakelog import readings

SMALL = {"max_wait": "20ms", "max_bytes": "1500B"}
"""about ten readings in a message"""


def fill(plant: Plant, segments: int, start: int = 0) -> int:
    """Ten readings a segment, offsets from `start` on; returns the offset after them."""
    for k in range(segments):
        plant.log.append(readings(10, start=start + k * 10))
    return start + segments * 10


def exact(publisher: Publisher, *, delivered: int, parked: int = 0) -> None:
    """Nothing waits, nothing is lost, nothing is counted twice."""
    total = publisher.statistics().total
    assert (total.delivered, total.parked, total.waiting, total.unbalanced) == (delivered, parked, 0, 0)
    assert total.accepted == delivered + parked
    assert total.dropped == {}


def told(caplog: pytest.LogCaptureFixture, words: str) -> int:
    """How many log lines hold these words."""
    return sum(words in message for message in caplog.messages)


def take_over(port: int, version: int = paho.MQTTv5) -> None:
    """Another client with the publisher's id comes, and goes once it is in."""
    # The publisher may be back and take over in turn before the thief has gone: then it must not come again.
    thief = paho.Client(
        CallbackAPIVersion.VERSION2, f"{ENTERPRISE}-gw-1-centre", protocol=version, reconnect_on_failure=False
    )
    thief.on_connect = lambda client, *_: client.disconnect()
    thief.connect("127.0.0.1", port)
    thief.loop_forever()
