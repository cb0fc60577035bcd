"""Flow runs started as ECS tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.builders.ecs_run_task import started_by
from chalicelib.builders.ecs_task import EcsDefaults, build_ecs_launch, needs_network
from chalicelib.builders.run_configs import EcsRun, read_ecs_run
from chalicelib.errors import LaunchError, LaunchUnknown
from chalicelib.flow_runs import Alive, Document, FlowRun, Place
from chalicelib.launchers.ecs_answers import (
    Chosen,
    DefinitionGone,
    Throttled,
    answers,
    answers_to_a_question,
    classify_failure,
    classify_stop,
    ended_well,
)
from chalicelib.launchers.network import DefaultNetwork
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.task_definitions import TaskDefinitions
from chalicelib.ports import Clock

LAUNCH_KEY_TAG = "prefect-agent:launch-key"
"""The tag of a task that says which claim it was launched for."""

WAITS_SECONDS = (0.0, 0.4, 0.9, 1.7)
"""Before each try of one launch: 3 s in all, well within a cadence and a claim's lock."""

TASKS_A_DESCRIPTION = 100
"""Tasks in one DescribeTasks call: the limit in the ECS API reference."""


class EcsClients(Protocol):
    """The AWS clients that launching needs, made when asked for."""

    def ecs(self) -> Any:
        """ECS, for calls that may be repeated freely."""

    def ecs_once(self) -> Any:
        """ECS, for RunTask: one request a call."""

    def ec2(self) -> Any:
        """EC2, for the default VPC."""


class Templates(Protocol):
    """Where the templates are that runs name."""

    def read(self, path: str) -> Document:
        """The template; raises UnsupportedRun or LaunchDeferred."""


@dataclass(frozen=True)
class Started:
    """The tasks that a launch key stands for; `is_known` unless they must be looked at before more can be said."""

    task_arns: tuple[str, ...]
    is_known: bool = True


class EcsLauncher:
    """Starts flow runs as tasks of one cluster, and of others that a run may name. One a process, for all threads."""

    def __init__(
        self, clients: EcsClients, defaults: EcsDefaults, templates: Templates, pace: Pace, clock: Clock
    ) -> None:
        self._clients = clients
        self._defaults = defaults
        self._templates = templates
        self._pace = pace
        self._clock = clock
        self._definitions = TaskDefinitions(clients.ecs)
        self._network = DefaultNetwork(clients.ec2)

    @property
    def place(self) -> Place:
        """The agent's own cluster."""
        return Place("ecs", self._defaults.cluster or self._defaults.run_task_kwargs.get("cluster") or "default")

    def room(self, seconds: float) -> int:
        """How many launches fit into so many seconds."""
        return self._pace.room(seconds)

    def build(self, run: FlowRun) -> EcsLaunch:
        """The launch request of `run`: pure, but for its template, the definition it names and the default VPC.

        Raises UnsupportedRun, LaunchDeferred when a look-up failed for now, LaunchForbidden when the agent may not make
        it or has no network to run in.
        """
        ecs_run = read_ecs_run(run)
        base = self._base_definition(ecs_run)
        network = self._network.find() if needs_network(ecs_run, self._defaults) else None
        return build_ecs_launch(run, ecs_run, base, self._defaults, network)

    def _base_definition(self, ecs_run: EcsRun) -> Document:
        if ecs_run.task_definition_arn:
            return self._definitions.describe(ecs_run.task_definition_arn)
        if ecs_run.task_definition_path:
            return self._templates.read(ecs_run.task_definition_path)
        return ecs_run.task_definition or self._defaults.task_definition

    def launch(self, request: EcsLaunch, key: str) -> str:
        """Start the task and say which it is: `Task <arn>`; the task that `key` has started already is found again.

        Raises LaunchRejected, LaunchDeferred or LaunchUnknown. While ECS says that launches come too fast it is asked
        again, for about 3 s; once more when it says nothing.
        """
        started = self._insist(lambda: self._start(request, key))
        if started.is_known:
            return f"Task {started.task_arns[0]}"
        return f"Task {self.look_at(started.task_arns, request.run_task.get('cluster'))}"

    def _insist(self, start: Callable[[], Started]) -> Started:
        """Start, and again where that may help. After one try that nobody knows the end of, only a yes is believed."""
        doubt: LaunchUnknown | None = None
        refusal: LaunchError | None = None
        for wait_seconds in WAITS_SECONDS:
            self._clock.sleep(wait_seconds)
            try:
                return start()
            except LaunchUnknown as error:
                if doubt:
                    raise
                refusal = doubt = error
            except Throttled as error:
                refusal = doubt or error
            except LaunchError as error:
                if doubt:
                    raise doubt from error
                raise
        raise refusal or LaunchUnknown("ECS was not asked")

    def _start(self, request: EcsLaunch, key: str) -> Started:
        try:
            return self._run_task(request, key)
        except DefinitionGone:
            if request.definition is None:
                raise
        # Somebody deregistered it while this process remembered it.
        self._definitions.forget(request.definition)
        return self._run_task(request, key)

    def _run_task(self, request: EcsLaunch, key: str) -> Started:
        parameters = self._parameters(request, key)
        subject = f"RunTask of {parameters['taskDefinition']} in cluster {request.run_task.get('cluster', 'default')}"
        self._pace.acquire()
        try:
            answer = self._ask(parameters, subject, self._chosen(request))
        except Throttled:
            self._pace.slow_down()
            raise
        return answer if isinstance(answer, Started) else read_answer(answer, subject)

    def _parameters(self, request: EcsLaunch, key: str) -> dict[str, Any]:
        """The whole RunTask request, the same whenever one run is launched with one key: ECS compares them."""
        arn = self._definitions.ensure(request.definition) if request.definition else request.definition_arn
        tags = [*request.run_task.get("tags", ()), {"key": LAUNCH_KEY_TAG, "value": key}]
        return {**request.run_task, "taskDefinition": arn, "clientToken": key, "tags": tags}

    def _chosen(self, request: EcsLaunch) -> Chosen:
        chosen: set[Any] = set() if request.definition else {"definition"}
        own = self.place.name
        return chosen if request.run_task.get("cluster", own) == own else chosen | {"cluster"}

    def _ask(self, parameters: Document, subject: str, chosen: Chosen) -> Document | Started:
        with answers(subject, chosen):
            client = self._clients.ecs_once()
            try:
                answer: Document = client.run_task(**parameters)
                return answer
            except client.exceptions.ConflictException as error:
                # The key has started tasks with other parameters: the settings or the definition have changed since.
                if not error.response.get("resourceIds"):
                    raise
                return Started(tuple(error.response["resourceIds"]), is_known=False)

    def find_alive(self, run: FlowRun) -> Alive | None:
        """The task of this flow run that has not stopped, in any cluster that runs may name; None when there is none.

        Raises LaunchDeferred or LaunchUnknown when ECS cannot say now.
        """
        for cluster in sorted({self.place.name, *self._defaults.allowed_clusters}):
            for task in self._tasks_of(run, cluster):
                if task.get("lastStatus") != "STOPPED":
                    tags = {tag["key"]: tag["value"] for tag in task.get("tags", ())}
                    return Alive(f"Task {task['taskArn']}", tags.get(LAUNCH_KEY_TAG))
        return None

    def _tasks_of(self, run: FlowRun, cluster: str) -> Sequence[Document]:
        with answers_to_a_question(f"ListTasks of cluster {cluster}"):
            client = self._clients.ecs()
            # The only filter that ListTasks takes with startedBy is the cluster, and it lists what is meant to run.
            arns = client.list_tasks(cluster=cluster, startedBy=started_by(run)).get("taskArns", ())
            if not arns:
                return []
            answer = client.describe_tasks(cluster=cluster, tasks=arns[:TASKS_A_DESCRIPTION], include=["TAGS"])
        tasks: Sequence[Document] = answer.get("tasks", ())
        return tasks

    def look_at(self, task_arns: Sequence[str], cluster: str | None = None) -> str:
        """The ARN of the task among these, all launched with one key, that is alive or has run to a good end.

        Raises what its stop is otherwise: LaunchDeferred if it never ran for a reason that passes, else
        LaunchRejected; LaunchUnknown when ECS does not know them (any more) or cannot say.
        """
        subject = f"DescribeTasks of {task_arns[0]}"
        where = {"cluster": cluster} if cluster else {}
        try:
            with answers(subject):
                answer = self._clients.ecs().describe_tasks(tasks=list(task_arns)[:TASKS_A_DESCRIPTION], **where)
        except LaunchError as error:
            # A refusal to show the task says nothing of the task.
            raise LaunchUnknown(str(error)) from error
        tasks = answer.get("tasks", ())
        alive = [task for task in tasks if task["lastStatus"] != "STOPPED"]
        for task in (*alive, *filter(ended_well, tasks)):
            return str(task["taskArn"])
        if not tasks:
            raise LaunchUnknown(f"{subject}: ECS does not know the task (any more)")
        raise classify_stop(tasks[-1])


def read_answer(answer: Document, subject: str) -> Started:
    """What an answer of RunTask (HTTP 200) has started; raises the answer that its failures are."""
    tasks = answer.get("tasks") or ()
    if tasks:
        # Of a task that the key started before and that has stopped since, ECS tells no more than this.
        is_known = all(task.get("lastStatus") != "STOPPED" for task in tasks)
        return Started(tuple(str(task["taskArn"]) for task in tasks), is_known)
    for failure in answer.get("failures") or ():
        raise classify_failure(str(failure.get("reason") or ""), subject, str(failure.get("detail") or ""))
    raise LaunchUnknown(f"{subject}: ECS answered with neither a task nor a failure")
