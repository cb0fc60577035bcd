"""What the bench says of a backlog that was served, and of the processes that served it."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bench.agents import Meter
from bench.backlog import POINTS, Served, figures
from bench.results import ECS_AGENT, ONE_PROCESS

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
BUSY = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\ninput()"


def _served(polling_seconds: float, requests: int = 160) -> Served:
    return Served(1000, BEGUN, polling_seconds + 1, polling_seconds, requests, 3.0, 60.0, 1)


def test_the_rate_is_of_the_median_round_and_the_ratio_is_to_the_real_agent() -> None:
    rounds = [_served(seconds) for seconds in (4.0, 50.0, 5.0)]
    told = {figure.quantity: figure for figure in figures(ONE_PROCESS, rounds, 200.0, real=_served(30.0))}
    assert (told["runs a second"].value, told["runs a second"].holds) == (200.0, True)
    assert told["times the real agent's rate"].value == 6.0
    assert told["CPU a run"].value == 3.0


def test_only_ours_are_held_to_promises_and_to_a_number_of_requests_where_it_is_promised() -> None:
    theirs = list(figures(ECS_AGENT, [_served(30.0, requests=2200)], 200.0))
    ours = {figure.quantity: figure for figure in figures(ONE_PROCESS, [_served(30.0, requests=2200)], 200.0)}
    unpromised = {
        figure.quantity: figure for figure in figures(ONE_PROCESS, [_served(30.0, requests=2200)], 20.0, None)
    }
    assert [figure for figure in theirs if figure.promise or not figure.holds] == []
    assert not ours["runs a second"].holds and not ours["requests to Prefect a run"].holds
    assert unpromised["requests to Prefect a run"].promise == ""


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=5 * POINTS).map(sorted))
def test_a_curve_begins_at_nothing_ends_with_the_last_run_and_never_falls(seconds: list[float]) -> None:
    moments = [BEGUN + timedelta(seconds=each) for each in seconds]
    points = _served(30.0).curve("plot", ONE_PROCESS, moments).points
    assert points[0] == (0.0, 0.0)
    assert points[-1] == ((moments[-1] - BEGUN).total_seconds(), float(len(seconds)))
    assert list(points) == sorted(points)
    assert len(points) <= POINTS + 2


def test_a_meter_knows_what_a_process_used_that_has_ended_and_what_memory_it_had() -> None:
    meter = Meter()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", BUSY], text=True, **pipes) as process:  # type: ignore[call-overload]
        process.stdout.readline()
        meter.look(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        meter.look(process.pid)
    assert meter.processes == 1
    assert meter.cpu_seconds >= 0.19
    assert meter.peak_mb > 1
