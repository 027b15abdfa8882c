"""What `connection.url` may say, and the message of each mistake."""

from __future__ import annotations

import pytest

from adapters.lines.listen import Guest
from adapters.lines.ports import SerialSettings
from adapters.modbus.url import parse_url


@pytest.mark.parametrize(
    ("url", "wire", "framing"),
    [
        ("tcp://10.0.0.1", ("tcp", "10.0.0.1", 502), "mbap"),
        ("tcp://plc.example:1502/", ("tcp", "plc.example", 1502), "mbap"),
        ("tcp://[fe80::1]:503", ("tcp", "fe80::1", 503), "mbap"),
        ("tls://plc", ("tcp", "plc", 802), "mbap"),
        ("udp://plc", ("udp", "plc", 502), "mbap"),
        ("rtu+tcp://moxa:4001", ("tcp", "moxa", 4001), "rtu"),
        ("ascii+tcp://moxa:4001", ("tcp", "moxa", 4001), "ascii"),
        ("serial:///dev/ttyUSB0", ("serial", "/dev/ttyUSB0", 0), "rtu"),
        ("serial:///dev/ttyS1?framing=ascii&bits=7", ("serial", "/dev/ttyS1", 0), "ascii"),
        ("listen+rtu://0.0.0.0:9000?id=DTU7", ("listen", "0.0.0.0/44545537", 9000), "rtu"),
    ],
)
def test_urls(url: str, wire: tuple[str, str, int], framing: str) -> None:
    place = parse_url(url)
    assert (place.wire, place.framing) == (wire, framing)


def test_serial_settings_have_eleven_bits_a_character() -> None:
    assert parse_url("serial:///dev/a").serial == SerialSettings("/dev/a", 9600, "E", 1, 8)
    without_parity = parse_url("serial:///dev/a?baud=19200&parity=N").serial
    assert without_parity == SerialSettings("/dev/a", 19200, "N", 2, 8)
    assert without_parity.bits == 11
    assert without_parity.seconds(1920) == pytest.approx(1.1)


def test_settings_do_not_make_another_wire() -> None:
    assert parse_url("serial:///dev/a?baud=9600").wire == parse_url("serial:///dev/a?baud=4800").wire


def test_a_port_of_a_serial_server_is_one_wire_whatever_it_is_said_to_speak() -> None:
    wires = {parse_url(f"{scheme}://moxa:4001").wire for scheme in ("tcp", "tls", "rtu+tcp", "ascii+tcp")}
    assert len(wires) == 1
    assert parse_url("udp://moxa:4001").wire not in wires


def test_a_registration_may_begin_with_a_plus_sign() -> None:
    place = parse_url("listen+rtu://0.0.0.0:9000?id=+8613800000000&heartbeat=a%20b%26")
    assert place.dial_in == Guest(b"+8613800000000", b"a b&")


def test_dial_in() -> None:
    place = parse_url("listen+rtu://0.0.0.0:9000?id=hex:0aFF&heartbeat=%40&allow=10.0.0.0/8,192.0.2.7")
    assert place.dial_in == Guest(b"\x0a\xff", b"@", ("10.0.0.0/8", "192.0.2.7"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("10.0.0.1", r"expected tcp://HOST\[:PORT\]"),
        ("http://h", "expected tcp://HOST"),
        ("tcp://", "expected tcp://HOST"),
        ("tcp://h:99999", "expected tcp://HOST"),
        ("tcp://h:0", "a port between 1 and 65535"),
        ("tcp://h/x", "expected tcp://HOST"),
        ("tcp://[::1", "expected tcp://HOST"),
        ("tcp://plc..example", "'plc..example' is no name of a host"),
        ("tcp://h?baud=9600", r"unknown key 'baud' after the question mark \(tcp:// takes none\)"),
        ("rtu+tcp://moxa", "such as rtu\\+tcp://moxa:4001"),
        ("serial://dev/ttyUSB0", "three slashes"),
        ("serial:///", "three slashes"),
        ("serial:///dev/a?speed=9600", "known here: baud, parity"),
        ("serial:///dev/a?baud=fast", "baud must be a number such as 9600, found 'fast'"),
        ("serial:///dev/a?baud=9600&baud=1", "baud is given twice"),
        ("serial:///dev/a?parity=even", "parity must be E or O or N, found 'even'"),
        ("serial:///dev/a?bits=7", "RTU frames need 8 data bits"),
        ("listen+rtu://0.0.0.0:9000?allow=everyone", "allow must be addresses or networks"),
        ("listen+rtu://0.0.0.0:9000?id=hex:1", "after hex: expected pairs"),
        ("listen+rtu://0.0.0.0:9000?id=", "id is empty"),
    ],
)
def test_wrong_urls(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_url(url)
