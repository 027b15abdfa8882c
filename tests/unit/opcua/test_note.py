"""The note for the next process: it says the same when read back, is small, and garbage is no note."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from adapters.opcua.acquiring.note import KeptSubscription, Note, pack_ids, read_note, unpack_ids, write_note
from adapters.opcua.acquiring.progress import Made
from gateway.runtime.sink import NOTE_BYTES


def note(*items: tuple[int, ...] | None, ended: tuple[int, ...] = ()) -> Note:
    kept = [
        KeptSubscription(Made(n + 1, 0.5, 5.0, 600.0), f"digest {n}", 7 + n, ids, None if ids is None else 31.0)
        for n, ids in enumerate(items)
    ]
    return Note("urn:server", "opc.tcp://h:4840", 1_795_266_000_000, tuple(kept), ended)


def as_the_log_gives_it(written: dict[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(written))


@pytest.mark.parametrize("items", [(1, 2, 3), (5, 0, 4, 2**32 - 1), (), None])
def test_reads_back_what_was_written(items: tuple[int, ...] | None) -> None:
    wanted = note(items, (9,), ended=(3, 4))
    assert read_note(as_the_log_gives_it(write_note(wanted))) == wanted


def test_a_server_that_does_not_say_when_it_started() -> None:
    wanted = note((1,))._replace(started=None)
    assert read_note(as_the_log_gives_it(write_note(wanted))) == wanted


@pytest.mark.parametrize("subscriptions", [1, 10])
def test_ten_thousand_items_with_any_ids_fit(subscriptions: int) -> None:
    draw = random.Random(1)
    each = 10_000 // subscriptions
    ids = [tuple(draw.randrange(1, 2**32) for _ in range(each)) for _ in range(subscriptions)]
    assert len(orjson.dumps(write_note(note(*ids)))) < 60_000


def test_more_items_than_a_note_holds_are_left_out() -> None:
    """Then the subscriptions are known, so that they can be deleted, but not taken up."""
    draw = random.Random(1)
    ids = [tuple(draw.randrange(1, 2**32) for _ in range(40_000)) for _ in range(2)]
    written = as_the_log_gives_it(write_note(note(*ids)))
    assert len(orjson.dumps(written)) < NOTE_BYTES
    read = read_note(written)
    assert read is not None
    assert [each.items is None for each in read.subscriptions] == [False, True]
    assert [each.made.id for each in read.subscriptions] == [1, 2]


def test_consecutive_ids_take_next_to_nothing() -> None:
    assert len(pack_ids(range(1, 10_001))) < 200


def broken(**keys: Any) -> dict[str, Any]:
    return {**write_note(note((1, 2))), **keys}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"version": 1},
        broken(version=2),
        broken(started="yesterday"),
        broken(ended=None),
        broken(subscriptions=[{"made": [1, 2, 3]}]),
        broken(subscriptions=[{"made": [1, 0.5, 5, 600], "digest": "d", "expected": 1, "items": "no base64"}]),
        broken(subscriptions=[{"made": [1, 0.5, 5, 600], "digest": "d", "expected": 1, "items": "AAAA"}]),
        broken(subscriptions=[{"made": [1, 0.5, 5, 600], "digest": "d", "expected": 1, "items": pack_ids((1, 2))[:8]}]),
    ],
)
def test_what_is_no_note_of_ours(data: dict[str, Any]) -> None:
    assert read_note(data) is None


def test_ids_are_not_unpacked_without_end() -> None:
    with pytest.raises(ValueError, match="too long"):
        unpack_ids(pack_ids([1] * 1_000_001))
