"""SIGKILL at random moments: every position that was reported durable is there again, and holds what was written.

Files are made into blocks all the while, so that many kills meet one half made or just put in its place.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.appending import ALWAYS_FLASH, MODULE, Promises, open_log
from tests.support.kills import killed_child

KILLS = 10


@pytest.mark.parametrize("environment", [{}, {ALWAYS_FLASH: "1"}], ids=["", "flash"])
def test_every_durable_position_survives_a_kill(tmp_path: Path, environment: dict[str, str]) -> None:
    chance = random.Random(20)
    folder = tmp_path / "log"
    promises = Promises()
    for _ in range(KILLS):
        promises.take(killed_child(MODULE, folder, tmp_path / "out", chance, **environment))
    assert len(promises.durable) > KILLS
    assert promises.lost(folder) == []
    store, _ = open_log(folder)
    assert any(file.in_blocks for file in store.files()), "nothing was compacted"
    store.close()
