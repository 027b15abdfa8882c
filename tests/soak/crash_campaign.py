"""The crash campaign at length: kills, power cuts, disks that are full. Prints tables; 0 if nothing was wrong, else 1.

usage: python -m tests.soak.crash_campaign [--rounds 200] [--cuts 60] [--full 20] [--lies 60] [--minutes 60] [--seed N]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.support.crash_campaign import Campaign
from tests.support.crash_table import table
from tests.support.full_disk import disk_full_rounds
from tests.support.lying_disk import lying_disk
from tests.support.power_cut import Loss, PowerCut

LOSSES: tuple[Loss, ...] = ("sectors", "in order")
LIE_S = 1.0


def show(line: str) -> None:
    """At once, for who watches."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def kills(home: Path, seed: int, rounds: int, most_s: float) -> bool:
    """SIGKILL again and again; returns whether everything came out.

    In the last quarter the centre confirms, and the broker is killed too, with what it had acknowledged.
    """
    right = True
    for confirm, part in (("broker", rounds - rounds // 4), ("centre", rounds // 4)):
        show(f"kills, confirm: {confirm}: {part} rounds, seed {seed}")
        folder = home / confirm
        folder.mkdir()
        outcome = await Campaign(folder, seed=seed, rounds=part, confirm=confirm, most_s=most_s).run(show)
        show(table(outcome))
        right &= _judged(outcome.flaws())
    return right


async def cuts(home: Path, seed: int, rounds: int, most_s: float) -> bool:
    """Power cuts with a disk that keeps what it has synced."""
    show(f"power cuts: {rounds} rounds, seed {seed}")
    cut = PowerCut(home / "disk", home / "journal")
    outcome = await Campaign(home, seed=seed, rounds=rounds, cut=cut, most_s=most_s).run(show)
    show(table(outcome))
    return _judged(outcome.flaws())


async def full_disks(home: Path, seed: int, rounds: int, _: float) -> bool:
    """A disk that others fill and free, half of the rounds with either `when_full`."""
    right = True
    for when_full in ("drop-oldest", "stop-acquiring"):
        show(f"disk full, {when_full}: {rounds // 2} rounds, seed {seed}")
        folder = home / when_full
        folder.mkdir()
        chance = random.Random(seed)
        right &= _judged(await disk_full_rounds(folder, when_full=when_full, rounds=rounds // 2, chance=chance))
    return right


async def lies(home: Path, seed: int, rounds: int, most_s: float) -> bool:
    """Disks that lie: what they lose in order can leave no trace, so this counts. A start that fails ends it."""
    for loss in LOSSES:
        found = await asyncio.to_thread(lying_disk, home, cuts=rounds // 3, chance=random.Random(seed), loss=loss)
        show(f"a disk that lies, {loss}, seed {seed}: {found}")
    folder = home / "gateway"
    folder.mkdir()
    cut = PowerCut(folder / "disk", folder / "journal")
    gateway = Campaign(folder, seed=seed, rounds=rounds // 3, cut=cut, lie_s=LIE_S, most_s=most_s)
    outcome = await gateway.run(show)
    lost = sum(one.promised > one.kept for one in outcome.rounds)
    show(
        f"a gateway on such a disk, seed {seed}: {len(outcome.rounds) - 1} power cuts, {lost} seen to lose what was "
        f"counted as accepted; {outcome.streams - 1} times new streams, {len(outcome.conflicts)} offsets given twice"
    )
    return True


def _judged(flaws: list[str]) -> bool:
    for flaw in flaws:
        show(f"WRONG: {flaw}")
    show("nothing is wrong" if not flaws else f"{len(flaws)} things are wrong")
    return not flaws


async def main(arguments: list[str]) -> int:
    """All campaigns, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.crash_campaign")
    parser.add_argument("--rounds", type=int, default=200, help="kills")
    parser.add_argument("--cuts", type=int, default=60, help="power cuts")
    parser.add_argument("--full", type=int, default=20, help="times that the disk is full")
    parser.add_argument("--lies", type=int, default=60, help="power cuts on disks that lie about syncs")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no new round of a campaign after so long")
    parser.add_argument("--seed", type=int, default=None, help="to have a campaign again")
    options = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    right = True
    for campaign, rounds in (
        (kills, options.rounds),
        (cuts, options.cuts),
        (full_disks, options.full),
        (lies, options.lies),
    ):
        if rounds:
            with tempfile.TemporaryDirectory(prefix="campaign-") as home:
                right &= await campaign(Path(home), seed, rounds, options.minutes * 60)
    return int(not right)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
