"""What one agent's ticks cost as it serves more work pools: with nothing due, and with due runs spread over them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from bench.observed_server import POLL, Request, database_name
from bench.pool_drains import LOOK_SECONDS, PATIENCE_SECONDS, tick
from bench.pools import PoolSurroundings, pool_surroundings
from bench.results import ONE_PROCESS, PER_TICK, Curve, Figure, Measurement, Plot, at_most, exactly
from bench.surroundings import TookTooLong
from bench.usage import usage_of

POOLS, RUNS, WOKEN_TICKS = (1, 10, 100), 100, 4
ROUND_TRIP_SECONDS = 0.03
REQUESTS_A_RUN = 3.0
SILENCE_SECONDS = 0.2
"""Between two ticks nothing is asked for longer than this, and within an idle one for less."""

REQUESTS = Plot("Work pools: requests of an idle tick", "work pools", "requests to Prefect", is_logarithmic=True)
SECONDS = Plot("Work pools: seconds of an idle tick", "work pools", "seconds", is_logarithmic=True)


class Cost(NamedTuple):
    """What one tick cost."""

    requests: float
    seconds: float
    cpu_seconds: float


def measure() -> Iterator[Figure | Curve]:
    """Fresh pools for each number of them, all on one server."""
    woken: dict[int, Cost] = {}
    scheduled: dict[int, Cost] = {}
    with pool_surroundings(ROUND_TRIP_SECONDS) as place:
        for pools in POOLS:
            place.add_pools(pools, 0)
            woken[pools] = _idle_in_one_process(place)
            yield from _tell(ONE_PROCESS, "woken", pools, woken)
            scheduled[pools] = _idle_in_its_own_process(place)
            yield from _tell(PER_TICK, "scheduled", pools, scheduled)
            place.add_pools(pools, RUNS)
            yield from _busy(place, pools)
    yield from _curves(ONE_PROCESS, woken)
    yield from _curves(PER_TICK, scheduled)


def _idle_in_one_process(place: PoolSurroundings) -> Cost:
    """The mean of a few ticks after the first, which is the one that also sweeps and polls all pools."""
    begun_at, give_up = time.time(), time.monotonic() + PATIENCE_SECONDS

    def woken() -> list[list[Request]]:
        swept = next(iter(place.server.polls(begun_at)), None)
        ticks = _ticks(place.server.requests(begun_at))
        return [tick for tick in ticks if swept and tick[0].at > swept.at]

    with place.running(place.ours) as process:
        before = 0.0
        # What a tick has asked is known for sure once the next one has begun.
        while len(own := woken()) <= WOKEN_TICKS:
            if process.poll() is not None or time.monotonic() > give_up:
                raise TookTooLong(f"It was woken {len(own)} times")
            if own and not before:
                before = usage_of(process.pid).cpu_seconds
            time.sleep(LOOK_SECONDS)
        cpu_seconds = usage_of(process.pid).cpu_seconds - before
    seconds = [max(each.at + each.seconds for each in tick) - tick[0].at for tick in own[:WOKEN_TICKS]]
    requests = sum(len(tick) for tick in own[:WOKEN_TICKS])
    return Cost(requests / WOKEN_TICKS, sum(seconds) / WOKEN_TICKS, cpu_seconds / WOKEN_TICKS)


def _ticks(requests: list[Request]) -> list[list[Request]]:
    """The requests of each tick; nothing is asked between two."""
    ticks: list[list[Request]] = []
    end = 0.0
    for request in requests:
        if request.at > end + SILENCE_SECONDS:
            ticks.append([])
        ticks[-1].append(request)
        end = max(end, request.at + request.seconds)
    return ticks


def _idle_in_its_own_process(place: PoolSurroundings) -> Cost:
    begun_at, begun = time.time(), time.monotonic()
    used = tick(place)
    return Cost(len(place.server.requests(begun_at)), time.monotonic() - begun, used.cpu_seconds)


def _tell(agent: str, kind: str, pools: int, costs: dict[int, Cost]) -> Iterator[Figure]:
    cost, about = costs[pools], f"{_number_of(pools)}, an idle {kind} tick"
    yield Figure(agent, f"{about}: requests to Prefect", round(cost.requests, 1))
    yield Figure(agent, f"{about}: time", round(cost.seconds, 3), "s")
    yield Figure(agent, f"{about}: CPU", round(1000 * cost.cpu_seconds, 1), "ms")
    if pools // 10 in costs:
        ratio = cost.seconds / costs[pools // 10].seconds
        yield Figure(agent, f"{about}: times the time of a tenth of the pools", round(ratio, 2))


def _number_of(pools: int) -> str:
    return "1 pool" if pools == 1 else f"{pools} pools"


def _busy(place: PoolSurroundings, pools: int) -> Iterator[Figure]:
    place.ecs.forget_calls()
    begun_at = time.time()
    used = tick(place)
    launches = [call.at.timestamp() for call in place.ecs.calls if call.action == "RunTask"]
    requests = place.server.requests(begun_at)
    polls = sum(each.path.endswith(POLL) for each in requests)
    about = f"{_number_of(pools)}, {RUNS} due runs"
    yield exactly(PER_TICK, f"{about}: launched by one tick", place.standings()["launched"], RUNS)
    yield at_most(PER_TICK, f"{about}: requests to Prefect a run", round(len(requests) / RUNS, 2), REQUESTS_A_RUN)
    yield Figure(PER_TICK, f"{about}: polls", polls)
    yield Figure(PER_TICK, f"{about}: calls to ECS a run", round(len(place.ecs.calls) / RUNS, 2))
    yield Figure(PER_TICK, f"{about}: from the start to the last launch", round(max(launches) - begun_at, 2), "s")
    yield Figure(PER_TICK, f"{about}: CPU of the tick", round(used.cpu_seconds, 2), "s")


def _curves(agent: str, costs: dict[int, Cost]) -> Iterator[Curve]:
    yield Curve(REQUESTS.title, agent, tuple((float(pools), cost.requests) for pools, cost in costs.items()))
    yield Curve(SECONDS.title, agent, tuple((float(pools), cost.seconds) for pools, cost in costs.items()))


MEASUREMENT = Measurement(
    "One agent for 1, 10 and 100 work pools",
    f"A real Prefect 3.8.8 server on {database_name()} and a double of ECS, {1000 * ROUND_TRIP_SECONDS:.0f} ms a "
    f"request to either. Woken ticks are the mean of {WOKEN_TICKS} in a process that runs on; a scheduled tick, which "
    "also looks at all that runs and tells every pool that it lives, is a process of its own, its start included.",
    measure,
    needs=("prefect3",),
    plots=(REQUESTS, SECONDS),
)
