"""Flow runs of a world, led to where a test begins: launched, or begun; and how their tasks end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.integration.world import World

NO_IMAGE: dict[str, Any] = {
    "stop_code": "TaskFailedToStart",
    "reason": "CannotPullContainerError: pull image manifest has been retried 1 time(s): flows:1: not found",
}
NO_ROOM: dict[str, Any] = {
    "stop_code": "TaskFailedToStart",
    "reason": "Capacity is unavailable at this time. Please try again later or in a different availability zone",
}
NO_INTERFACE: dict[str, Any] = {
    "stop_code": "TaskFailedToStart",
    "reason": "Timeout waiting for network interface provisioning to complete.",
}
SPOT: dict[str, Any] = {"stop_code": "SpotInterruption", "reason": "Your Spot Task was interrupted.", "exit_code": 143}


def launch(world: World, resubmit: str | None = None) -> tuple[str, str]:
    """A flow run that is Submitted, and its task, which is on its way: the id of the one, the ARN of the other."""
    env = {"AGENT_RESUBMIT": resubmit} if resubmit else {}
    run_id = world.prefect.add_flow_run(run_config={"type": "ECSRun", "image": "flows:1", "env": env})
    world.tick()
    (arn,) = world.living_tasks(run_id)
    return run_id, arn


def begin(world: World, run_id: str, arn: str) -> None:
    """Let the flow begin in its task."""
    world.ecs.advance(arn, "RUNNING")
    world.prefect.set_state(run_id, {"type": "Running"})


def launch_and_begin(world: World, resubmit: str | None = None) -> tuple[str, str]:
    """A flow run that runs, and its task."""
    run_id, arn = launch(world, resubmit)
    begin(world, run_id, arn)
    return run_id, arn


def tick_again(world: World, *after_seconds: float) -> None:
    """Scheduled ticks, each that much later."""
    for seconds in after_seconds:
        world.clock.turn(seconds)
        world.tick()


def changes(counts: Mapping[str, int] | None) -> dict[str, int]:
    """What of a handler's counts has changed a flow run."""
    return {end: count for end, count in (counts or {}).items() if end != "left_alone"}


def state_of(world: World, run_id: str) -> str:
    """The name of the flow run's state."""
    return str(world.prefect.flow_run(run_id)["state"])


def tasks_of(world: World, run_id: str) -> list[dict[str, Any]]:
    """All tasks that were ever started for the flow run."""
    return [task for task in world.ecs.tasks() if task.get("startedBy") == f"prefect/{run_id}"]


def keys_of(world: World, run_id: str) -> list[str]:
    """The launch keys of these tasks."""
    tags = [{tag["key"]: tag["value"] for tag in task["tags"]} for task in tasks_of(world, run_id)]
    return [each["prefect-agent:launch-key"] for each in tags]


def assert_failed_with(world: World, run_id: str, *parts: str, at: int | None = None) -> None:
    """The run is Failed once, its message has all these parts, and the same stands in its log."""
    row = world.prefect.flow_run(run_id)
    assert row["state"] == "Failed", f"cut at effect {at}"
    assert [part for part in parts if part not in row["state_message"]] == []
    assert [state["state"] for state in world.prefect.states(run_id)].count("Failed") == 1, f"cut at effect {at}"
    errors = [line["message"] for line in world.prefect.logs(run_id) if line["level"] == "ERROR"]
    assert row["state_message"] in errors, f"cut at effect {at}"
