"""The life of a task, from PROVISIONING to STOPPED, and the events that tell of it."""

from __future__ import annotations

import copy
import uuid
from datetime import datetime
from typing import Any

from tests.doubles.ecs.store import Row, Store

STATUSES = ("PROVISIONING", "PENDING", "RUNNING", "DEPROVISIONING", "STOPPED")


def enter(store: Store, task: Row, status: str) -> None:
    """Give a task its next status, with the times and events that go with it."""
    now = store.clock.now()
    task["lastStatus"] = status
    task["version"] += 1
    if status == "RUNNING":
        task.update(startedAt=now, connectivity="CONNECTED")
    elif status == "STOPPED":
        task.update(stoppedAt=now, executionStoppedAt=now)
    for container in task["containers"]:
        container["lastStatus"] = {"RUNNING": "RUNNING", "STOPPED": "STOPPED"}.get(status, container["lastStatus"])
    event = state_change(store, task)
    store.events.append(event)
    for listener in store.listeners:
        listener(copy.deepcopy(event))


def advance(store: Store, task: Row, status: str) -> None:
    """Lead a task through all statuses up to `status`; raises ValueError when it is past it."""
    reached, wanted = STATUSES.index(task["lastStatus"]), STATUSES.index(status)
    if wanted <= reached:
        raise ValueError(f"{task['taskArn']} is {task['lastStatus']} already")
    for each in STATUSES[reached + 1 : wanted + 1]:
        if each == "DEPROVISIONING" and task["desiredStatus"] != "STOPPED":
            begin_stop(store, task, "EssentialContainerExited", "Essential container in task exited")
        else:
            enter(store, task, each)


def begin_stop(store: Store, task: Row, stop_code: str, reason: str) -> None:
    """A task is to stop from now on, for this reason."""
    now = store.clock.now()
    task.update(desiredStatus="STOPPED", stopCode=stop_code, stoppedReason=reason, stoppingAt=now)
    enter(store, task, "DEPROVISIONING")


def end(store: Store, task: Row, stop_code: str, reason: str, exits: Row, container_reason: str | None) -> None:
    """A task stops; a reason why it is to stop that was given earlier stays. `exits` are exit codes by container.

    One that never ran (`TaskFailedToStart`) goes from where it is straight to its end, without exit codes.
    """
    if stop_code != "TaskFailedToStart" and task["desiredStatus"] == "RUNNING" and task["lastStatus"] != "RUNNING":
        advance(store, task, "RUNNING")
    if task["desiredStatus"] != "STOPPED":
        begin_stop(store, task, stop_code, reason)
    for container in task["containers"]:
        code = exits.get(container["name"]) if stop_code != "TaskFailedToStart" else None
        container.update({} if code is None else {"exitCode": code})
        container.update({"reason": container_reason} if container_reason else {})
    enter(store, task, "STOPPED")


def state_change(store: Store, task: Row) -> Row:
    """The EventBridge event of the status that a task has now. Tags are not part of it."""
    now = store.clock.now()
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "ECS Task State Change",
        "source": "aws.ecs",
        "account": store.account,
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": store.region,
        "resources": [task["taskArn"]],
        "detail": _as_json({**task, "updatedAt": now}),
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return value
