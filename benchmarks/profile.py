"""Where the CPU of the gateway goes: a workload at the rate of its bar, watched by py-spy, as a page of text.

    python -m benchmarks.profile "B1 columns" --date 2026-11-21       # several names, or none: B1, B2, B4 and B5
    python -m benchmarks.profile "B1 columns" --print                 # more functions, nothing written

Writes benchmarks/profiles/<name>.md: by part of the gateway, by thread, by function, and the five largest costs. What
somebody wrote about a cost stays when the page is made anew, as long as the cost is among the five. py-spy needs the
right to look into another process: root, or kernel.yama.ptrace_scope=0. It looks 100 times a second, from the other
core, without stopping what it looks at; see `rig.samples.settled` for what is made of that.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from benchmarks import report
from benchmarks.plan import PLAN
from benchmarks.rig.measure import System, progress
from benchmarks.rig.processes import CORES, BenchmarkError
from benchmarks.rig.samples import Share, Stack, by_area, by_function, by_leaf, by_thread, read, settled
from benchmarks.workloads import many_devices, modbus, opcua

PAGES: Final = Path(__file__).parent / "profiles"
ROOT: Final = Path(__file__).parents[1]
SECONDS: Final = 20.0
LOOKS: Final = 100
"""per second"""
LARGEST: Final = 5
FUNCTIONS: Final = 25
LIBRARIES: Final = 12
THREADS: Final = 8
NOTHING_SAID: Final = "nothing was done about it yet."


class Aim(NamedTuple):
    """What a workload steps through, so that it holds nothing but the rate of its bar."""

    module: ModuleType
    constant: str
    only: Any


AIMS: Final = {
    "B1 columns": Aim(opcua, "B1", opcua.B1._replace(hertz=(40,))),  # 1,000,000 readings/s
    "B1 json": Aim(opcua, "B1_JSON", opcua.B1_JSON._replace(hertz=(20,))),  # 500,000
    "B2 columns": Aim(opcua, "B2", opcua.B2._replace(hertz=(150,))),  # 300,000
    "B3 columns": Aim(opcua, "B3", opcua.B3._replace(hertz=(20,))),  # 500,000
    "B4 columns": Aim(modbus, "PERIODS_S", (0.1,)),  # 1,000,000 registers/s
    "B5": Aim(many_devices, "HELD", 1),  # the rate is one
}
USUAL: Final = ("B1 columns", "B2 columns", "B4 columns", "B5")


class Seen(NamedTuple):
    """What was seen of one step."""

    offered: float
    seconds: float
    cpu_share: float
    stacks: list[Stack]
    libraries: list[Share]
    """where the processor was, by perf; empty where that is not installed"""


class Watcher:
    """Looks on while the first step lasts."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.seen: Seen | None = None

    @contextlib.contextmanager
    def watching(self, system: System, offered: float) -> Iterator[None]:
        """For `System.watching`."""
        if self.seen is not None:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="edge-gateway-profile-") as folder:
            every, holding = Path(folder) / "every", Path(folder) / "holding"
            pid, before, start = system.measured.pid, _cpu_s(system.measured.pid), time.monotonic()
            native = Path(folder) / "native"
            with (
                _spying(pid, every, self._seconds),
                _spying(pid, holding, self._seconds, "--gil"),
                _perf(pid, native, self._seconds),
            ):
                yield
                used, elapsed = _cpu_s(pid), time.monotonic() - start
            libraries = _libraries(native)
            could, held = (read(path.read_text(), str(ROOT)) for path in (every, holding))
        ran = {thread: seconds - before.get(thread, 0.0) for thread, seconds in used.items()}
        stacks = settled(could, held, {thread: LOOKS * seconds for thread, seconds in ran.items()})
        self.seen = Seen(offered, elapsed, sum(ran.values()) / elapsed, stacks, libraries)


def _cpu_s(pid: int) -> dict[int, float]:
    """CPU that each thread has used, s."""
    used = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            user, system = (task / "stat").read_text().rpartition(")")[2].split()[11:13]
            used[int(task.name)] = (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return used


@contextlib.contextmanager
def _spying(pid: int, output: Path, seconds: float, *which: str) -> Iterator[None]:
    program = Path(sys.executable).with_name("py-spy")
    command = [str(program), "record", "--pid", str(pid), "--rate", str(LOOKS), "--duration", f"{seconds:.0f}"]
    command += ["--format", "raw", "--full-filenames", "--threads", "--nonblocking", "--output", str(output), *which]
    spy = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {CORES.load}),  # noqa: PLW1509 - this process has one thread
    )
    try:
        yield
        said, _ = spy.communicate(timeout=seconds + 20)
    finally:
        spy.kill()
        spy.wait()
    if spy.returncode or not output.exists():
        raise BenchmarkError(f"py-spy could not look into the gateway:\n{said[-2000:]}")


@contextlib.contextmanager
def _perf(pid: int, output: Path, seconds: float) -> Iterator[None]:
    """perf by the clock of the processor, which containers and virtual machines have too; nothing without perf."""
    if shutil.which("perf") is None:
        yield
        return
    command = ["perf", "record", "--event", "cpu-clock", "--freq", "499", "--pid", str(pid), "--output", str(output)]
    perf = subprocess.Popen(
        [*command, "--", "sleep", f"{seconds:.0f}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
        perf.wait(seconds + 20)
    finally:
        perf.kill()
        perf.wait()


_LIBRARY: Final = re.compile(r"^ +([\d.]+)% +(\S+)", re.MULTILINE)


def _libraries(recorded: Path) -> list[Share]:
    if not recorded.exists():
        return []
    command = ["perf", "report", "--input", str(recorded), "--sort", "dso", "--stdio"]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [Share(name.partition(".cpython")[0], float(part) / 100, 0.0) for part, name in _LIBRARY.findall(text)]


def profiled(name: str, seconds: float) -> Seen:
    """Run a workload at the rate of its bar only. Raises BenchmarkError."""
    workload = next(workload for workload in PLAN if workload.name == name)
    watcher = Watcher(seconds)
    System.watching = watcher.watching
    try:
        with patch.object(*AIMS[name]):
            workload.run(seconds)
    finally:
        System.watching = System.not_watching
    if watcher.seen is None:
        raise BenchmarkError(f"{name} has held no rate")
    return watcher.seen


# -- the page --


def page(name: str, date: str, machine: Mapping[str, object], seen: Seen, said: Mapping[str, str]) -> str:
    """Markdown; `said`: what was written about costs, by function."""
    functions = by_function(seen.stacks)
    samples = sum(stack.seen for stack in seen.stacks)
    offered = f"{seen.offered:,.0f} values/s (Modbus: registers/s)"
    lines = [
        f"# {name}",
        "",
        f"{date}, {machine['cpu']}, Python {machine['python']}: {offered} held for {seen.seconds:.0f} s, "
        f"{seen.cpu_share:.0%} of the core with the profiler looking on, {samples:.0f} samples.",
        "",
        f'Made by `python -m benchmarks.profile "{name}"`; only the sentences under *the largest costs* are written by '
        "hand.",
        "",
        "## Where the CPU goes",
        "",
        "| part | share |",
        "|---|--:|",
        *(f"| {part.name} | {part.own:.1%} |" for part in by_area(seen.stacks)),
        "",
        "| thread | share |",
        "|---|--:|",
        *(f"| {thread.name} | {thread.own:.1%} |" for thread in by_thread(seen.stacks)[:THREADS]),
        "",
        *_library_table(seen.libraries),
        "## The largest costs",
        "",
    ]
    for number, share in enumerate(functions[:LARGEST], 1):
        lines.append(f"{number}. `{share.name}` {share.own:.1%}: {said.get(share.name, NOTHING_SAID)}")
    lines += [
        "",
        "## Functions",
        "",
        "*self*: with the libraries that it called (numpy, orjson, zstandard, sqlite3); *total*: with everything.",
        "",
        *_table(functions[:FUNCTIONS]),
        "",
    ]
    return "\n".join(lines)


def _library_table(libraries: Sequence[Share]) -> list[str]:
    if not libraries:
        return []
    rows = [f"| {library.name} | {library.own:.1%} |" for library in libraries[:LIBRARIES]]
    return ["| where the processor was (perf) | share |", "|---|--:|", *rows, ""]


def _table(shares: Sequence[Share]) -> list[str]:
    rows = [f"| `{share.name}` | {share.own:.1%} | {share.total:.1%} |" for share in shares]
    return ["| function | self | total |", "|---|--:|--:|", *rows]


_SAID: Final = re.compile(r"^\d+\. `(.+?)` [\d.]+%: (.+)$", re.MULTILINE)


def sentences(text: str) -> dict[str, str]:
    """What a page says about its costs, by function."""
    return {function: said for function, said in _SAID.findall(text) if said != NOTHING_SAID}


def write(name: str, date: str, seen: Seen) -> Path:
    """Make the page anew, with what the old one says."""
    path = PAGES / f"{name.lower().replace(' ', '-')}.md"
    said = sentences(path.read_text(encoding="utf-8")) if path.exists() else {}
    PAGES.mkdir(exist_ok=True)
    path.write_text(page(name, date, report.machine(), seen, said), encoding="utf-8")
    return path


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(AIMS)}")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"), help="as the page is to say")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--print", action="store_true", help="print instead of writing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(AIMS):
        parser.error(f"{', '.join(sorted(unknown))}: one of {', '.join(AIMS)} expected")
    # SIGTERM ends the children too: they are ended on the way out of their `with`
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for name in arguments.names or USUAL:
        progress(name)
        try:
            seen = profiled(name, arguments.seconds)
        except BenchmarkError as error:
            progress(f"  failed: {error}")
            return 1
        if arguments.print:
            print(page(name, arguments.date, report.machine(), seen, {}))
            print("\n".join(_table(by_leaf(seen.stacks)[: 2 * FUNCTIONS])))
        else:
            progress(f"  written to {write(name, arguments.date, seen)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
