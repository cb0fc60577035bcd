"""What happens inside the tasks of a world: how Prefect's own flow process begins, works, waits and ends, or dies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests

from chalicelib.flow_runs import Document
from tests.doubles.prefect1.recording import Request
from tests.integration.world import World

FINISHED = frozenset({"Success", "Failed", "Cancelled"})
KEY_TAG = "prefect-agent:launch-key"

Death = Mapping[str, Any]

DEATHS: Mapping[str, Death] = {
    "out of memory": {"exit_code": 137, "container_reason": "OutOfMemoryError: Container killed due to memory usage"},
    "exit 1": {"exit_code": 1},
    "exit 0": {"exit_code": 0},
    "reclaimed": {"stop_code": "SpotInterruption", "reason": "Your Spot Task was interrupted.", "exit_code": None},
}
"""How a task that has started may end without its flow having a say."""

FALSE_STARTS: Mapping[str, str] = {
    "no room": "Capacity is unavailable at this time. Please try again later or in a different availability zone",
    "no address": "Timeout waiting for network interface provisioning to complete.",
    "no image": "CannotPullContainerError: pull access denied for flows",
    "no secret": "ResourceInitializationError: unable to pull secrets or registry auth",
}
"""Why a task may never start: the first two reasons pass."""


@dataclass
class Task:
    """A task as its events told of it."""

    arn: str
    run_id: str
    status: str
    is_to_run: bool

    @property
    def lives(self) -> bool:
        """Whether it has not stopped."""
        return self.status != "STOPPED"


class Containers:
    """The tasks of a world and the flow processes in them. `twice` has each moment in which a run had two tasks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tasks: dict[str, Task] = {}
        self.events: list[Document] = []
        self.twice: list[str] = []
        self.working: set[str] = set()
        world.ecs.on_event(self._hear)

    def _hear(self, event: Document) -> None:
        """Called by ECS while it is locked, at the very moment of the change."""
        detail = event["detail"]
        arn, run_id = str(detail["taskArn"]), str(detail.get("startedBy")).removeprefix("prefect/")
        if arn not in self.tasks and (others := [task.arn for task in self.living(run_id) if task.is_to_run]):
            self.twice.append(f"{arn} was started for flow run {run_id} beside {others}")
        status = str(detail["lastStatus"])
        self.tasks[arn] = Task(arn, run_id, status, detail["desiredStatus"] == "RUNNING")
        if status == "STOPPED":
            self.working.discard(arn)
            self.events.append(event)

    def living(self, run_id: str | None = None) -> list[Task]:
        """The tasks that have not stopped, of one flow run or of all."""
        return [task for task in list(self.tasks.values()) if task.lives and run_id in (None, task.run_id)]

    def works(self, run_id: str) -> bool:
        """Whether a process of this flow run is at work in a task that nobody has told to stop."""
        return any(task.is_to_run and task.arn in self.working for task in self.living(run_id))

    def waits_for_retry(self, run_id: str) -> bool:
        """Whether a task run of it is to be tried again."""
        return bool(self._task_run_ids(run_id, {"Retrying", "Scheduled"}))

    def well(self, run_ids: Iterable[str]) -> dict[str, int]:
        """The versions of those of these flow runs that are Running with a process at work."""
        rows = [self.world.prefect.flow_run(run_id) for run_id in run_ids if self.works(run_id)]
        return {row["id"]: row["version"] for row in rows if row["state"] == "Running"}

    # what a process does

    def begin(self, arn: str) -> None:
        """The container starts: its process begins what there is to do for its flow run, or ends at once."""
        task, prefect = self.tasks[arn], self.world.prefect
        if not task.lives or not task.is_to_run or arn in self.working:
            return
        if task.status != "RUNNING":
            self.world.ecs.advance(arn, "RUNNING")
        state = prefect.flow_run(task.run_id)["state"]
        if state in FINISHED | {"Cancelling"}:
            self._confirm_cancellation(task)
            self.world.ecs.stop(arn)
            return
        if state != "Running":
            prefect.set_state(task.run_id, {"type": "Running"})
        for task_run_id in self._task_run_ids(task.run_id, {"Pending", "Submitted", "Retrying", "Scheduled"}):
            prefect.set_task_state(task_run_id, {"type": "Running"})
        self.working.add(arn)

    def end(self, arn: str, state: str) -> None:
        """The process finishes its flow as it sees fit; one that was asked to cancel does that."""
        task = self.tasks[arn]
        if arn not in self.working:
            return
        if not self._confirm_cancellation(task):
            for task_run_id in self._task_run_ids(task.run_id, {"Running", "Retrying", "Submitted", "Scheduled"}):
                self.world.prefect.set_task_state(task_run_id, {"type": state})
            if self.world.prefect.flow_run(task.run_id)["state"] not in FINISHED:
                self.world.prefect.set_state(task.run_id, {"type": state, "message": f"The flow itself: {state}"})
        self.world.ecs.stop(arn)

    def wait_for_retry(self, arn: str, seconds: float, ends: bool) -> None:
        """A task run of the flow is to be tried again later; the process ends meanwhile, or waits in place."""
        task, prefect = self.tasks[arn], self.world.prefect
        if arn not in self.working or prefect.flow_run(task.run_id)["state"] != "Running":
            return
        at = (self.world.clock.now() + timedelta(seconds=seconds)).isoformat()
        for task_run_id in self._task_run_ids(task.run_id, {"Running"}):
            prefect.set_task_state(task_run_id, {"type": "Retrying", "start_time": at, "run_count": 1})
        if ends:
            self.world.ecs.stop(arn)

    def retry_in_place(self, arn: str) -> None:
        """A process that waited for a retry takes it up itself."""
        if arn in self.working and self.world.prefect.flow_run(self.tasks[arn].run_id)["state"] == "Running":
            for task_run_id in self._task_run_ids(self.tasks[arn].run_id, {"Retrying", "Submitted", "Scheduled"}):
                self.world.prefect.set_task_state(task_run_id, {"type": "Running"})

    def die(self, arn: str, how: str) -> None:
        """The task ends without its flow having a say."""
        if self.tasks[arn].lives:
            self.world.ecs.stop(arn, **DEATHS[how])

    def fail_to_start(self, arn: str, why: str) -> None:
        """The task ends before its container was started."""
        if self.tasks[arn].lives and self.tasks[arn].status in ("PROVISIONING", "PENDING"):
            self.world.ecs.stop(arn, "TaskFailedToStart", FALSE_STARTS[why])

    def finish_stopping(self) -> None:
        """What was told to stop has stopped."""
        for task in self.living():
            if not task.is_to_run:
                self.world.ecs.stop(task.arn, exit_code=143 if task.arn in self.working else None)

    def send_heartbeats(self) -> None:
        """Every process that works tells Prefect that it lives, as it does twice a minute."""
        ids = sorted({task.run_id for task in self.living() if task.arn in self.working})
        beat = 'h{}: update_flow_run_heartbeat(input: {{flow_run_id: "{}"}}) {{ success }}'
        if ids:
            self._ask("mutation { " + " ".join(beat.format(i, run_id) for i, run_id in enumerate(ids)) + " }")

    def _confirm_cancellation(self, task: Task) -> bool:
        is_asked = bool(self.world.prefect.flow_run(task.run_id)["state"] == "Cancelling")
        if is_asked:
            self.world.prefect.set_state(task.run_id, {"type": "Cancelled", "message": "The flow itself: Cancelled"})
        return is_asked

    def _task_run_ids(self, run_id: str, states: set[str]) -> list[str]:
        rows = self._ask(f'{{ task_run(where: {{flow_run_id: {{_eq: "{run_id}"}}}}) {{ id state }} }}')["task_run"]
        return [str(row["id"]) for row in rows if row["state"] in states]

    def task_run_ids(self) -> dict[str, list[str]]:
        """The task runs of every flow run."""
        ids: dict[str, list[str]] = defaultdict(list)
        for row in self._ask("{ task_run { id flow_run_id } }")["task_run"]:
            ids[row["flow_run_id"]].append(row["id"])
        return ids

    def _ask(self, query: str) -> Any:
        answer = requests.post(self.world.prefect.url, json={"query": query}, timeout=30).json()
        assert "errors" not in answer, answer
        return answer["data"]


def of_the_agent(request: Request) -> bool:
    """Whether a request comes from the agent rather than from a flow's process: those alone shall meet faults."""
    return "X-Prefect-Core-Version" in request.headers
