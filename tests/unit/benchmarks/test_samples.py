"""What a profiler saw, sorted into parts of the gateway, and the page that is made of it."""

from __future__ import annotations

import pytest

from benchmarks.plan import PLAN
from benchmarks.profile import AIMS, Seen, page, sentences
from benchmarks.rig.samples import Share, by_area, by_function, by_leaf, by_thread, read, settled, shortened

ROOT = "/opt/project"
PACKAGES = "/opt/project/.venv/lib/python3.11/site-packages"
STANDARD = "/usr/lib/python3.11"
RAW = f"""\
thread (11): MainThread;Runner.run ({STANDARD}/asyncio/runners.py:118);\
take ({ROOT}/adapters/opcua/acquiring/receiver.py:9);decode_items ({ROOT}/adapters/opcua/decoding/decode.py:94);\
_any ({PACKAGES}/numpy/_core/_methods.py:61) 30
thread (11): MainThread;Runner.run ({STANDARD}/asyncio/runners.py:118) 10
thread (12): log-commit;_commit_thread ({ROOT}/gateway/log/writer.py:70);append ({ROOT}/gateway/log/store.py:9) 40
thread (13): uvloop_0;_worker ({STANDARD}/concurrent/futures/thread.py:83);read ({ROOT}/gateway/log/store.py:190) 5
thread (14): uvloop_1;_worker ({STANDARD}/concurrent/futures/thread.py:83);read ({ROOT}/gateway/log/store.py:190) 5
thread (15): paho-mqtt;loop ({PACKAGES}/paho/mqtt/client.py:1700);send (<string>:2) 10
"""


def named(shares: list[Share]) -> dict[str, tuple[float, float]]:
    return {share.name: (share.own, share.total) for share in shares}


def test_what_a_library_does_belongs_to_whoever_called_it() -> None:
    stacks = read(RAW, ROOT)
    assert named(by_area(stacks)) == {
        "log": (0.5, 0.5),
        "decoding": (0.3, 0.3),
        "socket and loop": (0.1, 0.1),
        "paho": (0.1, 0.1),
    }
    functions = named(by_function(stacks))
    assert functions["adapters/opcua/decoding/decode.py decode_items"] == (0.3, 0.3)
    assert functions["asyncio/runners.py Runner.run"] == (0.1, 0.4)
    assert functions["gateway/log/store.py read"] == (0.1, 0.1)
    assert "numpy/_core/_methods.py _any" not in functions
    assert named(by_leaf(stacks))["numpy/_core/_methods.py _any"] == (0.3, 0.3)


def test_threads_of_a_pool_count_together() -> None:
    assert {name: own for name, (own, _) in named(by_thread(read(RAW, ROOT))).items()} == {
        "MainThread": 0.4,
        "log-commit": 0.4,
        "uvloop": 0.1,
        "paho-mqtt": 0.1,
    }


def test_threads_get_the_cpu_that_they_have_really_used() -> None:
    """The main thread held the lock 20 times of the 30 and used CPU for 26: 6 are left for what it did without."""
    every = read(RAW, ROOT)
    holding = [every[0]._replace(seen=20.0), every[2]._replace(seen=40.0)]
    found = settled(every, holding, {11: 26.0, 12: 30.0, 13: 5.0})
    seen: dict[str, float] = {}
    for stack in found:
        name = f"{stack.thread} {stack.frames[-1].function}"
        seen[name] = seen.get(name, 0.0) + stack.seen
    assert seen == pytest.approx(
        {"MainThread _any": 20 + 3, "MainThread Runner.run": 3, "log-commit append": 30, "uvloop_0 read": 5}
    )


@pytest.mark.parametrize(
    ("path", "short"),
    [
        (f"{ROOT}/gateway/log/codec.py", "gateway/log/codec.py"),
        (f"{PACKAGES}/paho/mqtt/client.py", "paho/mqtt/client.py"),
        (f"{STANDARD}/asyncio/runners.py", "asyncio/runners.py"),
        (f"{STANDARD}/selectors.py", "selectors.py"),
        ("<string>", "<string>"),
    ],
)
def test_files_are_named_from_the_project_or_the_packages_on(path: str, short: str) -> None:
    assert shortened(path, ROOT) == short


def test_what_is_profiled_is_there() -> None:
    workloads = {workload.name for workload in PLAN}
    for name, aim in AIMS.items():
        assert name in workloads
        assert type(getattr(aim.module, aim.constant)) is type(aim.only)


def test_what_was_written_about_a_cost_stays_when_the_page_is_made_anew() -> None:
    seen = Seen(1_000_000, 20.0, 0.4, read(RAW, ROOT), [Share("libpython", 0.4, 0.0)])
    machine = {"cpu": "a processor", "python": "3.11"}
    first = page("B1 columns", "2026-11-21", machine, seen, {})
    assert sentences(first) == {}
    function = "adapters/opcua/decoding/decode.py decode_items"
    written = "\n".join(
        line.rpartition(": ")[0] + ": equal items are one view of the bytes: nothing is left to do."
        if function in line
        else line
        for line in first.splitlines()
    )
    said = sentences(written)
    assert said == {function: "equal items are one view of the bytes: nothing is left to do."}
    again = page("B1 columns", "2026-11-22", machine, seen, said)
    assert sentences(again) == said
    assert "2026-11-22" in again
