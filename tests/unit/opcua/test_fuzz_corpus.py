"""The kept inputs of the fuzzer, replayed: asyncua's result, a value left opaque, or DecodeError; quickly and in little
memory. `make soak` looks for more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.opcua_fuzz import CORPUS, FindingError, by_asyncua, check, compare, decode, notification, seeds

FILES = sorted(CORPUS.glob("*.bin"))
SEEDS = seeds()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kept_input(file: Path) -> None:
    outcome = check(file.read_bytes(), memory=True)
    if file.name.startswith("recorded"):
        assert not outcome.startswith("refused")


@pytest.mark.parametrize("name", SEEDS)
def test_every_type_decodes(name: str) -> None:
    assert not check(SEEDS[name], memory=True).startswith("refused")


@pytest.mark.parametrize("name", SEEDS)
def test_an_end_anywhere_is_refused(name: str) -> None:
    data = SEEDS[name]
    for end in range(0, len(data), 1 + len(data) // 200):
        assert check(data[:end]).startswith("refused")


@pytest.mark.parametrize(("name", "other"), [("Double", "Float"), ("String", "XmlElement"), ("NodeId", "Null")])
def test_the_check_finds_what_differs(name: str, other: str) -> None:
    _, items = decode(SEEDS[name])
    wanted = by_asyncua(SEEDS[other])
    assert items is not None
    assert wanted is not None
    with pytest.raises(FindingError):
        compare(items, wanted)


def test_the_corpus_is_there_and_small() -> None:
    assert len(FILES) >= 40
    assert sum(file.stat().st_size for file in FILES) < 100_000
    assert not check(notification([])).startswith("refused")
