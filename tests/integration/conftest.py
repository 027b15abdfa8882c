"""All tests here run in a loop whose time is its own: a pause of the machine is nobody's silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tests.support.own_time import OwnTimeLoop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """See pytest-asyncio."""
    return {"own time": OwnTimeLoop}
