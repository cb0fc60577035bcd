"""`EcsServer`: the double as tests and demo hold it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, NamedTuple

from tests.doubles.ecs import clusters, definitions, life, tasks
from tests.doubles.ecs.faults import Fault, Faults
from tests.doubles.ecs.protocol import Refusal, read_input, write_output
from tests.doubles.ecs.store import Clock, Row, Store, SystemClock
from tests.doubles.ecs.throttles import Throttles
from tests.doubles.ecs.transport import CutConnection, serve

ACTIONS: Mapping[str, Callable[[Store, Row], Row]] = {
    "CreateCluster": clusters.create_cluster,
    "DeleteTaskDefinitions": definitions.delete,
    "DeregisterTaskDefinition": definitions.deregister,
    "DescribeClusters": clusters.describe_clusters,
    "DescribeTaskDefinition": definitions.describe,
    "DescribeTasks": tasks.describe,
    "ListClusters": clusters.list_clusters,
    "ListTagsForResource": clusters.list_tags,
    "ListTaskDefinitions": definitions.list_definitions,
    "ListTasks": tasks.list_tasks,
    "RegisterTaskDefinition": definitions.register,
    "RunTask": tasks.run,
    "StopTask": tasks.stop,
    "TagResource": clusters.tag_resource,
}

RunContainer = Callable[[Row], int]


class Call(NamedTuple):
    """A call that reached the server, whatever became of it."""

    action: str
    parameters: Row
    at: datetime


class EcsServer:
    """An ECS API at `url`, a context manager, with the named `clusters` in it.

    `clock` is its time. `round_trip_seconds` passes before each answer. `run_container` is called in a thread of its
    own for each new task, which has then reached RUNNING; it gets the task with its `taskDefinition` and returns the
    exit code, with which the task stops. What calls must get past are `faults`, `throttles`, `forbidden` (actions that
    IAM refuses) and `passable_roles` (None for all).
    """

    def __init__(
        self,
        clock: Clock | None = None,
        round_trip_seconds: float = 0.0,
        clusters: Iterable[str] = ("default",),
        region: str = "us-east-1",
        account: str = "123456789012",
        run_container: RunContainer | None = None,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.round_trip_seconds = round_trip_seconds
        self.faults = Faults()
        self.throttles = Throttles(self.clock)
        self.region = region
        self._store = Store(self.clock, region, account)
        self._calls: list[Call] = []
        self._run_container = run_container
        self._containers: list[threading.Thread] = []
        self._closing = threading.Event()
        for name in clusters:
            ACTIONS["CreateCluster"](self._store, {"clusterName": name})
        self._http = serve(self)
        self.url = self._http.url

    def __enter__(self) -> EcsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the containers that run, then stop serving and end every connection."""
        for container in self._containers:
            container.join()
        self._closing.set()
        self._http.stop()

    # what the transport asks

    def answer(self, action: str, body: bytes) -> tuple[int, Any]:
        """Status and body of one call. Raises CutConnection."""
        self._closing.wait(self.round_trip_seconds)
        try:
            parameters = read_input(action, body)
            self._calls.append(Call(action, parameters, self.clock.now()))
            fault = self.faults.take(action, parameters)
            return self._fault_answer(fault, action, parameters) or (200, self._act(action, parameters, fault))
        except Refusal as refusal:
            return refusal.status, refusal.body

    def _fault_answer(self, fault: Fault | None, action: str, parameters: Row) -> tuple[int, Any] | None:
        if fault is None:
            return None
        if fault.then == "cut_before":
            raise CutConnection
        if fault.then == "delay":
            self._closing.wait(fault.seconds)
        elif fault.then == "status":
            status = fault.status or 503
            return status, fault.body or Refusal(fault.code, fault.message, status).body
        elif fault.then == "failure":
            failure = {"arn": self._store.arn("container-instance", "default/0"), "reason": fault.reason}
            return 200, write_output(action, {"tasks": [], "failures": [{**failure, "detail": fault.detail}]})
        fault.refuse()
        return None

    def _act(self, action: str, parameters: Row, fault: Fault | None) -> Any:
        if action not in ACTIONS:
            raise Refusal("UnknownOperationException", f"This double does not know {action}")
        self.throttles.pass_or_refuse(action)
        with self._store.lock:
            if action != "RunTask":
                self._store.allow(action, "*")
            before = len(self._store.tasks)
            output = write_output(action, ACTIONS[action](self._store, parameters))
            begun = list(islice(reversed(self._store.tasks), len(self._store.tasks) - before))
        for arn in begun:
            self._begin(arn)
        if fault and fault.then == "cut_after":
            raise CutConnection
        return output

    def _begin(self, arn: str) -> None:
        if self._run_container:
            container = threading.Thread(
                target=self._run, args=(arn, self._run_container), name=f"container {arn[-8:]}"
            )
            self._containers.append(container)
            container.start()

    def _run(self, arn: str, run_container: RunContainer) -> None:
        self.advance(arn, "RUNNING")
        task = self.task(arn)
        code = run_container({**task, "taskDefinition": self.definition(task["taskDefinitionArn"])})
        if self.task(arn)["lastStatus"] != "STOPPED":
            self.stop(arn, exit_code=code)

    # what a test arranges

    @property
    def forbidden(self) -> set[str]:
        """The actions that IAM refuses; add to it or take away."""
        return self._store.forbidden

    @property
    def passable_roles(self) -> set[str] | None:
        """The roles that may be handed to a task; None when all may."""
        return self._store.passable_roles

    @passable_roles.setter
    def passable_roles(self, roles: Iterable[str] | None) -> None:
        self._store.passable_roles = None if roles is None else set(roles)

    def on_event(self, listener: Callable[[Row], object]) -> None:
        """Hand every later event to `listener` too, while the state is locked: it must not call back."""
        self._store.listeners.append(listener)

    def advance(self, task_arn: str, status: str) -> None:
        """Lead a task through its life up to `status`. Raises ValueError when it is past it, KeyError when unknown."""
        with self._store.lock:
            life.advance(self._store, self._store.tasks[task_arn], status)

    def stop(
        self,
        task_arn: str,
        stop_code: str = "EssentialContainerExited",
        reason: str = "Essential container in task exited",
        exit_code: int | None = 0,
        exit_codes: Mapping[str, int] | None = None,
        container_reason: str | None = None,
    ) -> None:
        """Let a task stop, after it ran unless `stop_code` is TaskFailedToStart.

        All containers exit with `exit_code`, or each with its own of `exit_codes`; None is no code at all.
        """
        with self._store.lock:
            task = self._store.tasks[task_arn]
            exits = {container["name"]: exit_code for container in task["containers"]} | dict(exit_codes or {})
            life.end(self._store, task, stop_code, reason, exits, container_reason)

    def deactivate_cluster(self, name: str) -> None:
        """Leave a cluster as one that was deleted a moment ago: known, and INACTIVE."""
        with self._store.lock:
            self._store.clusters[name]["status"] = "INACTIVE"

    # what a test looks at

    @property
    def calls(self) -> list[Call]:
        """The calls that reached the server, in order."""
        return list(self._calls)

    def count(self, action: str) -> int:
        """How often an action was called, whatever became of it."""
        return sum(call.action == action for call in self._calls)

    def forget_calls(self) -> None:
        """Begin the list of calls anew."""
        self._calls.clear()

    @property
    def events(self) -> list[Row]:
        """One "ECS Task State Change" for each status that a task entered, as EventBridge has them."""
        with self._store.lock:
            return copy.deepcopy(self._store.events)

    def tasks(self) -> list[Row]:
        """All tasks ever started with their tags, oldest first; times are datetimes."""
        with self._store.lock:
            return [self.task(arn) for arn in self._store.tasks]

    def task(self, task_arn: str) -> Row:
        """A copy of one task with its tags. Raises KeyError."""
        with self._store.lock:
            return copy.deepcopy({**self._store.tasks[task_arn], "tags": self._store.tags[task_arn]})

    def definitions(self) -> list[Row]:
        """All task definitions, INACTIVE ones too, by family and revision."""
        with self._store.lock:
            return copy.deepcopy([row for _, rows in sorted(self._store.definitions.items()) for row in rows])

    def definition(self, name: str) -> Row:
        """A copy of a task definition by family, `family:revision` or ARN. Raises KeyError."""
        with self._store.lock:
            row = self._store.definition(name)
            if row is None:
                raise KeyError(name)
            return copy.deepcopy(row)
