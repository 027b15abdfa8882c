"""One quality model: OPC UA status codes (Part 4, 7.39), their severity and a reason in one word.

Every protocol maps onto these codes; 0 is Good.
"""

from __future__ import annotations

from typing import Final

GOOD: Final = 0x00000000
UNCERTAIN_LAST_USABLE: Final = 0x40900000
UNCERTAIN_SUBSTITUTE: Final = 0x40910000
UNCERTAIN_INITIAL: Final = 0x40920000
UNCERTAIN_ENGINEERING_UNITS_EXCEEDED: Final = 0x40940000
UNCERTAIN_DATA_SUB_NORMAL: Final = 0x40A40000
BAD: Final = 0x80000000
BAD_COMMUNICATION_ERROR: Final = 0x80050000
BAD_DECODING_ERROR: Final = 0x80070000
BAD_TIMEOUT: Final = 0x800A0000
BAD_USER_ACCESS_DENIED: Final = 0x801F0000
BAD_NO_COMMUNICATION: Final = 0x80310000
BAD_WAITING_FOR_INITIAL_DATA: Final = 0x80320000
BAD_NODE_ID_INVALID: Final = 0x80330000
BAD_NODE_ID_UNKNOWN: Final = 0x80340000
BAD_NOT_READABLE: Final = 0x803A0000
BAD_OUT_OF_RANGE: Final = 0x803C0000
BAD_TYPE_MISMATCH: Final = 0x80740000
BAD_NO_DATA: Final = 0x809B0000
BAD_CONFIGURATION_ERROR: Final = 0x80890000
BAD_NOT_CONNECTED: Final = 0x808A0000
BAD_DEVICE_FAILURE: Final = 0x808B0000
BAD_SENSOR_FAILURE: Final = 0x808C0000
BAD_OUT_OF_SERVICE: Final = 0x808D0000

CODE_MASK: Final = 0xFFFF0000
"""compare a code through this mask: the low half are information bits"""
OVERFLOW_BITS: Final = 0x00000480
"""InfoType DataValue (bits 11-10 = 01) with the Overflow bit (7): the server's queue lost values"""

_REASONS: Final[dict[int, str]] = {
    0x8005: "comm",
    0x8007: "config",
    0x800A: "comm",
    0x801F: "security",
    0x8031: "comm",
    0x8032: "initial",
    0x8033: "config",
    0x8034: "config",
    0x803A: "config",
    0x803C: "out_of_range",
    0x8074: "config",
    0x8089: "config",
    0x808A: "comm",
    0x808B: "device",
    0x808C: "sensor",
    0x808D: "device",
    0x809B: "stale",
    0x80AE: "comm",
    0x80DB: "config",
    0x408F: "stale",
    0x4090: "stale",
    0x4091: "substituted",
    0x4092: "initial",
    0x4093: "sensor",
    0x4094: "out_of_range",
    0x4095: "sensor",
    0x4208: "substituted",
    0x4209: "simulated",
    0x420A: "sensor",
    0x420F: "config",
}


def quality(code: int) -> str:
    """ "good", "uncertain" or "bad": the severity bits 31-30; the reserved 11 counts as bad (Part 4, 7.39.1)."""
    return ("good", "uncertain", "bad", "bad")[code >> 30 & 3]


def reason(code: int) -> str:
    """Why a reading is not good, in one word of our list; "ok" for Good, "unknown" for codes without a mapping."""
    if code >> 30 & 3 == 0:
        return "overflow" if code & OVERFLOW_BITS == OVERFLOW_BITS else "ok"
    return _REASONS.get(code >> 16, "unknown")
