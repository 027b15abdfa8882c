"""PUBACKs as they come from the kernel: many at once, in parts, and between packets of other kinds."""

from __future__ import annotations

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from gateway.publishing.client import Acknowledgement, Client

PINGRESP = b"\xd0\x00"
SENT = b"".join(
    (
        b"\x40\x02\x00\x01",  # MQTT 5, 3.4.2.1: without a reason code it is success
        b"\x40\x03\x00\x02\x10",
        PINGRESP,
        b"\x40\x02\x01\x03",
        b"\x40\x0d\x00\x04\x87\x09\x1f\x00\x06denied",  # with a reason string (3.4.2.2.2)
        b"\x40\x02\x00\x09",  # of nothing that is under way
        b"\x40\x02\x00\x05",
    )
)
MEANT = [
    Acknowledgement(1, 0),
    Acknowledgement(2, 0x10),
    Acknowledgement(0x103, 0),
    Acknowledgement(4, 0x87),
    Acknowledgement(5, 0),
]


class Pieces:
    """A socket that gives what it was given, a piece at a call; then nothing is there."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)
        self.calls = 0

    def recv(self, most: int) -> bytes:
        self.calls += 1
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)

    def close(self) -> None:
        pass


def client_of(pieces: Pieces, monkeypatch: pytest.MonkeyPatch) -> tuple[Client, list[list[Acknowledgement]]]:
    monkeypatch.setattr(paho.Client, "_create_socket", lambda self: pieces)
    client = Client(CallbackAPIVersion.VERSION2, "gateway", protocol=paho.MQTTv5)
    client._sock = client._create_socket()
    client._open = {mid for mid, _ in MEANT}
    taken: list[list[Acknowledgement]] = []
    client.taken = taken.append
    return client, taken


@pytest.mark.parametrize("cut", range(1, len(SENT)))
async def test_wherever_the_bytes_are_cut(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    client, taken = client_of(Pieces(SENT[:cut], SENT[cut:]), monkeypatch)
    assert client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert [one for batch in taken for one in batch] == MEANT
    assert client._open == set()


async def test_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    client, taken = client_of(Pieces(*(SENT[k : k + 1] for k in range(len(SENT)))), monkeypatch)
    assert client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert [one for batch in taken for one in batch] == MEANT


async def test_what_came_together_is_handed_over_together(monkeypatch: pytest.MonkeyPatch) -> None:
    many = b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in range(1, 1001))
    pieces = Pieces(many)
    client, taken = client_of(pieces, monkeypatch)
    client._open = set(range(1, 1001))
    client._last_msg_in = 0.0
    assert client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS
    assert [len(batch) for batch in taken] == [1000]
    assert pieces.calls <= 3, "the kernel is asked for what is there, and once more"
    assert client._last_msg_in > 0, "a link that is heard of needs no ping"


async def test_an_end_of_the_link_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    client, taken = client_of(Pieces(SENT, b"", b"", b""), monkeypatch)
    while (code := client.loop_read()) == MQTTErrorCode.MQTT_ERR_SUCCESS:
        pass
    assert code == MQTTErrorCode.MQTT_ERR_CONN_LOST
    assert [one for batch in taken for one in batch] == MEANT


async def test_one_that_is_too_short_is_against_the_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    client, _ = client_of(Pieces(b"\x40\x01\x00", b""), monkeypatch)
    assert client.loop_read() == MQTTErrorCode.MQTT_ERR_PROTOCOL
