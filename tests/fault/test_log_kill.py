"""SIGKILL at random moments: every position that was reported durable is there again, and holds what was written.

Files are made into blocks all the while, so that many kills meet one half made or just put in its place.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.support.appending import ALWAYS_FLASH, MODULE, Promises, open_log
from tests.support.kills import killed_child

KILLS = 10
MOST_KILLS = 100
"""on a machine that lets the process write next to nothing in its life"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("environment", [{}, {ALWAYS_FLASH: "1"}], ids=["", "flash"])
def test_every_durable_position_survives_a_kill(tmp_path: Path, environment: dict[str, str]) -> None:
    chance = random.Random(20)
    folder = tmp_path / "log"
    promises = Promises()
    for kills in range(1, MOST_KILLS + 1):
        promises.take(killed_child(MODULE, folder, tmp_path / "out", chance, **environment))
        if kills >= KILLS and len(promises.durable) > kills and compacted(folder, tmp_path / f"copy{kills}"):
            break
    assert len(promises.durable) > KILLS
    assert promises.lost(folder) == []
    assert compacted(folder, tmp_path / "copy"), "nothing was compacted"


def compacted(folder: Path, copy: Path) -> bool:
    """Whether any file of the log was made into blocks; the log itself is left as the kill left it."""
    store, _ = open_log(shutil.copytree(folder, copy))
    found = any(file.in_blocks for file in store.files())
    store.close()
    return found
