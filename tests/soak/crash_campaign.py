"""The crash campaign at length: kills, power cuts, disks that lie. Prints tables; 0 if nothing was wrong, 1 otherwise.

usage: python -m tests.soak.crash_campaign [--rounds 200] [--cuts 60] [--seed N]
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
from tests.support.power_cut import PowerCut


def show(line: str) -> None:
    """At once, for who watches."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def kills(home: Path, seed: int, rounds: int) -> bool:
    """SIGKILL again and again; returns whether everything came out."""
    show(f"kills: {rounds} rounds, seed {seed}")
    outcome = await Campaign(home, seed=seed, rounds=rounds).run(show)
    show(table(outcome))
    return _judged(outcome.flaws())


async def cuts(home: Path, seed: int, rounds: int) -> bool:
    """Power cuts with a disk that keeps what it has synced."""
    show(f"power cuts: {rounds} rounds, seed {seed}")
    cut = PowerCut(home / "disk", home / "journal")
    outcome = await Campaign(home, seed=seed, rounds=rounds, cut=cut).run(show)
    show(table(outcome))
    return _judged(outcome.flaws())


def _judged(flaws: list[str]) -> bool:
    for flaw in flaws:
        show(f"WRONG: {flaw}")
    return not flaws


async def main(arguments: list[str]) -> int:
    """All campaigns, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.crash_campaign")
    parser.add_argument("--rounds", type=int, default=200, help="kills")
    parser.add_argument("--cuts", type=int, default=60, help="power cuts")
    parser.add_argument("--seed", type=int, default=None, help="to have a campaign again")
    options = parser.parse_args(arguments)
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    right = True
    for campaign, rounds in ((kills, options.rounds), (cuts, options.cuts)):
        if rounds:
            with tempfile.TemporaryDirectory(prefix="campaign-") as home:
                right &= await campaign(Path(home), seed, rounds)
    return int(not right)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
