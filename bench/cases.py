"""The ways in which runs come one by one, and what is to be said of how late they are started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import chain
from statistics import median, quantiles

from bench.lanes import Arrival, Lane, ad_hoc, planned, wait_until_served, watch
from bench.results import OURS, Curve, Figure, Plot, at_most

AXES = ("seconds after its time", "share of the runs that are started")
SPARSE_PAUSES = (10.0, 20.0)
PLANNED_LIMIT_SECONDS, BUSY_LIMIT_SECONDS = 0.07, 0.35
SPARSE_LIMIT_SECONDS = 5.5
"""Half the cadence of 10 s, and a tenth of that for the chance of when few runs come."""

Running = Callable[[], AbstractContextManager[Lane]]


@dataclass(frozen=True)
class Case:
    """One way in which runs come; `lanes` are how many of each agent there are, `limit_seconds` is promised of ours.

    What comes in the first `settling_seconds` only ends the back-off of those who wait.
    """

    name: str
    plot: Plot
    arrivals: Callable[[int], Sequence[Arrival]]
    limit_seconds: float
    lanes: int = 1
    settling_seconds: float = 0.0


def planned_case(title: str, ahead_seconds: float, seconds: float, pause_seconds: float) -> Case:
    """Runs that are due one after the other, all known since long before."""
    return Case(
        "planned",
        Plot(title, *AXES),
        lambda lanes: planned(lanes, ahead_seconds, seconds, pause_seconds),
        PLANNED_LIMIT_SECONDS,
    )


def busy_case(title: str, settling_seconds: float, seconds: float, pause_seconds: float) -> Case:
    """Runs that are due when they are created, with such pauses on the average."""
    return Case(
        "ad hoc, busy",
        Plot(title, *AXES),
        lambda lanes: ad_hoc(lanes, settling_seconds + seconds, 0.0, 2 * pause_seconds),
        BUSY_LIMIT_SECONDS,
        settling_seconds=settling_seconds,
    )


def sparse_case(title: str, seconds: float, lanes: int) -> Case:
    """The same with 10 to 20 s between two; as these are few, there are several lanes."""
    return Case(
        "ad hoc, sparse",
        Plot(title, *AXES),
        lambda all_lanes: ad_hoc(all_lanes, seconds, *SPARSE_PAUSES),
        SPARSE_LIMIT_SECONDS,
        lanes,
    )


def measure_case(case: Case, agents: Sequence[Running]) -> Iterator[Figure | Curve]:
    """All agents at the same time."""
    with ExitStack() as stack:
        lanes = [stack.enter_context(running()) for running in agents for _ in range(case.lanes)]
        wait_until_served(lanes)
        lateness = watch(lanes, case.arrivals(len(lanes)), case.settling_seconds)
    for begin in range(0, len(lanes), case.lanes):
        yield from _tell(case, lanes[begin].agent, sorted(chain(*lateness[begin : begin + case.lanes])))


def _tell(case: Case, agent: str, late: Sequence[float]) -> Iterator[Figure | Curve]:
    yield Figure(agent, f"{case.name}: runs", len(late))
    quantity, p50 = f"{case.name}: lateness, half of the runs", round(median(late), 3)
    yield at_most(agent, quantity, p50, case.limit_seconds, "s") if agent in OURS else Figure(agent, quantity, p50, "s")
    yield Figure(agent, f"{case.name}: lateness, the first of them", round(late[0], 3), "s")
    yield Figure(agent, f"{case.name}: lateness, 95 of 100", round(quantiles(late, n=20)[-1], 3), "s")
    yield Curve(case.plot.title, agent, tuple((seconds, number / len(late)) for number, seconds in enumerate(late, 1)))
