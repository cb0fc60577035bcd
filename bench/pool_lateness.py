"""How long after its time a flow run of a work pool is started on ECS: ours and the official worker side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from bench.cases import Running, busy_case, measure_case, planned_case, sparse_case
from bench.lanes import run_id_of
from bench.pools import PoolSurroundings, pool_surroundings
from bench.results import ECS_WORKER, ONE_PROCESS, OURS, Curve, Figure, Measurement

ROUND_TRIP_SECONDS = 0.03
CASES = (
    planned_case(
        "Work pools: runs planned ahead, one a second",
        ahead_seconds=45.0,
        seconds=30.0,
        pause_seconds=1.0,
        limit_seconds=None,
    ),
    busy_case("Work pools: runs due at once, two a second", settling_seconds=15.0, seconds=60.0, pause_seconds=0.5),
    sparse_case("Work pools: runs due at once, one every 10 to 20 s", seconds=100.0, lanes=2),
)


@dataclass(frozen=True)
class PoolLane:
    """One agent with a work pool of its own; the server and ECS are everybody's."""

    agent: str
    place: PoolSurroundings
    deployment: str

    def add(self, due: datetime) -> str:
        """See `bench.lanes`."""
        return self.place.server.create_run(self.deployment, (due - datetime.now(UTC)).total_seconds())

    def started(self) -> Mapping[str, datetime]:
        """See `bench.lanes`. The double notes a call when its round trip has passed; it came that long before."""
        calls = [call for call in self.place.ecs.calls if call.action == "RunTask"]
        way = timedelta(seconds=ROUND_TRIP_SECONDS)
        return {run_id_of(call.parameters["overrides"]): call.at - way for call in reversed(calls)}


def measure() -> Iterator[Figure | Curve]:
    """One case after the other on the same server, in each all agents at the same time."""
    with pool_surroundings(ROUND_TRIP_SECONDS) as place:
        agents: list[Running] = [partial(_process, place, agent) for agent in (ONE_PROCESS, ECS_WORKER)]
        for case in CASES:
            yield from measure_case(case, agents)


@contextmanager
def _process(shared: PoolSurroundings, agent: str) -> Iterator[PoolLane]:
    place = shared.beside()
    place.add_pool(0)
    deployment = place.server.create_deployment(place.pool)
    with place.running(place.ours if agent in OURS else place.workers):
        yield PoolLane(agent, place, deployment)


MEASUREMENT = Measurement(
    "How late a flow run of a work pool is started on ECS",
    "From the time for which it is scheduled, or at which it is created, to the RunTask; "
    f"{1000 * ROUND_TRIP_SECONDS:.0f} ms a request, besides what the server takes. Each agent has a pool of its own; "
    "both start what is planned 10 s early, as the container waits by itself, so that nothing is promised of how late "
    "that is. Ours is one process.",
    measure,
    needs=("prefect3",),
    plots=tuple(case.plot for case in CASES),
)
