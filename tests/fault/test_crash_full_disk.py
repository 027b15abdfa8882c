"""A disk that is full, again and again, with kills in between: nothing committed is lost, nothing comes as another.

A tmpfs of 8 MB: the gateway fills what it may, somebody else fills the rest and frees it again.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.full_disk import disk_full_rounds

ROUNDS = 2


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("when_full", "seed"), [("drop-oldest", 1), ("stop-acquiring", 2)])
async def test_a_disk_that_others_fill(tmp_path: Path, when_full: str, seed: int) -> None:
    chance = random.Random(seed)
    assert await disk_full_rounds(tmp_path, when_full=when_full, rounds=ROUNDS, chance=chance) == []
