"""What a PUBACK's reason code means for what it acknowledges (MQTT 5, 3.4.2.1). Pure."""

from __future__ import annotations

from enum import Enum, auto

NO_SUBSCRIBERS = 0x10
TOO_LARGE = 0x95


class Verdict(Enum):
    """What to do."""

    DELIVERED = auto()
    HOLD = auto()
    """nobody subscribes: send nothing more, try this again later"""
    STOP = auto()
    """the broker will not take our messages until somebody changes something"""
    PARK = auto()
    """the broker will never take this message"""
    SPLIT = auto()
    """too large: send it in two"""


_WORDS = {
    0x10: "no-subscribers",
    0x80: "unspecified-error",
    0x83: "implementation-specific-error",
    0x87: "not-authorised",
    0x90: "topic-name-invalid",
    0x91: "packet-identifier-in-use",
    0x95: "packet-too-large",
    0x97: "quota-exceeded",
    0x99: "payload-format-invalid",
}
_ADVICE = {
    0x80: "see the broker's log",
    0x83: "see the broker's log",
    0x87: "let the broker's access rules allow this client to publish there",
    0x97: "raise the quota, or send less",
}
_PARKED = {0x90, 0x99}


def verdict(code: int, readings: int, hold: bool) -> Verdict:
    """For a message of `readings` readings; `hold`: whether a message without subscribers counts as not delivered."""
    if code == NO_SUBSCRIBERS and hold:
        return Verdict.HOLD
    if code < 0x80:
        return Verdict.DELIVERED
    if code == TOO_LARGE:
        return Verdict.SPLIT if readings > 1 else Verdict.PARK
    return Verdict.PARK if code in _PARKED else Verdict.STOP


def word(code: int) -> str:
    """A reason code in one word."""
    return _WORDS.get(code, f"0x{code:02x}")


def advice(code: int) -> str:
    """What an operator can do about it."""
    return _ADVICE.get(code, "see the broker's log")
