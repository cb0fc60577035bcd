"""The ways in which runs come one by one, and what is to be said of how late they are started."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from statistics import median, quantiles

from bench.lanes import Arrival, Lane, Lateness, ad_hoc, planned, wait_until_served, watch
from bench.results import OURS, Curve, Figure, Plot, at_most, exactly

AXES = ("seconds after its time", "share of the runs that are started")
SPARSE_PAUSES = (10.0, 20.0)
PLANNED_LIMIT_SECONDS, BUSY_LIMIT_SECONDS = 0.07, 0.35
SPARSE_LIMIT_SECONDS = 5.5
"""Half the cadence of 10 s, and a tenth for chance, as few runs come."""

Running = Callable[[], AbstractContextManager[Lane]]


@dataclass(frozen=True)
class Case:
    """One way in which runs come; `lanes` are how many of each agent there are, `limit_seconds` is promised of ours
    for half of the runs, nothing when it is None.

    What comes in the first `settling_seconds` only ends the back-off of those who wait.
    """

    name: str
    plot: Plot
    arrivals: Callable[[int], Sequence[Arrival]]
    limit_seconds: float | None
    lanes: int = 1
    settling_seconds: float = 0.0


def planned_case(
    title: str,
    ahead_seconds: float,
    seconds: float,
    pause_seconds: float,
    limit_seconds: float | None = PLANNED_LIMIT_SECONDS,
) -> Case:
    """Runs that are due one after the other, all known since long before."""
    return Case(
        "planned",
        Plot(title, *AXES),
        lambda lanes: planned(lanes, ahead_seconds, seconds, pause_seconds),
        limit_seconds,
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
        found = watch(lanes, case.arrivals(len(lanes)), case.settling_seconds)
    for begin in range(0, len(lanes), case.lanes):
        yield from tell(case, lanes[begin].agent, found[begin : begin + case.lanes])


def tell(case: Case, agent: str, found: Sequence[Lateness]) -> Iterator[Figure | Curve]:
    """What is to be said of one agent on so many lanes; lateness is of those runs that were started, if two were."""
    late, missing = sorted(each for lane in found for each in lane.seconds), sum(lane.missing for lane in found)
    runs = len(late) + missing
    yield Figure(agent, f"{case.name}: runs", runs)
    quantity = f"{case.name}: never started"
    yield exactly(agent, quantity, missing, 0) if agent in OURS else Figure(agent, quantity, missing)
    if len(late) > 1:
        yield from _lateness(case, agent, late)
        yield Curve(case.plot.title, agent, tuple((seconds, number / runs) for number, seconds in enumerate(late, 1)))


def _lateness(case: Case, agent: str, late: Sequence[float]) -> Iterator[Figure]:
    quantity, p50 = f"{case.name}: lateness, half of the runs", round(median(late), 3)
    limit = case.limit_seconds if agent in OURS else None
    yield Figure(agent, quantity, p50, "s") if limit is None else at_most(agent, quantity, p50, limit, "s")
    yield Figure(agent, f"{case.name}: lateness, the first of them", round(late[0], 3), "s")
    yield Figure(agent, f"{case.name}: lateness, 95 of 100", round(quantiles(late, n=20)[-1], 3), "s")
