"""A minute in which nothing is due, and what it costs: ours and the real agents and worker, side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from bench.cluster import ClusterSurroundings, cluster_surroundings
from bench.pools import PoolSurroundings, pool_surroundings
from bench.results import (
    ECS_AGENT,
    ECS_WORKER,
    KUBERNETES_AGENT,
    ONE_PROCESS,
    OURS,
    REAL_ZIP,
    Figure,
    Measurement,
    at_most,
    exactly,
)
from bench.stage import WARMING_TICKS, Stage, stage_of
from bench.surroundings import Surroundings, surroundings
from bench.usage import Usage, usage_of
from bench.zip import zipped_agent

MINUTE_SECONDS = 60.0
SETTLING_SECONDS = 30.0
"""After these the longest pause of a back-off is reached: the shorter ones add up to 16 s."""

REQUESTS, MEMORY_MB = 8, 45
LAMBDA, ON_ECS, ON_KUBERNETES, ON_A_POOL = "in the Lambda", "Prefect 1 on ECS", "Prefect 1 on Kubernetes", "a work pool"
OUR_USER_AGENT = "python-requests"
Count = Callable[[], int]


@dataclass(frozen=True)
class Idler:
    """A process that waits for flow runs; `asked` counts the requests to its Prefect, `calls` those to Kubernetes."""

    agent: str
    serves: str
    process_id: int
    asked: Count
    calls: Count | None = None

    def look(self) -> tuple[Usage, int, int]:
        """What it has used, asked and called so far."""
        return usage_of(self.process_id), self.asked(), self.calls() if self.calls else 0


def measure() -> Iterator[Figure]:
    """The same minute for all of them, once they have settled."""
    with ExitStack() as stack:
        idlers = [*_on_ecs(stack), *_on_kubernetes(stack), *_on_pools(stack)]
        zipped, place = stack.enter_context(zipped_agent()), stack.enter_context(surroundings())
        stage = stack.enter_context(stage_of(zipped, place))
        time.sleep(SETTLING_SECONDS)
        place.forget()
        before = [idler.look() for idler in idlers]
        stage.run(MINUTE_SECONDS, threading.Event())
        after = [idler.look() for idler in idlers]
        yield from _of_stage(stage, [request.time for request in place.prefect.requests])
    for idler, begin, end in zip(idlers, before, after, strict=True):
        yield from _of_process(idler, begin, end)


def _on_ecs(stack: ExitStack) -> list[Idler]:
    def idler(agent: str, command: Callable[[Surroundings], Sequence[str]]) -> Idler:
        place = stack.enter_context(surroundings())
        process = stack.enter_context(place.running(command(place)))
        return Idler(agent, ON_ECS, process.pid, lambda: len(place.requests()))

    return [idler(ONE_PROCESS, lambda place: place.ours), idler(ECS_AGENT, lambda place: place.prefects)]


def _on_kubernetes(stack: ExitStack) -> list[Idler]:
    def idler(agent: str, command: Callable[[Surroundings], Sequence[str]]) -> Idler:
        place = stack.enter_context(cluster_surroundings())
        process = stack.enter_context(place.running(command(place)))
        return Idler(agent, ON_KUBERNETES, process.pid, lambda: len(place.requests()), lambda: _calls_of(place))

    return [idler(ONE_PROCESS, lambda place: place.ours), idler(KUBERNETES_AGENT, lambda place: place.prefects)]


def _calls_of(place: ClusterSurroundings) -> int:
    return len(place.calls())


def _on_pools(stack: ExitStack) -> list[Idler]:
    place = stack.enter_context(pool_surroundings())

    def idler(agent: str, command: Callable[[], Sequence[str]]) -> Idler:
        place.add_pool(0)
        process = stack.enter_context(place.running(command()))
        return Idler(agent, ON_A_POOL, process.pid, lambda: _requests_of(place, agent))

    return [idler(ONE_PROCESS, lambda: place.ours), idler(ECS_WORKER, lambda: place.workers)]


def _requests_of(place: PoolSurroundings, agent: str) -> int:
    is_ours = agent in OURS
    return sum(request.agent.startswith(OUR_USER_AGENT) == is_ours for request in place.server.requests())


def _of_process(idler: Idler, before: tuple[Usage, int, int], after: tuple[Usage, int, int]) -> Iterator[Figure]:
    (used_before, asked_before, called_before), (used, asked, called) = before, after
    cpu_seconds = round(used.cpu_seconds - used_before.cpu_seconds, 3)
    yield Figure(idler.agent, f"{idler.serves}: requests to Prefect", asked - asked_before)
    if idler.calls:
        yield Figure(idler.agent, f"{idler.serves}: requests to Kubernetes", called - called_before)
    yield Figure(idler.agent, f"{idler.serves}: CPU", cpu_seconds, "s")
    yield Figure(idler.agent, f"{idler.serves}: peak memory", round(used.peak_mb, 1), "MB")


def _of_stage(stage: Stage, asked: Sequence[datetime]) -> Iterator[Figure]:
    ticks = stage.invocations[len(WARMING_TICKS) :]
    between = [moment for moment in asked if not any(each.begun <= moment <= each.ended for each in ticks)]
    yield Figure(REAL_ZIP, f"{LAMBDA}: ticks", len(ticks))
    yield at_most(REAL_ZIP, f"{LAMBDA}: requests to Prefect", len(asked), REQUESTS)
    yield exactly(REAL_ZIP, f"{LAMBDA}: requests between the ticks", len(between), 0)
    cpu_seconds = 0.0
    for function, which in (("wake", "woken"), ("tick", "scheduled")):
        used = [each.used for each in stage.invocations if each.function == function]
        cpu_seconds += used[-1].cpu_seconds - used[0].cpu_seconds
        peak_mb = round(used[-1].peak_mb, 1)
        yield at_most(REAL_ZIP, f"{LAMBDA}: peak memory, {which}", peak_mb, MEMORY_MB, "MB")
    yield Figure(REAL_ZIP, f"{LAMBDA}: CPU", round(cpu_seconds, 3), "s")


MEASUREMENT = Measurement(
    "A minute with nothing due",
    "All at the same time, each with its own double or work pool, after their start and back-off. In the Lambda one "
    "scheduled tick plans five woken ones, in a warm container of the real zip for each of the two functions; AWS "
    "freezes them in between. CPU is counted in steps of 10 ms.",
    measure,
    needs=("prefect1", "prefect3"),
)
