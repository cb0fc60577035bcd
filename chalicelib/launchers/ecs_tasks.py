"""The tasks that ECS knows: found, looked at, listed and stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_launch import AGENT_TAG, STARTED_BY, tag_text
from chalicelib.errors import LaunchError, LaunchForbidden, LaunchUnknown
from chalicelib.flow_runs import Document, Place
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.aws_answers import answers
from chalicelib.launchers.ecs_stops import answer_of_stop, read_stop, stopped_tasks
from chalicelib.sightings import Sighting

LOGGER = logging.getLogger(__name__)

LAUNCH_KEY_TAG = "prefect-agent:launch-key"
"""The tag of a task that says which claim it was launched for."""

DESCRIBE_LIMIT = 100
"""How many tasks one DescribeTasks takes: https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html"""


class EcsTasks:
    """The tasks of flow runs on the agent's own cluster, and on others that runs may name."""

    def __init__(self, clients: AwsClients, defaults: EcsDefaults) -> None:
        self._clients = clients
        self._defaults = defaults

    @property
    def place(self) -> Place:
        """The agent's own cluster."""
        return Place("ecs", self._defaults.cluster or self._defaults.run_task_kwargs.get("cluster") or "default")

    @property
    def _clusters(self) -> list[str]:
        return sorted({self.place.name, *self._defaults.allowed_clusters})

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        """The launches (`Task arn:...`) that these messages of EventBridge say have ended; what is not ours is left."""
        return [f"Task {arn}" for arn in stopped_tasks(bodies, {name.rpartition("/")[2] for name in self._clusters})]

    def find_alive(self, run_id: str) -> Sighting | None:
        """The task of this flow run that has not stopped, in any cluster that runs may name; None when there is none.

        Raises LaunchUnknown when ECS cannot or will not say: that refusal says nothing of the run.
        """
        try:
            for cluster in self._clusters:
                for task in self._list(cluster, startedBy=STARTED_BY + run_id):
                    if task.get("lastStatus") != "STOPPED":
                        return read_task(task)
        except LaunchError as error:
            raise LaunchUnknown(str(error)) from error
        return None

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What ECS says of these tasks (`Task arn:...`), a request for each 100 of a cluster; nothing of others.

        Those of a cluster that cannot be asked have that for their trouble; raises LaunchError when none can.
        """
        by_cluster: dict[str, list[str]] = {}
        for text in texts:
            arn = text.removeprefix("Task ")
            # An ARN of the old form does not name its cluster.
            cluster = arn.split("/")[1] if arn.count("/") == 2 else self.place.name
            by_cluster.setdefault(cluster, []).append(arn)
        seen: list[Sighting] = []
        troubles: list[LaunchError] = []
        for cluster, arns in by_cluster.items():
            try:
                seen += [read_task(task) for task in self._describe(cluster, arns) if _is_flow_run(task)]
            except LaunchError as error:
                troubles.append(error)
                seen += [Sighting("", None, f"Task {arn}", trouble=str(error)) for arn in arns]
        if troubles and len(troubles) == len(by_cluster):
            raise troubles[0]
        return seen

    def list_alive(self) -> list[Sighting]:
        """All tasks that an agent of this name has launched and that have not stopped. Raises LaunchError."""
        name = tag_text(self._defaults.agent_name)
        tasks = [task for cluster in self._clusters for task in self._list(cluster)]
        ours = [task for task in tasks if _tags(task).get(AGENT_TAG) == name]
        return [read_task(task) for task in ours if task.get("lastStatus") != "STOPPED"]

    def stop(self, sighting: Sighting, reason: str) -> None:
        """Have ECS stop the task: SIGTERM, and SIGKILL after the container's `stopTimeout`. Raises LaunchError."""
        arn = sighting.text.removeprefix("Task ")
        cluster = arn.split("/")[1] if arn.count("/") == 2 else self.place.name
        with answers(f"StopTask of {arn}"):
            self._clients.ecs().stop_task(cluster=cluster, task=arn, reason=reason)

    def look_after(self, arns: Sequence[str], cluster: str | None = None) -> str:
        """The ARN of the task among these, all launched with one key, that is alive or has run to a good end.

        Raises what its stop is otherwise: LaunchDeferred if it never ran for a reason that passes, else
        LaunchRejected; LaunchUnknown when ECS does not know them (any more) or cannot say.
        """
        try:
            tasks = list(self._describe(cluster or self.place.name, arns))
        except LaunchError as error:
            # A refusal to show the task says nothing of the task.
            raise LaunchUnknown(str(error)) from error
        alive = [task for task in tasks if task["lastStatus"] != "STOPPED"]
        for task in (*alive, *(task for task in tasks if read_stop(task).went_well)):
            return str(task["taskArn"])
        if not tasks:
            raise LaunchUnknown(f"DescribeTasks of {arns[0]}: ECS does not know the task (any more)")
        raise answer_of_stop(tasks[-1])

    @contextmanager
    def _unless_gone(self, cluster: str) -> Iterator[None]:
        """Take a cluster that is gone for one without tasks, as ECS deletes no other; the agent's own must be there."""
        try:
            yield
        except LaunchForbidden as error:
            if cluster == self.place.name or "ClusterNotFoundException" not in str(error):
                raise
            LOGGER.warning("No task is looked for there any more: %s", error)

    def _list(self, cluster: str, **filters: str) -> Iterator[Document]:
        # Without another filter it lists what is meant to run, and startedBy suffers no other filter.
        more: dict[str, str] | None = {}
        with self._unless_gone(cluster):
            while more is not None:
                with answers(f"ListTasks of cluster {cluster}"):
                    page = self._clients.ecs().list_tasks(cluster=cluster, **filters, **more)
                    arns = page["taskArns"]
                yield from self._describe(cluster, arns)
                more = {"nextToken": page["nextToken"]} if page.get("nextToken") else None

    def _describe(self, cluster: str, arns: Sequence[str]) -> Iterator[Document]:
        for begin in range(0, len(arns), DESCRIBE_LIMIT):
            some = list(arns[begin : begin + DESCRIBE_LIMIT])
            described: Sequence[Document] = ()
            with self._unless_gone(cluster), answers(f"DescribeTasks of {some[0]}"):
                described = self._clients.ecs().describe_tasks(cluster=cluster, tasks=some, include=["TAGS"])["tasks"]
            yield from described


def read_task(task: Document) -> Sighting:
    """What the description of a flow run's task says."""
    status = task.get("lastStatus")
    return Sighting(
        run_id=str(task.get("startedBy")).removeprefix(STARTED_BY),
        key=_tags(task).get(LAUNCH_KEY_TAG),
        text=f"Task {task['taskArn']}",
        is_running=status == "RUNNING",
        stop=read_stop(task) if status == "STOPPED" else None,
    )


def _is_flow_run(task: Document) -> bool:
    return str(task.get("startedBy")).startswith(STARTED_BY)


def _tags(task: Document) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in task.get("tags", ())}
