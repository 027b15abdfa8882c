"""A disk that is full, again and again, with kills in between: nothing committed is lost, nothing comes as another.

A tmpfs of 8 MB: the gateway fills what it may, somebody else fills the rest and frees it again. Where nothing may
be mounted the disk is pretended below the gateway's libc, as it is in one of the two cases everywhere.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.full_disk import disk_full_rounds

ROUNDS = 2


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("when_full", "seed", "mounted"), [("drop-oldest", 1, True), ("stop-acquiring", 2, False)])
async def test_a_disk_that_others_fill(tmp_path: Path, when_full: str, seed: int, mounted: bool) -> None:
    chance = random.Random(seed)
    assert await disk_full_rounds(tmp_path, when_full=when_full, rounds=ROUNDS, chance=chance, mounted=mounted) == []
