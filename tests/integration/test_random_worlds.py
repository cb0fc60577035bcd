"""Random histories: ticks and event handlers, cut off, frozen or hit by faults, while flows begin, end, retry and die.

At no moment has a flow run two living tasks, nothing that has finished is set back, and no flow that runs well is
failed. Once the faults are over every run is settled, though all further events of ECS are lost: what ECS can still
tell within four rounds of the schedule, the rest when it has forgotten.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chalicelib.errors import LaunchError, PrefectError
from chalicelib.sweep import Manners
from tests.integration.account import check_settled
from tests.integration.containers import DEATHS, FALSE_STARTS, FINISHED, Containers, Task, of_the_agent
from tests.integration.world import Cut, Killed, Suspension, World

ROUND_SECONDS = 100
ROUNDS = 4
PREFECT_FAULTS = st.sampled_from(["status", "api_error", "cut_before", "cut_after", "html"])
ECS_FAULTS = st.sampled_from(
    ["cut_before", "cut_after", "status", "throttle", "throttle_disguised", "failure", "error"]
)
ECS_ACTIONS = st.sampled_from(["RunTask", "DescribeTasks", "ListTasks", "StopTask", "RegisterTaskDefinition", None])
REFUSALS = st.sampled_from(["ServerException", "PlatformUnknownException", "AccessDeniedException"])
WHICH = st.integers(0, 7)
CONFIGS: list[dict[str, Any]] = [
    {"type": "ECSRun", "image": "flows:1"},
    {"type": "ECSRun", "image": "flows:1"},
    {"type": "ECSRun", "image": "flows:1", "env": {"AGENT_RESUBMIT": "running"}},
    {"type": "ECSRun", "image": "flows:1", "env": {"AGENT_RESUBMIT": "never"}},
    {"type": "DockerRun"},
]
FOREIGN = [
    "no JSON",
    "[]",
    "null",
    '{"detail": {}}',
    '{"detail": {"clusterArn": "x", "taskArn": 1, "lastStatus": "STOPPED"}}',
]


class SteppedSuspension(Suspension):
    """Freezes between an answer and the next step only: a process that is frozen within one request is not promised."""

    def __init__(self, at: int) -> None:
        super().__init__(2 * at + 1)
        self._place = threading.local()

    def effect(self, *_: Any, **__: Any) -> None:
        """Odd effects of a thread are answers."""
        self._place.count = getattr(self._place, "count", 0) + 1
        if self._place.count % 2:
            with self._lock:
                self.effects += 1
            return
        super().effect()


class Histories(RuleBasedStateMachine):
    """One world, and what may happen in it."""

    def __init__(self) -> None:
        super().__init__()
        self.environment = pytest.MonkeyPatch()
        self.world = World(self.environment, Manners(strays="stop"))
        self.containers = Containers(self.world)
        self.run_ids: list[str] = []

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.world.close()
            self.environment.undo()

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for number in range(count):
            self.add_run(number)

    # what the agent does

    @rule()
    def tick(self) -> None:
        self.act(lambda: self.world.tick())

    @rule(at=st.integers(0, 40))
    def tick_that_dies(self, at: int) -> None:
        self.act(lambda: self.world.tick(Cut(at)))

    @rule()
    def woken_tick(self) -> None:
        self.act(lambda: self.world.agent().tick(self.world.clock.now() + timedelta(seconds=10)))

    @rule(which=st.lists(WHICH, min_size=1, max_size=5), at=st.none() | st.integers(0, 8))
    def events_arrive(self, which: list[int], at: int | None) -> None:
        """In any order, late and repeated; what is never chosen is lost."""
        if self.containers.events:
            events = [self.containers.events[-1 - number % len(self.containers.events)] for number in which]
            self.act(lambda: self.world.hear(*events, cut=None if at is None else Cut(at)))

    @rule(which=WHICH, body=st.sampled_from(FOREIGN))
    def forged_events_arrive(self, which: int, body: str) -> None:
        bodies = [body]
        if task := self.pick_task(which):
            detail = {**self.as_stopped(task), "taskArn": task.arn}
            bodies += [json.dumps({"detail": each}) for each in (detail, {**detail, "startedBy": "prefect/nobody"})]
            bodies.append(json.dumps({"detail": {**detail, "taskArn": f"{task.arn[:-4]}beef"}}))
        self.act(lambda: self.world.agent().heed_events(bodies))

    @rule(at=st.integers(0, 25), seconds=st.sampled_from([61, 200]), which=WHICH, how=st.sampled_from(["go", "die"]))
    def tick_that_stands_still(self, at: int, seconds: int, which: int, how: str) -> None:
        """Another tick and the flows go on meanwhile."""
        self.faults_end()
        with self.act_later(SteppedSuspension(at)):
            self.time_passes(seconds)
            self.tick()
            if how == "go":
                self.a_flow_begins(which)
            else:
                self.a_task_does_not_start(which, "no room")
                self.events_arrive([0], None)
            self.time_passes(ROUND_SECONDS)
            self.tick()
            self.a_flow_begins(which)

    # what flows and users do, and ECS

    @rule(number=st.integers(0, 9), waits=st.sampled_from([0, 0, 5, 300]))
    def add_run(self, number: int, waits: int = 0) -> None:
        at = self.world.clock.now() + timedelta(seconds=waits)
        config = CONFIGS[number % len(CONFIGS)]
        self.run_ids.append(self.world.prefect.add_flow_run(run_config=config, start_time=at))

    @rule(seconds=st.sampled_from([1, 40, 100, 700, 3200]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.turn(seconds)
        self.containers.send_heartbeats()

    @rule(which=WHICH)
    def a_flow_begins(self, which: int) -> None:
        if task := self.pick_task(which):
            self.containers.begin(task.arn)

    @rule(which=WHICH, state=st.sampled_from(["Success", "Success", "Failed"]))
    def a_flow_ends(self, which: int, state: str) -> None:
        if task := self.pick_task(which):
            self.containers.end(task.arn, state)

    @rule(which=WHICH, seconds=st.sampled_from([0, 50, 900]), ends=st.booleans())
    def a_flow_waits_for_a_retry(self, which: int, seconds: int, ends: bool) -> None:
        if task := self.pick_task(which):
            self.containers.wait_for_retry(task.arn, seconds, ends)

    @rule(which=WHICH)
    def a_flow_retries_in_place(self, which: int) -> None:
        if task := self.pick_task(which):
            self.containers.retry_in_place(task.arn)

    @rule(which=WHICH, how=st.sampled_from(sorted(DEATHS)))
    def a_task_dies(self, which: int, how: str) -> None:
        if task := self.pick_task(which):
            self.containers.die(task.arn, how)

    @rule(which=WHICH, why=st.sampled_from(sorted(FALSE_STARTS)))
    def a_task_does_not_start(self, which: int, why: str) -> None:
        if task := self.pick_task(which):
            self.containers.fail_to_start(task.arn, why)

    @rule()
    def what_is_to_stop_stops(self) -> None:
        self.containers.finish_stopping()

    @rule()
    def lazarus_passes(self) -> None:
        self.world.prefect.run_lazarus()

    @rule(which=WHICH)
    def somebody_cancels(self, which: int) -> None:
        self.world.prefect.cancel(self.run_ids[which % len(self.run_ids)])

    @rule(which=WHICH)
    def somebody_restarts(self, which: int) -> None:
        """A run that has ended, though something of it may live that nobody has told to stop."""
        run_id = self.run_ids[which % len(self.run_ids)]
        if self.state(run_id) in FINISHED and all(task.is_to_run for task in self.containers.living(run_id)):
            self.world.prefect.set_state(run_id, {"type": "Scheduled", "message": "Restarted by somebody"})

    @rule(then=PREFECT_FAULTS, times=st.integers(1, 5), after=st.integers(0, 6))
    def prefect_fails(self, then: Any, times: int, after: int) -> None:
        """So many requests later, so that the fault comes in the middle of what the agent does."""
        left = [after]

        def is_met(request: Any) -> bool:
            left[0] -= of_the_agent(request)
            return of_the_agent(request) and left[0] < 0

        self.world.prefect.faults.add(then=then, when=is_met, times=times)

    @rule(when=ECS_ACTIONS, then=ECS_FAULTS, times=st.integers(1, 5), code=REFUSALS)
    def ecs_fails(self, when: Any, then: Any, times: int, code: str) -> None:
        more: dict[str, Any] = {"code": code} if then == "error" else {}
        if then == "failure":
            when, more = "RunTask", {"reason": "RESOURCE:MEMORY"}
        self.world.ecs.faults.add(when=when, then=then, times=times, **more)

    @rule()
    def faults_end(self) -> None:
        self.world.prefect.faults.clear()
        self.world.ecs.faults.clear()

    # what must be true

    @invariant()
    def no_run_has_two_living_tasks(self) -> None:
        assert not self.containers.twice

    @invariant()
    def no_failed_run_is_without_its_reason(self) -> None:
        for run_id in self.run_ids:
            row = self.world.prefect.flow_run(run_id)
            assert row["state"] != "Failed" or row["state_message"]

    def act(self, agent_acts: Callable[[], object]) -> None:
        """Let the agent act, and look at what it must not have touched."""
        before = self.untouchable()
        with suppress(PrefectError, LaunchError, Killed):  # What is left undone then must be made up for.
            agent_acts()
        self.check_untouched(before)

    @contextmanager
    def act_later(self, suspension: Suspension) -> Iterator[None]:
        """Inside, a tick stands still; what must not be touched counts from the moment when it goes on."""
        agent, deadline = self.world.agent(suspension, is_alone=False), self.world.clock.now() + timedelta(seconds=10)

        def run() -> None:
            with suppress(PrefectError):  # It may go on too late to write what it had in hand.
                agent.tick(deadline, recovers=True)
            suspension.frozen.set()

        thread = threading.Thread(target=run)
        thread.start()
        suspension.frozen.wait(60)
        try:
            yield
        finally:
            before = self.untouchable()
            suspension.resume()
            thread.join()
        self.check_untouched(before)

    def untouchable(self) -> dict[str, tuple[str, int]]:
        """State and version of the runs that have finished, and of those that run well."""
        well = self.containers.well(self.run_ids)
        rows = [self.world.prefect.flow_run(run_id) for run_id in self.run_ids]
        kept = [row for row in rows if row["state"] in FINISHED or row["id"] in well]
        return {row["id"]: (row["state"], row["version"]) for row in kept}

    def check_untouched(self, before: dict[str, tuple[str, int]]) -> None:
        for run_id, stood in before.items():
            row = self.world.prefect.flow_run(run_id)
            assert (row["state"], row["version"]) == stood, row["state_message"]

    def settle(self) -> None:
        """Faults are over, and all events are lost from now on."""
        self.faults_end()
        for _ in range(ROUNDS):
            self.go_round(ROUND_SECONDS)
        for run_id in self.run_ids:
            check_settled(self.containers, run_id, is_forgotten=False)
        self.go_round(3600)
        for _ in range(ROUNDS + 36):
            self.go_round(ROUND_SECONDS)
        for run_id in self.run_ids:
            check_settled(self.containers, run_id, is_forgotten=True)

    def go_round(self, seconds: int) -> None:
        self.time_passes(seconds)
        self.tick()
        self.containers.finish_stopping()
        self.no_run_has_two_living_tasks()

    def state(self, run_id: str) -> str:
        return str(self.world.prefect.flow_run(run_id)["state"])

    def pick_task(self, which: int) -> Task | None:
        living = self.containers.living()
        return living[which % len(living)] if living else None

    def as_stopped(self, task: Task) -> dict[str, Any]:
        cluster = task.arn.replace(":task/", ":cluster/").rpartition("/")[0]
        return {"clusterArn": cluster, "startedBy": f"prefect/{task.run_id}", "lastStatus": "STOPPED"}


SOAK_HISTORIES = int(os.environ.get("SOAK_HISTORIES", "0"))
"""`make soak` asks for many, and for others each time; the tests look at the same few."""

Histories.TestCase.settings = settings(
    max_examples=SOAK_HISTORIES or 15,
    stateful_step_count=40 if SOAK_HISTORIES else 20,
    derandomize=not SOAK_HISTORIES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = Histories.TestCase
