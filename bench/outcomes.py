"""Whether it matters that each tick is a new process: what becomes of the same runs, served in both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

from bench.results import ONE_PROCESS, PER_TICK, Figure, Measurement, exactly
from bench.surroundings import LABEL, EcsSurroundings, ecs_run, surroundings, wait_until
from tests.doubles.ecs import EcsServer

BATCHES = 3
RETRY_AGE_SECONDS = 10
"""For how long a retry has been due; while it is younger than 3 s it is left to the flow run's own process."""

NO_CAPACITY = "Capacity is unavailable at this time."
CONFIGS = {
    "plain": ecs_run("flows:1"),
    "universal": {"type": "UniversalRun", "env": {"A": "1"}},
    "for docker": {"type": "DockerRun"},
    "unknown definition": {"type": "ECSRun", "task_definition_arn": "nightly:7"},
    "no capacity": ecs_run("scarce:1"),
}

Outcomes = dict[str, tuple[tuple[str, ...], tuple[str, ...], int]]
"""By run: the states it went through, those of the task run that it retries, and the number of its tasks."""


class Served:
    """The runs that one agent is given batch by batch, the same for every agent."""

    def __init__(self, place: EcsSurroundings) -> None:
        self.place = place
        self._runs: dict[str, tuple[str, str]] = {}
        place.ecs.ask(_lack_capacity)

    def add_batch(self, number: int) -> None:
        """One run of each kind, all due."""
        prefect = self.place.prefect
        for kind, config in CONFIGS.items():
            self._runs[f"{kind} {number}"] = (prefect.add_flow_run(run_config=config, labels=[LABEL]), "")
        running = prefect.add_flow_run(run_config=ecs_run("flows:1"), labels=[LABEL], state={"type": "Running"})
        due = (datetime.now(UTC) - timedelta(seconds=RETRY_AGE_SECONDS)).isoformat()
        retry = prefect.add_task_run(running, {"type": "Retrying", "start_time": due, "run_count": 2})
        self._runs[f"retry {number}"] = (running, retry)

    @property
    def is_settled(self) -> bool:
        """Whether each run has been told what became of it: the agent asked again after it had told the last one."""
        asked_last = self.place.prefect.requests[-1:]
        is_told = self.place.signs_of_launch() >= len(self._runs)
        return is_told and not any("write_run_logs" in request.field_names for request in asked_last)

    def outcomes(self) -> Outcomes:
        """What became of them."""
        tasks = Counter(task["startedBy"] for task in self.place.ecs.ask(EcsServer.tasks))
        return {
            name: (self._states(run_id), self._states(task_run_id), tasks[f"prefect/{run_id}"])
            for name, (run_id, task_run_id) in self._runs.items()
        }

    def _states(self, run_id: str) -> tuple[str, ...]:
        return tuple(state["state"] for state in self.place.prefect.states(run_id)) if run_id else ()


def _lack_capacity(ecs: EcsServer) -> None:
    ecs.faults.add(
        when=lambda action, asked: action == "RunTask" and "scarce" in asked["taskDefinition"],
        then="failure",
        times=None,
        reason=NO_CAPACITY,
    )


def measure_outcomes() -> Iterator[Figure]:
    """Three batches, each given when the one before is settled."""
    served = {}
    for agent, serve in ((ONE_PROCESS, _one_process), (PER_TICK, _new_processes)):
        served[agent] = _serve(serve)
        yield from _account(agent, served[agent])
    long, short = served[ONE_PROCESS], served[PER_TICK]
    different = sum(long[name] != short[name] for name in long)
    yield exactly(PER_TICK, "runs with another outcome than one process gives them", different, 0)


def _account(agent: str, outcomes: Outcomes) -> Iterator[Figure]:
    kinds = Counter(states[-1] for states, _, _ in outcomes.values())
    for kind in sorted(kinds):
        yield Figure(agent, f"runs that end up {kind}", kinds[kind])
    yield exactly(agent, "runs with two tasks", sum(tasks > 1 for _, _, tasks in outcomes.values()), 0)


def _serve(agent: Callable[[EcsSurroundings], AbstractContextManager[Callable[[Served], None]]]) -> Outcomes:
    with surroundings() as place, agent(place) as settle:
        served = Served(place)
        for number in range(BATCHES):
            served.add_batch(number)
            settle(served)
        return served.outcomes()


@contextmanager
def _one_process(place: EcsSurroundings) -> Iterator[Callable[[Served], None]]:
    with place.running(place.ours) as process:
        yield lambda served: wait_until(lambda: served.is_settled, process)


@contextmanager
def _new_processes(place: EcsSurroundings) -> Iterator[Callable[[Served], None]]:
    yield lambda _served: place.run(place.our_tick)


MEASUREMENT = Measurement(
    "The same outcome, one process or a new one for each tick",
    f"{BATCHES} batches of each kind of run; some cannot be started, some find no capacity, some are retries.",
    measure_outcomes,
)
