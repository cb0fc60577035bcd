"""Runs that come one by one: how late each is started, and what is said of those that never are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cases import planned_case, tell
from bench.lanes import Arrival, Lateness, planned, wait_until_served, watch
from bench.results import ECS_AGENT, ONE_PROCESS, Curve, Figure
from bench.surroundings import TookTooLong

CASE = planned_case("Planned", ahead_seconds=0.0, seconds=1.0, pause_seconds=0.5)
AT_ONCE = [Arrival(0, 0.0, 0.0)] * 3


class Late:
    """A lane whose runs are started two seconds late, but for the last `lost`, which never are."""

    agent = ONE_PROCESS

    def __init__(self, lost: int = 0) -> None:
        self._lost = lost
        self._started: dict[str, datetime] = {}

    def add(self, due: datetime) -> str:
        run_id = f"run {len(self._started)}"
        self._started[run_id] = due + timedelta(seconds=2)
        return run_id

    def started(self) -> Mapping[str, datetime]:
        return dict(list(self._started.items())[: len(self._started) - self._lost])


def told(found: list[Lateness], agent: str = ONE_PROCESS, limit_seconds: float | None = 0.07) -> dict[str, Figure]:
    case = planned_case("Planned", 0.0, 1.0, 0.5, limit_seconds)
    return {item.quantity: item for item in tell(case, agent, found) if isinstance(item, Figure)}


def test_runs_that_are_never_started_are_counted() -> None:
    found = watch([Late(lost=2)], AT_ONCE, patience_seconds=0.0)
    assert found == [Lateness([2.0], missing=2)]


def test_what_comes_while_agents_settle_is_left_out() -> None:
    assert watch([Late()], [*AT_ONCE, Arrival(0, 0.0, 0.01)], settling_seconds=0.01) == [Lateness([2.0], missing=0)]


def test_an_agent_that_starts_nothing_is_not_measured() -> None:
    wait_until_served([Late()], patience_seconds=0.0)
    with pytest.raises(TookTooLong, match=ONE_PROCESS):
        wait_until_served([Late(), Late(lost=1)], patience_seconds=0.0)


def test_a_lost_run_breaks_a_promise_of_ours_and_of_nobody_else() -> None:
    found = [Lateness([0.01, 0.03], missing=0), Lateness([0.02], missing=1)]
    ours, theirs = told(found)["planned: never started"], told(found, ECS_AGENT)["planned: never started"]
    assert [(each.value, each.promise, each.holds) for each in (ours, theirs)] == [(1, "0", False), (1, "", True)]
    assert told(found)["planned: runs"].value == 4
    assert told([Lateness([0.01, 0.02], missing=0)])["planned: never started"].holds


def test_a_curve_ends_below_one_when_runs_were_lost() -> None:
    (curve,) = [each for each in tell(CASE, ONE_PROCESS, [Lateness([0.01, 0.03], 2)]) if isinstance(each, Curve)]
    assert curve.points == ((0.01, 0.25), (0.03, 0.5))


def test_nothing_is_said_of_lateness_when_nothing_was_started() -> None:
    assert [(each.quantity, each.holds) for each in told([Lateness([], 5)]).values()] == [
        ("planned: runs", True),
        ("planned: never started", False),
    ]


def test_lateness_is_promised_where_there_is_a_limit() -> None:
    quantity, found = "planned: lateness, half of the runs", [Lateness([0.1, 0.2, 0.3], 0)]
    assert (told(found)[quantity].promise, told(found)[quantity].holds) == ("at most 0.07", False)
    assert told(found, limit_seconds=None)[quantity].promise == ""


@given(st.integers(1, 4), st.integers(1, 20))
def test_every_lane_has_as_many_planned_runs_and_no_two_are_due_at_once(lanes: int, runs: int) -> None:
    arrivals = planned(lanes, ahead_seconds=5.0, seconds=float(runs), pause_seconds=1.0)
    assert len({arrival.due for arrival in arrivals}) == len(arrivals) == lanes * runs
    assert {sum(arrival.lane == lane for arrival in arrivals) for lane in range(lanes)} == {runs}
