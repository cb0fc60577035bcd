"""Flow runs started as ECS tasks."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from datetime import datetime
from typing import Protocol

from chalicelib.builders.ecs_defaults import EcsSettings
from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.errors import LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown
from chalicelib.flow_runs import Document, FlowRun
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.aws_answers import DefinitionGone, answers, classify_failure
from chalicelib.launchers.ecs_tasks import LAUNCH_KEY_TAG, EcsTasks
from chalicelib.launchers.pacing import Pace, insist
from chalicelib.launchers.task_definitions import TaskDefinitions
from chalicelib.ports import Clock


class TaskBuilder(Protocol):
    """How a flow run becomes a task: the part of launching in which the generations of Prefect's API differ."""

    @property
    def clusters(self) -> Set[str]:
        """Where it has sent flow runs, beside the clusters of the agent's settings."""

    def build(self, run: FlowRun) -> EcsLaunch:
        """The launch request of `run`: a pure function of it and the settings, but for what must be looked up.

        Raises UnsupportedRun, LaunchDeferred when a look-up failed for now, LaunchForbidden when the agent may not make
        it or has no network to run in.
        """


class EcsLauncher(EcsTasks):
    """Starts flow runs as tasks of one cluster, and of others that a run may name. One a process, for all threads."""

    def __init__(
        self, clients: AwsClients, settings: EcsSettings, builder: TaskBuilder, pace: Pace, clock: Clock
    ) -> None:
        super().__init__(clients, settings)
        self._builder = builder
        self._pace = pace
        self._clock = clock
        self._definitions = TaskDefinitions(clients.ecs, settings.agent_name)

    def room(self, seconds: float) -> int:
        """How many launches fit into so many seconds."""
        return self._pace.room(seconds)

    def build(self, run: FlowRun) -> EcsLaunch:
        """The launch request of `run`, as the builder makes it; raises what that raises."""
        # Without a region or credentials nothing could be launched: that is told before the claim.
        self._clients.ecs_once()
        try:
            return self._builder.build(run)
        finally:
            self._learn(self._builder.clusters)

    def launch(self, request: EcsLaunch, key: str, start_until: datetime | None = None) -> str:
        """Start the task and say which it is: `Task arn:...`; the task that `key` has started already is found again.

        Raises LaunchRejected, LaunchDeferred or LaunchUnknown. While ECS says that launches come too fast it is asked
        again, for about 3 s; once more when it says nothing.
        """
        tasks = self._insist(request, key, start_until)
        cluster = request.run_task.get("cluster") or self.place.name
        arns = [str(task["taskArn"]) for task in tasks]
        # Of a task that the key started before and that has stopped since, ECS tells no more than that.
        if any(task.get("lastStatus", "STOPPED") == "STOPPED" for task in tasks):
            return self._text(cluster, self.look_after(arns, cluster))
        return self._text(cluster, arns[0])

    def _insist(self, request: EcsLaunch, key: str, start_until: datetime | None) -> Sequence[Document]:
        """Start, and again where that may help."""

        def mends(error: LaunchError) -> bool:
            if not isinstance(error, DefinitionGone) or not request.definition:
                return False
            # Somebody deregistered it while this process remembered it.
            self._definitions.forget(request.definition)
            return True

        try:
            return insist(lambda: self._run_task(request, key, start_until), self._pace, self._clock, mends)
        except LaunchRejected as refusal:
            if any(_has_name(str(refusal), name) for name in self._settings.own_names()):
                # What the agent itself puts into every request would fail every run.
                raise LaunchForbidden(str(refusal)) from refusal
            raise

    def _run_task(self, request: EcsLaunch, key: str, start_until: datetime | None) -> Sequence[Document]:
        """The tasks that the key stands for. ECS compares all requests of one key, so they must be the same."""
        arn = self._definitions.ensure(request.definition) if request.definition else request.definition_arn
        tags = [*request.run_task.get("tags", ()), {"key": LAUNCH_KEY_TAG, "value": key}]
        parameters = {**request.run_task, "taskDefinition": arn, "clientToken": key, "tags": tags}
        subject = f"RunTask of {arn} in cluster {parameters.get('cluster', 'default')}"
        self._pace.acquire(start_until)
        with answers(subject, LaunchUnknown, self._runs_own(request)):
            return read_answer(self._ask(parameters), subject)

    def _runs_own(self, request: EcsLaunch) -> set[str]:
        """The refusals that are the run's own trouble, as it chose the cluster or the definition itself."""
        if request.run_task.get("cluster", self.place.name) != self.place.name:
            return {"AccessDeniedException", "ClusterNotFoundException"}
        return set() if request.definition else {"AccessDeniedException"}

    def _ask(self, parameters: Document) -> Document:
        client = self._clients.ecs_once()
        try:
            answer: Document = client.run_task(**parameters)
            return answer
        except client.exceptions.ConflictException as error:
            # The key has started tasks with other parameters: the settings or the definition have changed since.
            if not error.response.get("resourceIds"):
                raise
            return {"tasks": [{"taskArn": arn} for arn in error.response["resourceIds"]]}


def _has_name(text: str, name: str) -> bool:
    """Whether a text names just this role, subnet or security group, and not one that is called alike."""
    return bool(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w+=@/…-]|[.,]\w)", text))


def read_answer(answer: Document, subject: str) -> Sequence[Document]:
    """The tasks that an answer of RunTask (HTTP 200) has started; raises the answer that its failures are."""
    if answer.get("tasks"):
        tasks: Sequence[Document] = answer["tasks"]
        return tasks
    for failure in answer.get("failures") or ():
        raise classify_failure(str(failure.get("reason") or ""), subject, str(failure.get("detail") or ""))
    raise LaunchUnknown(f"{subject}: ECS answered with neither a task nor a failure")
