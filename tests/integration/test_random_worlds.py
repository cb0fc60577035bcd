"""Random histories: runs, ticks, ticks that die, faults of both APIs, flows that start and end, Lazarus, cancellation.

At no moment has a flow run two living tasks, and once the faults are over every run is settled within three recovery
rounds: finished, running, waiting its turn with a reason, or claimed with a task and its sign.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.integration.world import Cut, World

FINISHED = {"Success", "Failed", "Cancelled"}
PREFECT_FAULTS = st.sampled_from(["status", "api_error", "cut_before", "cut_after", "html"])
ECS_FAULTS = st.sampled_from(["cut_before", "cut_after", "status", "throttle", "throttle_disguised", "failure"])
WHICH = st.integers(0, 5)


class Histories(RuleBasedStateMachine):
    """One world, and what may happen in it."""

    def __init__(self) -> None:
        super().__init__()
        self.environment = pytest.MonkeyPatch()
        self.world = World(self.environment)
        self.run_ids: list[str] = []

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            self.world.close()
            self.environment.undo()

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        for _ in range(count):
            self.add_run()

    @rule()
    def add_run(self) -> None:
        config = {"type": "ECSRun", "image": "flows:1"}
        self.run_ids.append(self.world.prefect.add_flow_run(run_config=config))

    @rule()
    def tick(self) -> None:
        self.tick_and_look(None)

    @rule(at=st.integers(0, 40))
    def tick_that_dies(self, at: int) -> None:
        self.tick_and_look(Cut(at))

    @rule(seconds=st.sampled_from([1, 40, 100, 700, 3200]))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.turn(seconds)

    @rule(then=PREFECT_FAULTS, times=st.integers(1, 5))
    def prefect_fails(self, then: Any, times: int) -> None:
        self.world.prefect.faults.add(then=then, times=times)

    @rule(then=ECS_FAULTS, times=st.integers(1, 5))
    def ecs_fails(self, then: Any, times: int) -> None:
        more = {"reason": "RESOURCE:MEMORY"} if then == "failure" else {}
        self.world.ecs.faults.add(when="RunTask", then=then, times=times, **more)

    @rule(which=WHICH)
    def a_flow_starts(self, which: int) -> None:
        run_id = self.run_ids[which % len(self.run_ids)]
        for arn in self.world.living_tasks(run_id):
            if self.world.prefect.flow_run(run_id)["state"] == "Submitted":
                # An adopted task may be running already.
                if self.world.ecs.task(arn)["lastStatus"] != "RUNNING":
                    self.world.ecs.advance(arn, "RUNNING")
                self.world.prefect.set_state(run_id, {"type": "Running"})

    @rule(which=WHICH)
    def a_flow_ends(self, which: int) -> None:
        run_id = self.run_ids[which % len(self.run_ids)]
        if self.world.prefect.flow_run(run_id)["state"] == "Running":
            self.world.prefect.set_state(run_id, {"type": "Success"})
            for arn in self.world.living_tasks(run_id):
                self.world.ecs.stop(arn)

    @rule()
    def lazarus_passes(self) -> None:
        self.world.prefect.run_lazarus()

    @rule(which=WHICH)
    def somebody_cancels(self, which: int) -> None:
        self.world.prefect.cancel(self.run_ids[which % len(self.run_ids)])

    @invariant()
    def no_run_has_two_living_tasks(self) -> None:
        for run_id in self.run_ids:
            assert len(self.world.living_tasks(run_id)) <= 1

    def tick_and_look(self, cut: Cut | None) -> None:
        finished = {run_id for run_id in self.run_ids if self.state(run_id) in FINISHED}
        try:
            self.world.tick(cut)
        except Exception as error:
            # A tick may fail as a whole only because Prefect did.
            assert type(error).__name__.startswith("Prefect"), error
        assert finished <= {run_id for run_id in self.run_ids if self.state(run_id) in FINISHED}

    def state(self, run_id: str) -> str:
        return str(self.world.prefect.flow_run(run_id)["state"])

    def settle(self) -> None:
        self.world.prefect.faults.clear()
        self.world.ecs.faults.clear()
        for _ in range(3):
            self.world.clock.turn(100)
            self.world.tick()
            self.no_run_has_two_living_tasks()
        for run_id in self.run_ids:
            row = self.world.prefect.flow_run(run_id)
            assert row["state"] in FINISHED | {"Submitted", "Running", "Cancelling"}
            if row["state"] == "Submitted":
                assert self.world.has_sign(run_id, row["serialized_state"]["context"]["key"])


SOAK_HISTORIES = int(os.environ.get("SOAK_HISTORIES", "0"))
"""`make soak` asks for many, and for others each time; the tests look at the same few."""

Histories.TestCase.settings = settings(
    max_examples=SOAK_HISTORIES or 15,
    stateful_step_count=40 if SOAK_HISTORIES else 20,
    deadline=None,
    derandomize=not SOAK_HISTORIES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestHistories = Histories.TestCase
