"""Twenty lives of a gateway under load, each ended by SIGKILL: nothing accepted is missing, nothing comes as another.

200 of them: `python -m tests.soak.crash_campaign`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.crash_campaign import Campaign
from tests.support.crash_table import table

ROUNDS = 20
PLACES = 3
"""different ones that kills hit at least; which ones is up to the machine"""


@pytest.mark.timeout(900)  # a busy machine takes its time for twenty starts, and nothing here depends on it
async def test_twenty_kills_while_the_broker_comes_and_goes(tmp_path: Path) -> None:
    outcome = await Campaign(tmp_path, seed=20, rounds=ROUNDS).run()
    sys.stdout.write(table(outcome))
    assert outcome.flaws() == []
    assert outcome.streams == 1, "a kill without a power cut breaks no stream"
    assert len(outcome.rounds) == ROUNDS + 1
    assert len({done.hit for done in outcome.rounds}) > PLACES, "too little was hit to show anything"
    assert outcome.seen["rotation"], "and nothing turned over"
