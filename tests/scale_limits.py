"""What a load asks of each thing that has a limit, and how far each of them suffices."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from chalicelib.launchers.ecs_tasks import DESCRIBE_LIMIT
from chalicelib.prefect_api.prefect3_client import PAGE_LIMIT, THREADS
from chalicelib.sweep import STRAYS_MINUTES
from chalicelib.ticks import RECORDING_SECONDS
from deploy.stage import ENVIRONMENT_BYTES
from tests.cost_page import API_SECONDS, FUNCTION_SECONDS, MB_OF_A_VCPU
from tests.roles import CORE
from tests.scale_inputs import (
    DEFINITIONS_A_POOL,
    DESCRIBE_SECONDS,
    DESCRIBES_OF_AN_END,
    FEW_ALIVE,
    LINES_OF_A_FLOW,
    NAME_LENGTH,
    OTHER_SETTINGS_BYTES,
    POLL_SHARE,
    QUOTAS,
    REQUESTS_OF_A_FLOW,
    REQUESTS_OF_AN_END,
    SECONDS_OF_AN_END,
    VCPUS_A_RUN,
    Number,
    Quota,
    worked_out,
)

DAY_SECONDS = 86_400
CONFIG = json.loads((CORE.parents[1] / ".chalice" / "config.json").read_text())


@dataclass(frozen=True)
class Load:
    """So many runs a day of so many seconds, in so many work pools; at the peak `peak` times as many as on average."""

    runs_a_day: float
    pools: float
    flow_seconds: float
    peak: float

    @property
    def rate(self) -> float:
        """Runs a second at the peak."""
        return self.runs_a_day / DAY_SECONDS * self.peak

    @property
    def alive(self) -> float:
        """Runs at once at the peak."""
        return self.rate * self.flow_seconds

    def divided(self, parts: int) -> Load:
        """What one of so many equal parts has."""
        return replace(self, runs_a_day=self.runs_a_day / parts, pools=math.ceil(self.pools / parts))


@dataclass(frozen=True)
class Stage:
    """One install: its functions have so much memory, and CPU in proportion."""

    measured: Mapping[str, Number]
    memory_mb: int = CONFIG["lambda_memory_size"]
    cadence_seconds: int = 10

    @property
    def vcpus(self) -> float:
        """What Lambda gives for this memory, to one tick: it has one core's worth of Python at most."""
        return min(1.0, self.memory_mb / MB_OF_A_VCPU)

    def launches_a_second(self) -> Number:
        """How many runs a second one tick's CPU suffices for."""
        return worked_out(lambda cpu_ms: self.vcpus / (cpu_ms / 1000), self.measured["CPU a run, ms"])

    def memory_for(self, alive: float) -> Number:
        """MB of the scheduled tick with so many runs alive."""
        base, more = self.measured["memory of a tick, MB"], self.measured["memory of 1,000 alive, MB"]
        return worked_out(lambda base, more: base + more * (alive - FEW_ALIVE) / 1000, base, more)

    def sweep_seconds(self, alive: float) -> Number:
        """How long the scheduled tick looks at so many: its CPU, pages of Prefect's and then of ECS's, in turn."""
        asked = alive / PAGE_LIMIT * API_SECONDS + alive / DESCRIBE_LIMIT * DESCRIBE_SECONDS
        return worked_out(
            lambda ms: ms / 1000 * alive / 1000 / self.vcpus + asked, self.measured["CPU of 1,000 alive, ms"]
        )

    def most_alive(self) -> Number:
        """How many runs alive its memory and its time suffice for."""
        base, more = self.measured["memory of a tick, MB"], self.measured["memory of 1,000 alive, MB"]
        by_memory = worked_out(lambda base, more: FEW_ALIVE + 1000 * (self.memory_mb - base) / more, base, more)
        by_time = worked_out(lambda each: sweep_room() / each, self.sweep_seconds(1))
        return worked_out(min, by_memory, by_time)

    def poll_seconds(self, pools: float) -> float:
        """How long one tick polls so many work pools."""
        return pools / THREADS * API_SECONDS

    def most_pools(self) -> float:
        """How many work pools it can poll in time, and have the names of in its environment."""
        by_time = POLL_SHARE * self.cadence_seconds * THREADS / API_SECONDS
        return min(by_time, names_room() / (NAME_LENGTH + 1))

    def idle_requests(self, pools: float) -> Number:
        """Requests a minute of so many work pools with nothing due."""
        woken, scheduled = (
            worked_out(
                lambda ten, hundred: (hundred - ten) / 90,
                *(self.measured[f"requests of a {kind} tick, {n} pools"] for n in (10, 100)),
            )
            for kind in ("woken", "scheduled")
        )
        ticks = 60 / self.cadence_seconds
        return worked_out(lambda woken, scheduled: pools * ((ticks - 1) * woken + scheduled), woken, scheduled)


def sweep_room() -> float:
    """Seconds that the scheduled tick has for its sweep."""
    return FUNCTION_SECONDS - RECORDING_SECONDS


def names_room() -> float:
    """Bytes that a function's environment has for the names of work pools."""
    return ENVIRONMENT_BYTES - OTHER_SETTINGS_BYTES


@dataclass(frozen=True)
class Limit:
    """A thing with a limit: what there is of it, what a load asks of it, and which part of the load it grows with."""

    name: str
    whose: str
    has: Number
    needs: Callable[[Load], Number]
    unit: str
    grows_with: str
    then: str

    def use(self, load: Load) -> Number:
        """What the load asks for, of what there is; 1 is all."""
        return worked_out(lambda needs, has: needs / has, self.needs(load), self.has)

    def breaks_at(self, load: Load) -> Number:
        """How many runs a day, or work pools, there may be, all else as it is; at least to three digits right."""
        if self.use(load) is None:
            return None
        low, high = 0.0, 1e12
        while high - low > high * 1e-4 + 1e-9:
            middle = (low + high) / 2
            changed = replace(load, pools=middle) if self.grows_with == "pools" else replace(load, runs_a_day=middle)
            low, high = (low, middle) if (self.use(changed) or 0.0) > 1 else (middle, high)
        return low


def limits(stage: Stage) -> list[Limit]:
    """Everything that has one, with the whole load in one stage and one account."""
    return [*_of_the_account(), *_of_prefect(stage), *_of_the_stage(stage)]


def _of_the_account() -> list[Limit]:
    def sweeps(load: Load) -> float:
        pages = load.alive / DESCRIBE_LIMIT / 60
        return load.rate * DESCRIBES_OF_AN_END + pages * (1 + 2 * STRAYS_MINUTES / 60)

    needs: dict[str, tuple[Callable[[Load], Number], str, str]] = {
        "Fargate vCPUs at once": (lambda load: load.alive * VCPUS_A_RUN, "runs", "raise it; more accounts"),
        "network interfaces": (lambda load: load.alive, "runs", "raise it, with subnets as large; more accounts"),
        "launches on Fargate": (lambda load: load.rate, "runs", "a later start; more accounts or Regions"),
        "RunTask and StopTask": (lambda load: load.rate, "runs", "more accounts or Regions"),
        "DescribeTasks and ListTasks": (sweeps, "runs", "events come again, in tens; more accounts"),
        "RegisterTaskDefinition": (
            lambda load: load.pools * DEFINITIONS_A_POOL / DAY_SECONDS,
            "pools",
            "runs of new definitions wait their turn",
        ),
        "events to the queue": (lambda load: load.rate, "runs", "they come later"),
        "Lambda, calls at once": (lambda load: 1 + load.rate * SECONDS_OF_AN_END, "runs", "raise it"),
    }
    return [
        Limit(name, "account", QUOTAS[name].value, need, QUOTAS[name].unit, grows, then)
        for name, (need, grows, then) in needs.items()
    ]


def _of_prefect(stage: Stage) -> list[Limit]:
    requests, logs = QUOTAS["requests to Prefect Cloud"], QUOTAS["logs and events to Prefect Cloud"]
    a_run = stage.measured["requests a run"]

    def launches(load: Load) -> Number:
        return worked_out(lambda each: 60 * load.rate * (each + REQUESTS_OF_AN_END), a_run)

    needs: dict[str, tuple[Callable[[Load], Number], Quota, str, str]] = {
        "requests: polls and heartbeats": (
            lambda load: stage.idle_requests(load.pools),
            requests,
            "pools",
            "fewer, larger pools; a longer cadence",
        ),
        "requests: launches and ends": (launches, requests, "runs", "Enterprise, or a server of one's own"),
        "requests: the flows' own": (
            lambda load: 60 * load.rate * REQUESTS_OF_A_FLOW,
            requests,
            "runs",
            "Enterprise, or a server of one's own",
        ),
        "logs: the agent's and the flows'": (
            lambda load: 60 * load.rate * (1 + LINES_OF_A_FLOW),
            logs,
            "runs",
            "log less",
        ),
    }
    return [
        Limit(name, "Prefect", quota.value, need, quota.unit, grows, then)
        for name, (need, quota, grows, then) in needs.items()
    ]


def _of_the_stage(stage: Stage) -> list[Limit]:
    poll_room = POLL_SHARE * stage.cadence_seconds
    return [
        Limit(
            "names in `AGENT_WORK_POOLS`",
            "stage",
            names_room(),
            lambda load: load.pools * (NAME_LENGTH + 1),
            "bytes",
            "pools",
            "more stages; shorter names",
        ),
        Limit(
            "a poll of all pools",
            "stage",
            poll_room,
            lambda load: stage.poll_seconds(load.pools),
            "s",
            "pools",
            "more stages",
        ),
        Limit(
            "CPU of a tick",
            "stage",
            stage.launches_a_second(),
            lambda load: load.rate,
            "runs/s",
            "runs",
            "more memory, which is CPU; more stages",
        ),
        Limit(
            "a write for each launch",
            "stage",
            THREADS / API_SECONDS,
            lambda load: load.rate,
            "runs/s",
            "runs",
            "more stages",
        ),
        Limit(
            "memory of the sweep",
            "stage",
            float(stage.memory_mb),
            lambda load: stage.memory_for(load.alive),
            "MB",
            "runs",
            "more memory; more stages",
        ),
        Limit(
            "time of the sweep",
            "stage",
            sweep_room(),
            lambda load: stage.sweep_seconds(load.alive),
            "s",
            "runs",
            "more memory, which is CPU; more stages",
        ),
    ]
