"""Runs that come one by one to agents side by side, and how long after its time each of them is started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple, Protocol

LOOK_SECONDS, PATIENCE_SECONDS = 1.0, 30.0
RUN_ID_VARIABLES = ("PREFECT__CONTEXT__FLOW_RUN_ID", "PREFECT__FLOW_RUN_ID")


class Lane(Protocol):
    """One agent, and the runs that only it serves."""

    @property
    def agent(self) -> str:
        """Its name in the tables."""

    def add(self, due: datetime) -> str:
        """Create a run that is due then; its id."""

    def started(self) -> Mapping[str, datetime]:
        """When the platform was first asked to start which run."""


class Arrival(NamedTuple):
    """A run that is created so many seconds after the beginning, and due then or later."""

    lane: int
    created: float
    due: float


def planned(lanes: int, ahead_seconds: float, seconds: float, pause_seconds: float) -> list[Arrival]:
    """All created at the beginning; each lane's are due in between the others'."""
    dues = [ahead_seconds + pause_seconds * number for number in range(int(seconds / pause_seconds))]
    return [Arrival(lane, 0.0, due + pause_seconds * lane / lanes) for lane in range(lanes) for due in dues]


def ad_hoc(lanes: int, seconds: float, shortest_seconds: float, longest_seconds: float) -> list[Arrival]:
    """Each due at once, so many seconds after the one before in its lane; for every lane its own, always the same."""
    arrivals = []
    for lane in range(lanes):
        chance, at = Random(lane), 0.0
        while (at := at + chance.uniform(shortest_seconds, longest_seconds)) < seconds:
            arrivals.append(Arrival(lane, at, at))
    return arrivals


def watch(lanes: Sequence[Lane], arrivals: Sequence[Arrival], settling_seconds: float = 0.0) -> list[list[float]]:
    """How late each run was started, by lane; negative is early.

    Left out are those that come in the first `settling_seconds`, and those that never were started.
    """
    begun, dues = datetime.now(UTC), [dict[str, datetime]() for _ in lanes]
    for arrival in sorted(arrivals, key=lambda each: each.created):
        time.sleep(max(0.0, arrival.created - _seconds_since(begun)))
        due = max(datetime.now(UTC), begun + timedelta(seconds=arrival.due))
        run_id = lanes[arrival.lane].add(due)
        if arrival.due >= settling_seconds:
            dues[arrival.lane][run_id] = due
    time.sleep(max(0.0, max(arrival.due for arrival in arrivals) - _seconds_since(begun)))
    return _lateness(lanes, dues)


def wait_until_served(lanes: Sequence[Lane]) -> None:
    """Return when each of the agents has started a run, so that all that is done once is done."""
    _lateness(lanes, [{lane.add(datetime.now(UTC)): datetime.now(UTC)} for lane in lanes])


def _lateness(lanes: Sequence[Lane], dues: Sequence[Mapping[str, datetime]]) -> list[list[float]]:
    give_up = time.monotonic() + PATIENCE_SECONDS
    while True:
        started = [lane.started() for lane in lanes]
        if all(own.keys() >= due.keys() for own, due in zip(started, dues, strict=True)) or time.monotonic() > give_up:
            return [
                [(own[run_id] - moment).total_seconds() for run_id, moment in due.items() if run_id in own]
                for own, due in zip(started, dues, strict=True)
            ]
        time.sleep(LOOK_SECONDS)


def _seconds_since(begun: datetime) -> float:
    return (datetime.now(UTC) - begun).total_seconds()


def run_id_of(overrides: Mapping[str, object]) -> str:
    """The flow run that a task of RunTask's `overrides` is for, by its environment; "" when that names none."""
    containers = overrides.get("containerOverrides")
    for container in containers if isinstance(containers, list) else []:
        for variable in container.get("environment", []):
            if variable["name"] in RUN_ID_VARIABLES:
                return str(variable["value"])
    return ""
