"""A process that is cut off at any effect of a tick loses nothing and starts nothing twice.

Each test cuts a scheduled tick, or the handling of events, at one effect after the other, before a request is sent and
after it is answered, lets two later scheduled ticks run, and then looks at every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from tests.integration.launched import (
    NO_IMAGE,
    NO_ROOM,
    SPOT,
    assert_failed_with,
    launch,
    launch_and_begin,
    tick_again,
)
from tests.integration.world import ROUND_SECONDS, Cut, World, cut_at_every_effect


def cut_everywhere(
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[World], None],
    act: Callable[[World, Cut], object | None] = World.tick,
    act_again: Callable[[World], None] | None = None,
) -> Iterator[tuple[int, World]]:
    """Every world that comes of one cut of `act` and two rounds."""
    return cut_at_every_effect(lambda: World(monkeypatch), arrange, act, act_again)


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


def hear(world: World, cut: Cut) -> object | None:
    """Deliver all that ECS has said of stops to a process that is cut."""
    return world.hear(*world.stop_events(), cut=cut)


def hear_again(world: World) -> None:
    """Deliver it once more, as SQS does with what was not dealt with."""
    assert world.hear(*world.stop_events()) is not None


def end_what_is_to_stop(world: World) -> None:
    """As ECS does some seconds after StopTask."""
    for task in world.ecs.tasks():
        if task["desiredStatus"] == "STOPPED" and task["lastStatus"] != "STOPPED":
            world.ecs.stop(task["taskArn"], exit_code=143)


EVENT_OR_SWEEP = pytest.mark.parametrize(("act", "act_again"), [(hear, hear_again), (hear, None), (World.tick, None)])
"""An event that comes again, one that is lost, and none at all."""


@EVENT_OR_SWEEP
def test_what_could_not_start_is_failed_once_with_its_reason_wherever_that_is_cut(
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[World, Cut], object | None],
    act_again: Callable[[World], None] | None,
) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        ids[:] = []
        for stop in (NO_IMAGE, {"exit_code": 1}):
            run_id, arn = launch(world)
            world.ecs.stop(arn, **stop)
            ids.append(run_id)
        world.clock.turn(ROUND_SECONDS)

    for at, world in cut_everywhere(monkeypatch, arrange, act, act_again):
        assert_failed_with(world, ids[0], "TaskFailedToStart", "CannotPullContainerError", at=at)
        assert_failed_with(world, ids[1], "EssentialContainerExited", "exit code 1", at=at)
        assert len(world.ecs.tasks()) == 2, f"cut at effect {at}"


@EVENT_OR_SWEEP
@pytest.mark.parametrize("begins", [False, True])
def test_what_lost_its_machine_is_launched_again_once_wherever_that_is_cut(
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[World, Cut], object | None],
    act_again: Callable[[World], None] | None,
    begins: bool,
) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        run_id, arn = (launch_and_begin if begins else launch)(world, "running")
        ids[:] = [run_id, world.prefect.add_task_run(run_id, {"type": "Running" if begins else "Pending"})]
        world.ecs.stop(arn, **(SPOT if begins else NO_ROOM))
        world.clock.turn(ROUND_SECONDS)

    for at, world in cut_everywhere(monkeypatch, arrange, act, act_again):
        # Two rounds may end right after it was given back; it is launched by the tick after that.
        tick_again(world, 40, ROUND_SECONDS)
        assert_launched_once(world, ids[0], at)
        assert world.prefect.task_run(ids[1])["state"] == "Pending", f"cut at effect {at}"
        assert len(world.ecs.tasks()) == 2, f"cut at effect {at}"
        counts = [state["serialized_state"]["context"].get("resubmitted") for state in world.prefect.states(ids[0])]
        assert {count for count in counts if count} == {1}, f"cut at effect {at}"


@pytest.mark.parametrize("begins", [False, True])
def test_a_cancelled_run_ends_without_a_task_wherever_the_tick_is_cut(
    monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        run_id, _ = (launch_and_begin if begins else launch)(world)
        world.prefect.cancel(run_id)
        world.clock.turn(ROUND_SECONDS)
        ids[:] = [run_id]

    for at, world in cut_everywhere(monkeypatch, arrange, act_again=end_what_is_to_stop):
        world.tick()
        assert world.prefect.flow_run(ids[0])["state"] == "Cancelled", f"cut at effect {at}"
        assert world.living_tasks(ids[0]) == [], f"cut at effect {at}"
        (task,) = world.ecs.tasks()
        assert task["stoppedReason"] == "The flow run was cancelled", f"cut at effect {at}"


def test_a_run_that_is_cancelled_where_its_tick_was_cut_ends_without_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str] = []

    def arrange(world: World) -> None:
        ids[:] = [world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1"})]

    def tick_and_cancel(world: World, cut: Cut) -> object | None:
        report = world.tick(cut)
        world.prefect.cancel(ids[0])
        return report

    for at, world in cut_everywhere(monkeypatch, arrange, tick_and_cancel, end_what_is_to_stop):
        assert world.prefect.flow_run(ids[0])["state"] == "Cancelled", f"cut at effect {at}"
        assert world.living_tasks(ids[0]) == [], f"cut at effect {at}"
