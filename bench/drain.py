"""A backlog on ECS without quotas: how fast it is served, by one process, by a new one for each tick, by the real zip,
and by the real 1.4.1 agent.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from bench.agents import ECS_PEER, OUR_PROCESS, Agent, ProcessPerTick
from bench.backlog import REQUESTS_A_RUN, Served, figures, serve_backlog
from bench.results import OURS, Curve, Figure, Measurement, Plot, at_most
from bench.surroundings import EcsSurroundings, surroundings
from bench.zip import zipped_agent
from tests.doubles.ecs import EcsServer

RUNS = int(os.environ.get("BENCH_RUNS") or 1000)
IMAGES, ROUND_TRIP_SECONDS, ROUNDS = 3, 0.03, 3
UNPACED = {"AGENT_LAUNCHES_PER_SECOND": "0"}
LEAST_RATE, LEAST_RATE_PER_FIELD, CALLS_A_RUN = 200.0, 64.0, 1.02
ACTIONS = ("RunTask", "RegisterTaskDefinition", "DescribeTaskDefinition", "DeregisterTaskDefinition")
PLOT = Plot(f"{RUNS:,} due runs on ECS: how they are started", "seconds since the start", "runs started")
PLOT_PER_FIELD = Plot("The same with time for each root field", PLOT.x, PLOT.y)

EcsAgent = Agent[EcsSurroundings]


@dataclass(frozen=True)
class Drain:
    """How one agent served the backlog, and what it asked of ECS, each with its moment."""

    served: Served
    calls: Sequence[tuple[str, datetime]]


def measure_drain() -> Iterator[Figure | Curve]:
    """With time for each request."""
    measured = Beside(PLOT.title, LEAST_RATE, REQUESTS_A_RUN)
    yield from measured.real_agent()
    yield from measured.ours(OUR_PROCESS)
    yield from measured.ours(ProcessPerTick())
    with zipped_agent() as in_zip:
        yield from measured.ours(in_zip)


def measure_drain_per_field() -> Iterator[Figure | Curve]:
    """With as much time for each root field of a mutation."""
    measured = Beside(PLOT_PER_FIELD.title, LEAST_RATE_PER_FIELD, None, field_seconds=ROUND_TRIP_SECONDS)
    yield from measured.real_agent()
    yield from measured.ours(OUR_PROCESS)
    yield from measured.ours(ProcessPerTick())


class Beside:
    """Agents beside the real one, which is measured first, and once: it takes half a minute for 1,000 runs.

    Of ours so many runs a second are promised, and at most so many requests to Prefect for each.
    """

    def __init__(
        self, plot: str, least_rate: float, most_requests: float | None, field_seconds: float | None = None
    ) -> None:
        self._plot, self._field_seconds = plot, field_seconds
        self._least_rate, self._most_requests = least_rate, most_requests
        self._real: Served | None = None

    def real_agent(self) -> Iterator[Figure | Curve]:
        """What there is to beat."""
        drain = _drain(ECS_PEER, self._field_seconds)
        yield from self._tell(ECS_PEER.name, [drain])
        self._real = drain.served

    def ours(self, agent: EcsAgent) -> Iterator[Figure | Curve]:
        """One of ours, several times."""
        yield from self._tell(agent.name, [_drain(agent, self._field_seconds) for _ in range(ROUNDS)])

    def _tell(self, name: str, rounds: Sequence[Drain]) -> Iterator[Figure | Curve]:
        served = [drain.served for drain in rounds]
        yield from figures(name, served, self._least_rate, self._most_requests, self._real)
        last = rounds[-1]
        yield from _calls_a_run(name, Counter(action for action, _ in last.calls))
        yield last.served.curve(self._plot, name, [at for action, at in last.calls if action == "RunTask"])


def _calls_a_run(name: str, calls: Counter[str]) -> Iterator[Figure]:
    quantity, value = "calls to ECS a run", calls.total() / RUNS
    yield at_most(name, quantity, value, CALLS_A_RUN) if name in OURS else Figure(name, quantity, value)
    for action in ACTIONS:
        yield Figure(name, f"{action} for {RUNS:,} runs", calls[action])


def _drain(agent: EcsAgent, field_seconds: float | None) -> Drain:
    with surroundings(ROUND_TRIP_SECONDS, field_seconds=field_seconds) as place:
        served = serve_backlog(place, agent, RUNS, IMAGES, **UNPACED)
        return Drain(served, place.ecs.ask(_calls))


def _calls(ecs: EcsServer) -> list[tuple[str, datetime]]:
    return [(call.action, call.at) for call in ecs.calls]


DRAIN = Measurement(
    f"{RUNS:,} due runs on ECS, {1000 * ROUND_TRIP_SECONDS:.0f} ms a request, no pacing",
    f"{IMAGES} images; both Prefect and ECS take {1000 * ROUND_TRIP_SECONDS:.0f} ms a request, and have no quotas. "
    "From the first request, or the start, to the last record that a run was launched. CPU is user and system time of "
    "all processes, without what the same start takes when nothing is due. A tick begins as soon as the one before has "
    f"ended. Medians of {ROUNDS}, the real agent once.",
    measure_drain,
    needs=("prefect1",),
    plots=(PLOT,),
)
PER_FIELD = Measurement(
    f"{RUNS:,} due runs on ECS, {1000 * ROUND_TRIP_SECONDS:.0f} ms for each root field of a mutation",
    "The same with a Prefect that carries out the root fields of a mutation one after the other, as GraphQL wants it, "
    f"and takes {1000 * ROUND_TRIP_SECONDS:.0f} ms for each: what fewer requests would save, "
    f"their many fields cost. So the number of requests is not promised here. Ours {ROUNDS} times, medians; the real "
    "agent once.",
    measure_drain_per_field,
    needs=("prefect1",),
    plots=(PLOT_PER_FIELD,),
)
