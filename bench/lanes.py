"""Runs that come one by one to agents side by side, and how long after its time each of them is started."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple, Protocol

from bench.surroundings import TookTooLong

LOOK_SECONDS, PATIENCE_SECONDS = 1.0, 30.0
STARTING_SECONDS = 90.0
"""How long all agents together may take to start and to serve a first run."""

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


class Lateness(NamedTuple):
    """How many seconds late each run was started, negative is early; `missing` were not started at all."""

    seconds: list[float]
    missing: int


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


def watch(
    lanes: Sequence[Lane],
    arrivals: Sequence[Arrival],
    settling_seconds: float = 0.0,
    patience_seconds: float = PATIENCE_SECONDS,
) -> list[Lateness]:
    """How late the runs of each lane were started, without those that come in the first `settling_seconds`.

    A run is missing that is not started `patience_seconds` after the last of all was due.
    """
    begun, dues = datetime.now(UTC), [dict[str, datetime]() for _ in lanes]
    for arrival in sorted(arrivals, key=lambda each: each.created):
        time.sleep(max(0.0, arrival.created - _seconds_since(begun)))
        due = max(datetime.now(UTC), begun + timedelta(seconds=arrival.due))
        run_id = lanes[arrival.lane].add(due)
        if arrival.due >= settling_seconds:
            dues[arrival.lane][run_id] = due
    time.sleep(max(0.0, max(arrival.due for arrival in arrivals) - _seconds_since(begun)))
    return _lateness(lanes, dues, patience_seconds)


def wait_until_served(lanes: Sequence[Lane], patience_seconds: float = STARTING_SECONDS) -> None:
    """Return when each of the agents has started a run, so that all that is done once is done. Raises TookTooLong."""
    dues = [{lane.add(datetime.now(UTC)): datetime.now(UTC)} for lane in lanes]
    found = _lateness(lanes, dues, patience_seconds)
    idle = [lane.agent for lane, lateness in zip(lanes, found, strict=True) if lateness.missing]
    if idle:
        raise TookTooLong(f"Nothing was started after {patience_seconds:.0f} s by: {', '.join(idle)}")


def _lateness(lanes: Sequence[Lane], dues: Sequence[Mapping[str, datetime]], patience_seconds: float) -> list[Lateness]:
    give_up = time.monotonic() + patience_seconds
    while True:
        found = [_lateness_of(lane.started(), due) for lane, due in zip(lanes, dues, strict=True)]
        if not any(lateness.missing for lateness in found) or time.monotonic() >= give_up:
            return found
        time.sleep(LOOK_SECONDS)


def _lateness_of(started: Mapping[str, datetime], dues: Mapping[str, datetime]) -> Lateness:
    seconds = [(started[run_id] - due).total_seconds() for run_id, due in dues.items() if run_id in started]
    return Lateness(seconds, len(dues) - len(seconds))


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
