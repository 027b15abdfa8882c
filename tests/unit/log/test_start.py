"""What a start reads: the newest file wholly, of the others no more than must be."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.log.datafile import data_files
from gateway.log.preamble import Preamble
from gateway.runtime.opening import file_bytes
from tests.support.logs import open_log, reading, segment


def test_records_are_decoded_of_the_newest_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "log"
    store, _ = open_log(folder, rotate_bytes=1)
    for n in range(12):
        store.append([segment(reading(n * 10))], store.bounds().end)
    store.close()
    firsts = [first for first, _ in data_files(folder)]
    assert len(firsts) == 12
    decoded: list[int] = []
    decode = Preamble.decode

    def counted(head: bytes, body: bytes, first: int) -> Preamble:
        decoded.append(first)
        return decode(head, body, first)

    monkeypatch.setattr(Preamble, "decode", counted)
    store, recovery = open_log(folder, rotate_bytes=1)
    assert decoded == firsts[-1:]
    assert (recovery.continuity, [*recovery.next_n.values()]) == (None, [120])
    store.close()


def test_files_are_small_where_a_start_reads_them_slowly_or_the_budget_is_small() -> None:
    assert file_bytes(20_000_000_000) == 256_000_000
    assert file_bytes(20_000_000_000, flash=True) == 32_000_000
    assert file_bytes(40_000_000) == file_bytes(40_000_000, flash=True) == 5_000_000
