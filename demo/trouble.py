"""What goes wrong with ECS's tasks in the demo, and who cancels what."""

from __future__ import annotations

import json
from collections.abc import Iterable

from demo.parts import Parts
from demo.scene import NO_CAPACITY, SCARCE_IMAGE, Scheduled

SIGTERM_EXIT_CODE = 143


def let_capacity_run_out(parts: Parts) -> None:
    """From now on ECS has no room for tasks of the scarce image."""
    family = "prefect-" + SCARCE_IMAGE.rsplit("/", 1)[-1].replace(":", "-")
    parts.ecs.faults.add(
        when=lambda action, asked: action == "RunTask" and family in asked["taskDefinition"],
        then="failure",
        times=None,
        reason=NO_CAPACITY,
    )


def befall(parts: Parts, runs: Iterable[Scheduled]) -> None:
    """Let happen to the launched runs what the scene has for them."""
    for run in runs:
        for task in parts.tasks_of(run.run_id):
            if run.kind.fails_to_start:
                parts.ecs.stop(task["taskArn"], "TaskFailedToStart", run.kind.fails_to_start)
            if run.kind.is_cancelled:
                parts.ecs.advance(task["taskArn"], "RUNNING")
                parts.prefect.set_state(run.run_id, {"type": "Running"})
                parts.prefect.cancel(run.run_id)


def end_what_is_to_stop(parts: Parts) -> None:
    """As ECS does some seconds after StopTask."""
    for task in parts.ecs.tasks():
        if task["desiredStatus"] == "STOPPED" and task["lastStatus"] != "STOPPED":
            parts.ecs.stop(task["taskArn"], exit_code=SIGTERM_EXIT_CODE)


def stop_events(parts: Parts) -> list[str]:
    """The messages in which EventBridge tells which tasks have stopped."""
    return [json.dumps(event) for event in parts.ecs.events if event["detail"]["lastStatus"] == "STOPPED"]
