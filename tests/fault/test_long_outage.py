"""A short form of the long outage (`make soak` has 72 hours): a full budget, counted; then all of the rest, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.long_outage import drain, fill_with_budget

HOURS = 0.05
COMMIT_S = 2.0
BUDGET = 700_000


@pytest.mark.timeout(600)
async def test_a_small_budget_is_kept_and_what_goes_is_counted_to_the_reading(tmp_path: Path) -> None:
    """Then the gateway itself opens that log and delivers what is left, beside live readings."""
    small = await fill_with_budget(tmp_path / "log", HOURS, COMMIT_S, BUDGET)
    assert small.accepted == HOURS * 3600 * 1000
    assert small.dropped > 0
    assert small.exact, small
    assert small.highest <= BUDGET
    # Room for live readings until the backlog is on its way: how long that takes is up to the machine.
    drained = await drain(tmp_path, small.waiting, 240, settle_s=0, budget="2MB")
    assert drained.complete, drained
    assert (drained.difference, drained.dropped, drained.received["unreadable"]) == (0, small.dropped, 0)
    before = {
        device: offsets for device, offsets in drained.received["by_device"].items() if not device.startswith("live")
    }
    assert sum(received for _, _, received in before.values()) == small.waiting, "each reading that was left came"
    assert all(first > 0 and end - first == received for first, end, received in before.values()), before
    assert drained.received["lanes"]["live"] > 0, "live readings came beside it"
