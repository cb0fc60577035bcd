"""How long after its time a flow run of Prefect 1 is started on ECS: ours and the real agent side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from bench.cases import Running, busy_case, measure_case, planned_case, sparse_case
from bench.lanes import run_id_of
from bench.results import ECS_AGENT, LINGERING_ZIP, ONE_PROCESS, OURS, REAL_ZIP, Curve, Figure, Measurement
from bench.stage import CADENCE_SECONDS, stage_of
from bench.surroundings import LABEL, EcsSurroundings, surroundings
from bench.zip import ZippedAgent, zipped_agent
from tests.doubles.ecs import EcsServer

ROUND_TRIP_SECONDS = 0.03
STAGE_SECONDS = 600.0
"""For how long a stage would tick if nobody stopped it."""

CASES = (
    planned_case("Runs planned ahead, one every half second", ahead_seconds=20.0, seconds=45.0, pause_seconds=0.5),
    busy_case("Runs due at once, two a second", settling_seconds=10.0, seconds=45.0, pause_seconds=0.5),
    sparse_case("Runs due at once, one every 10 to 20 s", seconds=140.0, lanes=3),
)


@dataclass(frozen=True)
class EcsLane:
    """One agent with a Prefect and an ECS of its own."""

    agent: str
    place: EcsSurroundings
    flow_id: str

    def add(self, due: datetime) -> str:
        """See `bench.lanes`."""
        config = self.place.run_config("flows:1")
        return self.place.prefect.add_flow_run(self.flow_id, run_config=config, labels=[LABEL], start_time=due)

    def started(self) -> Mapping[str, datetime]:
        """See `bench.lanes`. The double notes a request when its round trip has passed; it came that long before."""
        way = timedelta(seconds=ROUND_TRIP_SECONDS)
        return {run_id: at - way for run_id, at in reversed(self.place.ecs.ask(_starts))}


def _starts(ecs: EcsServer) -> list[tuple[str, datetime]]:
    return [(run_id_of(call.parameters["overrides"]), call.at) for call in ecs.calls if call.action == "RunTask"]


def measure() -> Iterator[Figure | Curve]:
    """One case after the other, in each all agents at the same time."""
    with zipped_agent() as zipped:
        agents: list[Running] = [partial(_process, ONE_PROCESS), partial(_stage, zipped), partial(_process, ECS_AGENT)]
        lingering = partial(_stage, zipped, LINGERING_ZIP, AGENT_LINGER_SECONDS="8")
        for case in CASES:
            # Where launches are far from each other lingering changes nothing.
            yield from measure_case(case, agents if case.lanes > 1 else [*agents, lingering])


def _lane(agent: str, place: EcsSurroundings) -> EcsLane:
    storage = {"type": "Module", "__version__": "1.4.1", "module": "flows"}
    return EcsLane(agent, place, place.prefect.add_flow("bench", storage=storage))


@contextmanager
def _process(agent: str) -> Iterator[EcsLane]:
    """An agent that runs on and on."""
    with surroundings(ROUND_TRIP_SECONDS) as place, place.running(place.ours if agent in OURS else place.prefects):
        yield _lane(agent, place)


@contextmanager
def _stage(zipped: ZippedAgent, agent: str = REAL_ZIP, **more: str) -> Iterator[EcsLane]:
    """The zip, as a stage with these settings ticks it."""
    stopped = threading.Event()
    with (
        surroundings(ROUND_TRIP_SECONDS) as place,
        stage_of(zipped, place, **more) as stage,
        ThreadPoolExecutor(1) as thread,
    ):
        ticking = thread.submit(stage.run, STAGE_SECONDS, stopped)
        try:
            yield _lane(agent, place)
        finally:
            stopped.set()
        ticking.result()


MEASUREMENT = Measurement(
    "How late a flow run of Prefect 1 is started on ECS",
    "From the time for which it is scheduled, or at which it is created, to the RunTask; "
    f"{1000 * ROUND_TRIP_SECONDS:.0f} ms a request. Each agent has its own doubles; all wait at the same time. The "
    f"real zip ticks every {CADENCE_SECONDS:g} s, as in a stage, and a second one with AGENT_LINGER_SECONDS=8; the "
    "others wait up to 10 s between two polls.",
    measure,
    needs=("prefect1",),
    plots=tuple(case.plot for case in CASES),
)
