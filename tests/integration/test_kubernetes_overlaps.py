"""Ticks that overlap on Kubernetes, and one that is frozen between two effects: each run has one Job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from chalicelib.agent import Agent
from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS
from tests.integration.kubernetes_launched import (
    NO_IMAGE,
    assert_failed_once,
    assert_launched_once,
    assert_resubmitted_once,
    launch_and_let_it_go_silent,
    tick_again,
)
from tests.integration.kubernetes_world import KubernetesWorld
from tests.integration.world import ROUND_SECONDS, Cut

EFFECTS_OF_A_TICK = 16
"""Of a process that signs in, recovers, and starts one run."""

SENDING_OF_CREATE = 12
"""After its last check nothing holds a request back: docs/reliability.md names that window."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[KubernetesWorld]:
    world = KubernetesWorld(tmp_path)
    try:
        yield world
    finally:
        world.close()


def test_a_tick_has_as_many_effects_as_these_tests_freeze_it_at(world: KubernetesWorld) -> None:
    world.add_run()
    effects = Cut()
    world.tick(effects)
    assert effects.effects == EFFECTS_OF_A_TICK


@pytest.mark.parametrize("frozen_seconds", [61, 200])
@pytest.mark.parametrize("at", range(EFFECTS_OF_A_TICK))
def test_a_tick_that_freezes_while_others_go_on_launches_nothing_twice(
    world: KubernetesWorld, at: int, frozen_seconds: int
) -> None:
    run_id = world.add_run()
    with world.suspended_tick(at):
        world.clock.turn(frozen_seconds)
        tick_again(world, 0, 1)
    tick_again(world, 100, 100)
    assert_launched_once(world, run_id, at)
    assert world.kubernetes.twice == set()


@pytest.mark.parametrize("at", [at for at in range(EFFECTS_OF_A_TICK) if at != SENDING_OF_CREATE])
def test_a_tick_that_freezes_until_lazarus_has_given_its_run_to_another_claim_launches_nothing_twice(
    world: KubernetesWorld, at: int
) -> None:
    run_id = world.add_run()
    with world.suspended_tick(at):
        world.clock.turn(700)
        world.prefect.run_lazarus()
        tick_again(world, 0, 1)
    tick_again(world, 100, 100)
    assert len(world.living_jobs(run_id)) == 1
    assert (world.prefect.flow_run(run_id)["state"], world.kubernetes.twice) == ("Submitted", set())


def freeze_everywhere(
    directory: Path, arrange: Callable[[KubernetesWorld], None], frozen_seconds: float
) -> Iterator[tuple[int, KubernetesWorld]]:
    """Every world in which a tick stood still at one effect while two others ran, and went on before two more."""
    count = Cut()
    with closing(KubernetesWorld(directory)) as world:
        arrange(world)
        world.tick(count)
    assert count.effects > 9, "there was hardly an effect to freeze at"
    for at in range(count.effects):
        with closing(KubernetesWorld(directory)) as world:
            arrange(world)
            with world.suspended_tick(at):
                world.clock.turn(frozen_seconds)
                tick_again(world, 0, 1)
            tick_again(world, ROUND_SECONDS, ROUND_SECONDS)
            yield at, world
            assert world.kubernetes.twice == set(), f"frozen at effect {at}"


@pytest.mark.parametrize("frozen_seconds", [61, 200])
def test_a_run_that_was_launched_before_has_one_job_wherever_a_tick_freezes(
    tmp_path: Path, frozen_seconds: float
) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [launch_and_let_it_go_silent(world, is_alive=False)]

    for at, world in freeze_everywhere(tmp_path, arrange, frozen_seconds):
        assert_launched_once(world, ids[0], at, jobs=2)


@pytest.mark.parametrize("frozen_seconds", [61, 200])
def test_what_was_evicted_is_launched_again_once_wherever_a_tick_freezes(tmp_path: Path, frozen_seconds: float) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [world.launch()]
        world.kubernetes.evict_pod(world.pod_of(ids[0]))
        world.clock.turn(ROUND_SECONDS)

    for at, world in freeze_everywhere(tmp_path, arrange, frozen_seconds):
        assert_resubmitted_once(world, ids[0], at)


def test_what_could_not_start_is_failed_once_wherever_a_tick_freezes(tmp_path: Path) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [world.launch()]
        world.kubernetes.wait_for_image(world.pod_of(ids[0]), message=NO_IMAGE)
        world.clock.turn(START_GRACE_SECONDS + 1)

    for at, world in freeze_everywhere(tmp_path, arrange, 61):
        assert_failed_once(world, ids[0], "ImagePullBackOff", NO_IMAGE, at=at)
        assert (len(world.jobs_of(ids[0])), world.living_jobs(ids[0])) == (1, [])


@pytest.mark.parametrize("begins", [False, True])
def test_a_cancelled_run_ends_without_a_job_wherever_a_tick_freezes(tmp_path: Path, begins: bool) -> None:
    ids: list[str] = []

    def arrange(world: KubernetesWorld) -> None:
        ids[:] = [(world.launch_and_begin if begins else world.launch)()]
        world.prefect.cancel(ids[0])
        world.clock.turn(ROUND_SECONDS)

    for at, world in freeze_everywhere(tmp_path, arrange, 61):
        assert world.prefect.flow_run(ids[0])["state"] == "Cancelled", f"frozen at effect {at}"
        assert world.living_jobs(ids[0]) == [], f"frozen at effect {at}"


# at once


def test_many_ticks_at_once_launch_each_run_and_each_retry_once(world: KubernetesWorld) -> None:
    fresh, retried = [world.add_run() for _ in range(20)], [world.add_run() for _ in range(10)]
    due = (world.clock.now() - timedelta(seconds=5)).isoformat()
    for run_id in retried:
        world.prefect.set_state(run_id, {"type": "Running"})
        world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 1})
    agents = [world.agent(is_alone=False) for _ in range(4)]
    together, deadline = threading.Barrier(len(agents)), world.clock.now() + timedelta(seconds=30)

    def tick(agent: Agent) -> list[str]:
        together.wait(60)
        return agent.tick(deadline, recovers=True).errors

    with ThreadPoolExecutor(len(agents)) as threads:
        assert list(threads.map(tick, agents)) == [[]] * len(agents)
    tick_again(world, ROUND_SECONDS)
    assert {run_id: len(world.jobs_of(run_id)) for run_id in (*fresh, *retried)} == dict.fromkeys(fresh + retried, 1)
    assert {world.prefect.flow_run(run_id)["state"] for run_id in fresh} == {"Submitted"}
    assert world.kubernetes.twice == set()
