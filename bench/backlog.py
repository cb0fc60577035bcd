"""A backlog of due runs on Prefect 1, served to its end: how fast, with how many requests, at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from bench.agents import Agent, Meter, Place
from bench.results import OURS, Curve, Figure, at_least, at_most
from tests.doubles.prefect1 import Request

POINTS = 200
"""Of a curve: as many as one can see."""

REQUESTS_A_RUN, CPU_MS_A_RUN, MEMORY_MB = 0.2, 4.0, 80.0
"""Promised of ours, for 1,000 runs."""

RATE = "runs a second"
RECORDS = {"set_flow_run_states", "write_run_logs"}


@dataclass(frozen=True)
class Served:
    """How one agent served a backlog.

    `seconds` are from the start of its first process to the last record, `polling_seconds` from its first request on;
    what it asks after the last record is not counted. `cpu_seconds` are without those of its starts.
    """

    runs: int
    begun: datetime
    seconds: float
    polling_seconds: float
    requests: int
    cpu_seconds: float
    peak_mb: float
    processes: int

    def curve(self, plot: str, agent: str, moments: Sequence[datetime]) -> Curve:
        """How many runs had been started, over the seconds since the start; `moments` are when each was."""
        points = [((moment - self.begun).total_seconds(), float(number)) for number, moment in enumerate(moments, 1)]
        step = -(-len(points) // POINTS)
        return Curve(plot, agent, ((0.0, 0.0), *points[:-1:step], points[-1]))


def serve_backlog(place: Place, agent: Agent[Place], runs: int, images: int, **more: str) -> Served:
    """Let an agent serve so many due runs of so many images, in fresh surroundings. Raises TookTooLong."""
    idle, meter = Meter(), Meter()
    agent.start(place, idle, **more)
    place.add_due_runs(runs, images)
    place.forget()
    begun = datetime.now(UTC)
    agent.serve(place, meter, lambda: place.runs_with_sign() >= runs, **more)
    requests = place.prefect.requests
    last = last_record(requests)
    return Served(
        runs=runs,
        begun=begun,
        seconds=(requests[last].time - begun).total_seconds(),
        polling_seconds=(requests[last].time - requests[0].time).total_seconds(),
        requests=last + 1,
        cpu_seconds=meter.cpu_seconds - meter.processes * idle.cpu_seconds / idle.processes,
        peak_mb=meter.peak_mb,
        processes=meter.processes,
    )


def last_record(requests: Sequence[Request]) -> int:
    """The place of the last request that told Prefect what has become of a run. Raises ValueError when none did."""
    return max(number for number, request in enumerate(requests) if RECORDS.intersection(request.field_names))


def figures(
    name: str,
    rounds: Sequence[Served],
    least_rate: float,
    most_requests: float | None = REQUESTS_A_RUN,
    real: Served | None = None,
) -> Iterator[Figure]:
    """What is to be said of one agent: medians of its rounds, the ratio to the real agent, and the promises of ours."""
    runs, is_ours = rounds[0].runs, name in OURS
    rate = runs / median(served.polling_seconds for served in rounds)
    yield at_least(name, RATE, rate, least_rate) if is_ours else Figure(name, RATE, rate)
    yield Figure(name, "runs a second, the start included", runs / median(served.seconds for served in rounds))
    if real:
        yield Figure(name, "times the real agent's rate", rate * real.polling_seconds / real.runs)
    requests = median(served.requests for served in rounds) / runs
    cpu_ms = 1000 * median(served.cpu_seconds for served in rounds) / runs
    peak_mb = median(served.peak_mb for served in rounds)
    yield _promised(name, "requests to Prefect a run", requests, most_requests)
    yield _promised(name, "CPU a run", cpu_ms, CPU_MS_A_RUN, "ms")
    yield _promised(name, "peak memory", peak_mb, MEMORY_MB, "MB")
    yield Figure(name, "processes", median(served.processes for served in rounds))


def _promised(name: str, quantity: str, value: float, limit: float | None, unit: str = "") -> Figure:
    if limit is None or name not in OURS:
        return Figure(name, quantity, value, unit)
    return at_most(name, quantity, value, limit, unit)
