"""A process that is cut off at any effect of a tick loses nothing and starts nothing twice.

Each test cuts a scheduled tick at one effect after the other, before a request is sent and after it is answered, lets
two later scheduled ticks run, and then looks at every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.integration.world import Cut, World

ROUND_SECONDS = 100


@contextmanager
def a_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    try:
        yield world
    finally:
        world.close()


def cut_everywhere(monkeypatch: pytest.MonkeyPatch, arrange: Callable[[World], None]) -> Iterator[tuple[int, World]]:
    """Every world that comes of one cut and two rounds of recovery, as long as there is an effect to cut at."""
    at = 0
    while True:
        with a_world(monkeypatch) as world:
            arrange(world)
            if world.tick(Cut(at)) is not None:
                assert at > 10, "the tick had hardly an effect to be cut at"
                return
            for _ in range(2):
                world.clock.turn(ROUND_SECONDS)
                world.tick()
            yield at, world
        at += 1


def assert_launched_once(world: World, run_id: str, at: int) -> None:
    row = world.prefect.flow_run(run_id)
    assert row["state"] == "Submitted", f"cut at effect {at}"
    assert len(world.living_tasks(run_id)) == 1, f"cut at effect {at}"
    assert world.has_sign(run_id, row["serialized_state"]["context"]["key"]), f"cut at effect {at}"


def test_fresh_runs_are_launched_once_wherever_the_tick_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        ids[:] = [world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"}) for _ in range(3)]

    for at, world in cut_everywhere(monkeypatch, arrange):
        for run_id in ids:
            assert_launched_once(world, run_id, at)
            assert len([task for task in world.ecs.tasks() if run_id in task["startedBy"]]) == 1


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_run_that_was_launched_before_has_one_task_wherever_the_tick_is_cut(
    monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
        ids[:] = [run_id]
        world.tick()
        if not is_alive:
            world.ecs.stop(world.living_tasks(run_id)[0], exit_code=1)
        world.clock.turn(700)
        # As Lazarus does with a run that has not been heard of for ten minutes.
        world.prefect.set_state(run_id, {"type": "Scheduled", "start_time": world.clock.now().isoformat()})

    for at, world in cut_everywhere(monkeypatch, arrange):
        assert_launched_once(world, ids[0], at)
        assert len(world.ecs.tasks()) == (1 if is_alive else 2), f"cut at effect {at}"


def test_a_retry_is_launched_once_wherever_the_tick_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})
        world.tick()
        world.ecs.stop(world.living_tasks(run_id)[0])
        world.prefect.set_state(run_id, {"type": "Running"})
        due = (world.clock.now() - timedelta(seconds=5)).isoformat()
        task_run = world.prefect.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 1})
        ids[:] = [run_id, task_run]

    for at, world in cut_everywhere(monkeypatch, arrange):
        run_id, task_run_id = ids
        task_run = world.prefect.task_run(task_run_id)
        assert (world.prefect.flow_run(run_id)["state"], task_run["state"]) == ("Running", "Submitted")
        assert len(world.living_tasks(run_id)) == 1, f"cut at effect {at}"
        assert world.has_sign(run_id, task_run["serialized_state"]["context"]["key"]), f"cut at effect {at}"


def test_a_refused_run_has_its_reason_wherever_the_tick_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        unsupported = world.prefect.add_flow_run(run_config={"type": "DockerRun"})
        no_such = {"type": "ECSRun", "run_task_kwargs": {"platformVersion": "x"}, "image": "flows:1"}
        refused = world.prefect.add_flow_run(run_config=no_such)
        world.ecs.faults.add(when="RunTask", then="error", code="PlatformUnknownException", times=None)
        ids[:] = [unsupported, refused]

    for at, world in cut_everywhere(monkeypatch, arrange):
        for run_id, reason in zip(ids, ("DockerRun", "platformVersion"), strict=True):
            row = world.prefect.flow_run(run_id)
            assert row["state"] == "Failed", f"cut at effect {at}"
            assert reason in row["state_message"], f"cut at effect {at}"
            assert any(line["message"] == row["state_message"] for line in world.prefect.logs(run_id))
