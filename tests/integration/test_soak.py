"""Thousands of flow runs in hard times, and an account that balances: `make soak`, with SOAK_RUNS and SOAK_SEED."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.errors import LaunchError, PrefectError
from chalicelib.flow_runs import Document
from chalicelib.sweep import Manners
from tests.integration.account import Account
from tests.integration.containers import DEATHS, FALSE_STARTS, Containers, Task, of_the_agent
from tests.integration.world import Cut, Killed, World

SOAK_RUNS = int(os.environ.get("SOAK_RUNS", "0"))
SOAK_SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
RUNS_AT_ONCE = 25
CONFIGS: list[dict[str, Any]] = [
    *[{"type": "ECSRun", "image": f"flows:{number}"} for number in range(12)],
    *[{"type": "ECSRun", "image": "flows:1", "env": {"AGENT_RESUBMIT": "running"}}] * 4,
    *[{"type": "ECSRun", "image": "flows:1", "env": {"AGENT_RESUBMIT": "never"}}] * 2,
    {"type": "DockerRun"},
]
PREFECT_FAULTS: list[Any] = ["status", "api_error", "cut_before", "cut_after", "html"]
ECS_FAULTS: list[Any] = ["cut_before", "cut_after", "status", "throttle", "throttle_disguised", "failure", "error"]
ECS_ACTIONS = ["RunTask", "RunTask", "DescribeTasks", "ListTasks", "StopTask", "RegisterTaskDefinition"]
REFUSALS = ["ServerException", "PlatformUnknownException", "PlatformUnknownException", "AccessDeniedException"]


class HardTimes:
    """One long random history of a world, the same for the same seed."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.containers = Containers(world)
        self.run_ids: list[str] = []
        self.queue: list[Document] = []
        self._heard = 0

    def live(self, count: int) -> None:
        """Until so many runs were created."""
        while len(self.run_ids) < count:
            self.add_runs(min(self.chance.randrange(RUNS_AT_ONCE), count - len(self.run_ids)))
            self.faults_come()
            self.time_passes(self.chance.choice([5, 20, 60, 60, 100]))
            self.agent_acts(self.tick)
            self.flows_go_on()
            self.agent_acts(self.hear)
            self.users_act()
            self.servers_act()

    def calm_down(self) -> None:
        """Faults are over and events are lost; flows go well until all have ended."""
        self.world.prefect.faults.clear()
        self.world.ecs.faults.clear()
        for seconds in [*[100] * 10, 3600, *[100] * 40, 3600, *[100] * 40]:
            self.time_passes(seconds)
            self.agent_acts(self.world.tick)
            self.containers.finish_stopping()
            for task in self.containers.living():
                self.containers.begin(task.arn)
                self.containers.end(task.arn, "Success")

    def add_runs(self, count: int) -> None:
        for _ in range(count):
            config, soon = self.chance.choice(CONFIGS), self.chance.choice([0, 0, 5, 30, 90])
            at = self.world.clock.now() + timedelta(seconds=soon)
            self.run_ids.append(self.world.prefect.add_flow_run(run_config=config, start_time=at))

    def time_passes(self, seconds: int) -> None:
        self.world.clock.turn(seconds)
        self.containers.send_heartbeats()

    def agent_acts(self, act: Callable[[], object]) -> None:
        """Whatever becomes of it, no flow that works is touched."""
        before = self.containers.well({task.run_id for task in self.containers.living()})
        with suppress(PrefectError, LaunchError, Killed):  # What is left undone then must be made up for.
            act()
        rows = [self.world.prefect.flow_run(run_id) for run_id in before]
        touched = [row["id"] for row in rows if row["version"] != before[row["id"]]]
        assert not touched, [self.world.prefect.flow_run(run_id)["state_message"] for run_id in touched]

    def tick(self) -> None:
        cut = Cut(self.chance.randrange(120)) if self.happens(0.2) else None
        agent, deadline = self.world.agent(cut), self.world.clock.now() + timedelta(seconds=10)
        agent.tick(deadline, recovers=self.happens(0.7))

    def hear(self) -> None:
        """A batch of the queue: some are lost, some come late, some twice; all come again when it fails."""
        news = [event for event in self.containers.events[self._heard :] if self.happens(0.8)]
        self._heard = len(self.containers.events)
        self.queue += [event for event in news for _ in range(1 + self.happens(0.1))]
        self.chance.shuffle(self.queue)
        batch = self.queue[:10] if self.happens(0.8) else []
        if batch and self.world.hear(*batch, cut=Cut(self.chance.randrange(8)) if self.happens(0.2) else None):
            del self.queue[: len(batch)]

    def flows_go_on(self) -> None:
        for task in self.containers.living():
            if task.arn in self.containers.working:
                self.flow_goes_on(task)
            elif self.happens(0.08):
                self.containers.fail_to_start(task.arn, self.chance.choice(sorted(FALSE_STARTS)))
            elif self.happens(0.6):
                self.containers.begin(task.arn)

    def flow_goes_on(self, task: Task) -> None:
        match self.chance.choices(["end", "retry", "resume", "die", "work"], [50, 8, 5, 6, 31])[0]:
            case "end":
                self.containers.end(task.arn, self.chance.choice(["Success"] * 8 + ["Failed"]))
            case "retry":
                self.containers.wait_for_retry(task.arn, self.chance.choice([0, 50, 900]), self.happens(0.5))
            case "resume":
                self.containers.retry_in_place(task.arn)
            case "die":
                self.containers.die(task.arn, self.chance.choice(sorted(DEATHS)))

    def users_act(self) -> None:
        for run_id in self.chance.sample(self.run_ids[-40:], min(2, len(self.run_ids))):
            self.world.prefect.cancel(run_id)
        for run_id in self.chance.sample(self.run_ids, min(3, len(self.run_ids))):
            is_over = self.world.prefect.flow_run(run_id)["state"] in {"Failed", "Cancelled"}
            if is_over and not self.containers.living(run_id) and self.happens(0.5):
                self.world.prefect.set_state(run_id, {"type": "Scheduled", "message": "Restarted by somebody"})

    def servers_act(self) -> None:
        if self.happens(0.5):
            self.containers.finish_stopping()
        if self.happens(0.1):
            self.world.prefect.run_lazarus()
        if self.happens(0.04):
            self.time_passes(self.chance.choice([700, 700, 3700]))

    def faults_come(self) -> None:
        if self.happens(0.3):
            left = [self.chance.randrange(8)]

            def is_met(request: Any) -> bool:
                left[0] -= of_the_agent(request)
                return of_the_agent(request) and left[0] < 0

            self.world.prefect.faults.add(self.chance.choice(PREFECT_FAULTS), is_met, self.chance.randrange(1, 5))
        if self.happens(0.4):
            then, when, code = (self.chance.choice(each) for each in (ECS_FAULTS, ECS_ACTIONS, REFUSALS))
            more: dict[str, Any] = {"code": code} if then == "error" else {}
            when = "RunTask" if then == "failure" else when
            self.world.ecs.faults.add(when=when, then=then, times=self.chance.randrange(1, 6), **more)

    def happens(self, probability: float) -> bool:
        return self.chance.random() < probability


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch, Manners(strays="stop"))
    yield world
    world.close()


@pytest.mark.skipif(not SOAK_RUNS, reason="takes minutes: `make soak`")
@pytest.mark.timeout(1800)
def test_the_account_of_thousands_of_runs_in_hard_times_balances(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nSOAK_RUNS={SOAK_RUNS} SOAK_SEED={SOAK_SEED}")
    random.seed(SOAK_SEED)  # Pauses of the agent are random too; which of its threads is first stays chance.
    times = HardTimes(world, SOAK_SEED)
    times.live(SOAK_RUNS)
    times.calm_down()
    account = Account(times.containers, times.run_ids)
    with capsys.disabled():
        print(account.table())
    account.check()
