"""What a run of the benchmarks leaves behind: whole after each workload, and what it lacks can be run later."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import LONG_S, SHORT_S, Outcomes, Results, carry_out, chosen, expected_s, load
from benchmarks.plan import Workload
from benchmarks.rig.outcome import Figure, Outcome
from benchmarks.rig.processes import BenchmarkError


class Interrupted(Exception):
    pass


class Work:
    """Two workloads that count their runs; the second is interrupted or fails in the run that it is told."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.interrupt_at = self.fail_at = 0

    def plan(self) -> list[Workload]:
        return [Workload(name, partial(self._run, name), short=name == "a") for name in ("a", "b")]

    def _run(self, name: str, _: float) -> Outcome:
        self.ran.append(name)
        if len(self.ran) == self.interrupt_at:
            raise Interrupted
        if len(self.ran) == self.fail_at:
            raise BenchmarkError("the load does not answer")
        return Outcome([Figure("rate", float(len(self.ran)), "1/s", 1.0)], {"account": {"lost": 0}})


def run(work: Work, path: Path, *, repeat: int = 2, resume: bool = False) -> bool:
    outcomes: Outcomes = load(path)[1] if resume else {}
    results = Results(path, {"cores": 2}, 3.0, repeat, outcomes)
    return carry_out(work.plan(), repeat, 3.0, outcomes, results.write)


def test_an_interrupted_run_has_written_what_it_had_and_is_gone_on_with(tmp_path: Path) -> None:
    work, path = Work(), tmp_path / "results" / "latest.json"
    work.interrupt_at = 4
    with pytest.raises(Interrupted):
        run(work, path)
    found, outcomes = load(path)
    assert (found["seconds"], found["repeat"]) == (3.0, 2)
    assert [len(outcomes[name]) for name in ("a", "b")] == [2, 1]
    assert run(work, path, resume=True)
    assert work.ran == ["a", "b", "a", "b", "b"]
    outcomes = load(path)[1]
    assert [[run.figures[0].value for run in outcomes[name]] for name in ("a", "b")] == [[1, 3], [2, 5]]
    assert outcomes["a"][0].details["account"] == {"lost": 0}
    assert outcomes["a"][0].details[report.TOOK] >= 0
    assert "It took 0.0 minutes: a 0 s, b 0 s." in path.with_suffix(".md").read_text()
    assert {file.suffix for file in path.parent.iterdir()} == {".json", ".md"}


def test_what_failed_is_run_again_when_gone_on_with(tmp_path: Path) -> None:
    work, path = Work(), tmp_path / "latest.json"
    work.fail_at = 2
    assert not run(work, path)
    assert [len(load(path)[1][name]) for name in ("a", "b")] == [2, 1]
    assert run(work, path, resume=True)
    assert work.ran == ["a", "b", "a", "b", "b"]


def test_the_estimate_is_of_what_is_left_and_of_the_times_that_are_known() -> None:
    plan = Work().plan()
    assert expected_s(plan, 5, {}, {}) == 5 * (SHORT_S + LONG_S)
    known = {"b": [Outcome([], {report.TOOK: seconds}) for seconds in (10.0, 12.0, 50.0)]}
    assert expected_s(plan, 5, {"a": 5, "b": 3}, known) == 2 * 12.0


def test_a_whole_name_is_that_workload_alone() -> None:
    assert [workload.name for workload in chosen(["B9"], full=False)] == ["B9"]
    assert {"B1 columns", "B1 json"} <= {workload.name for workload in chosen(["B1 "], full=False)}


def test_results_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    assert run(Work(), path, repeat=1)
    assert json.loads(path.read_text())["workloads"]["a"][0]["figures"][0]["name"] == "rate"
