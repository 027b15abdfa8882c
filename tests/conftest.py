"""No test fails because the machine was busy, as far as that can be said for all of them at once.

Tests with an event loop run in one whose time is its own: a pause of the machine is nobody's silence. And Hypothesis
sets no time for its examples.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from hypothesis import HealthCheck, settings

from tests.support.own_time import OwnTimeLoop

settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See pytest-asyncio."""
    return {"own time": OwnTimeLoop}
