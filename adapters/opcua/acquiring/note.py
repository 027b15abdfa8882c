"""What the gateway leaves in its own log for the process after a crash: which subscriptions are ours. Pure."""

from __future__ import annotations

import base64
import binascii
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from adapters.opcua.acquiring.progress import Made

_VERSION: Final = 1
_MOST_PACKED: Final = 240_000
"""bytes of item ids in one note, which may have 256 kB"""
_MOST_ITEMS: Final = 1_000_000
"""a note that says more has been damaged"""


class KeptSubscription(NamedTuple):
    """One subscription at the server."""

    made: Made
    digest: str
    """of everything that decides its items"""
    expected: int
    """sequence number of the next notification as of the note; earlier ones were offered before it"""
    items: tuple[int, ...] | None
    """the server's id of each planned point's item, in the order of the points' indexes, 0 = none; None = they were
    not all made yet"""
    bridged_s: float | None = None
    """how long an outage of the link loses nothing of it; None = not known"""


class Note(NamedTuple):
    """Everything of ours at one server."""

    server: str
    """its own URI"""
    url: str
    started: int | None
    """ms since the epoch: when the server began to run, if it says so; its subscriptions die with it"""
    subscriptions: tuple[KeptSubscription, ...]
    ended: tuple[int, ...]
    """ids of subscriptions that are of no use and may still be at the server"""


def write_note(note: Note) -> dict[str, Any]:
    """As JSON-able data. 10,000 items with ids of 4 bytes take 54 kB at most, consecutive ids a fraction of that.

    Item ids for which there is no room are left out, as if the items were not all made.
    """
    room = _MOST_PACKED
    subscriptions = []
    for each in note.subscriptions:
        packed = None if each.items is None else pack_ids(each.items)
        if packed is not None and len(packed) > room:
            packed = None
        room -= len(packed or "")
        subscriptions.append(
            {
                "made": list(each.made),
                "digest": each.digest,
                "expected": each.expected,
                "items": packed,
                "bridged": each.bridged_s,
            }
        )
    return {
        "version": _VERSION,
        "server": note.server,
        "url": note.url,
        "started": note.started,
        "ended": list(note.ended),
        "subscriptions": subscriptions,
    }


def read_note(data: Mapping[str, Any]) -> Note | None:
    """What `write_note` wrote; None for anything else, such as the note of another version."""
    try:
        if data["version"] != _VERSION:
            return None
        return Note(
            str(data["server"]),
            str(data["url"]),
            None if data["started"] is None else int(data["started"]),
            tuple(
                KeptSubscription(
                    _made(each["made"]),
                    str(each["digest"]),
                    int(each["expected"]),
                    None if each["items"] is None else unpack_ids(each["items"]),
                    None if each.get("bridged") is None else float(each["bridged"]),
                )
                for each in data["subscriptions"]
            ),
            tuple(map(int, data["ended"])),
        )
    except (KeyError, ValueError, TypeError, AttributeError, zlib.error):
        return None


def _made(values: Sequence[Any]) -> Made:
    id, publishing_s, keep_alive_s, lifetime_s = values
    return Made(int(id), float(publishing_s), float(keep_alive_s), float(lifetime_s))


def pack_ids(ids: Sequence[int]) -> str:
    """Ids below 2^32 as text: their differences, four bytes each, deflated, base64. Servers number items upwards."""
    steps = array("I", ((after - before) % 2**32 for before, after in zip((0, *ids), ids, strict=False)))
    if sys.byteorder == "big":
        steps.byteswap()
    return base64.b64encode(zlib.compress(steps.tobytes())).decode()


def unpack_ids(text: str) -> tuple[int, ...]:
    """What `pack_ids` packed. Raises ValueError or zlib.error."""
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("item ids: expected base64") from error
    inflater = zlib.decompressobj()
    raw = inflater.decompress(packed, 4 * _MOST_ITEMS)
    if not inflater.eof or len(raw) % 4:
        raise ValueError("item ids: the packed list is cut off or too long")
    steps = array("I")
    steps.frombytes(raw)
    if sys.byteorder == "big":
        steps.byteswap()
    ids, at = [], 0
    for step in steps:
        at = (at + step) % 2**32
        ids.append(at)
    return tuple(ids)
