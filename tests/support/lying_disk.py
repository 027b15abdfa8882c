"""A disk that confirms syncs which it has not made: how often the log notices what such a disk has lost."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from tests.support.appending import MODULE, Promises
from tests.support.kills import killed_child
from tests.support.power_cut import Loss, PowerCut


@dataclass(slots=True)
class Lies:
    """Power cuts on such a disk."""

    cuts: int = 0
    noticed: int = 0
    """confirmed readings were lost, and new streams began"""
    unnoticed: int = 0
    """confirmed readings were lost without a trace, and the same streams went on"""

    def __str__(self) -> str:
        lost = self.noticed + self.unnoticed
        return f"{self.cuts} power cuts, {lost} lost confirmed readings: {self.noticed} noticed, {self.unnoticed} not"


def lying_disk(home: Path, *, cuts: int, chance: random.Random, loss: Loss, most_s: float = 1.0) -> Lies:
    """Cut the power so often; each time a part of the last seconds, up to `most_s`, was never written.

    Raises AssertionError where the log is not opened, or gives a position or an offset again although new streams
    began or nothing was lost.
    """
    lies = Lies()
    while lies.cuts < cuts:
        _one_disk(home / f"{loss.replace(' ', '-')}-{lies.cuts}", cuts, chance, loss, most_s, lies)
    return lies


def _one_disk(home: Path, cuts: int, chance: random.Random, loss: Loss, most_s: float, lies: Lies) -> None:
    """Until something was lost without a trace: what comes after that is worth nothing."""
    home.mkdir()
    cut = PowerCut(home / "disk", home / "journal")
    folder = cut.folder / "log"
    promises = Promises()
    promises.take(killed_child(MODULE, folder, home / "out", chance, **cut.environment()))
    while lies.cuts < cuts:
        cut.fail(chance, lie_s=chance.uniform(0.01, most_s), loss=loss)
        lies.cuts += 1
        lost = promises.lost(folder)
        said = killed_child(MODULE, folder, home / "out", chance, **cut.environment())
        broken = said[0] != "None"
        lies.noticed += bool(lost) and broken
        if lost and not broken:
            lies.unnoticed += 1
            return
        for position in lost:
            del promises.durable[position]
        promises.take(said)
