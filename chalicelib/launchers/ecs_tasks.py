"""The tasks that ECS knows: found, looked at, listed and stopped."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from chalicelib.builders.ecs_defaults import EcsSettings
from chalicelib.builders.ecs_launch import AGENT_TAG, STARTED_BY, tag_text
from chalicelib.builders.work_pool_container import RUN_LABEL
from chalicelib.errors import LaunchError, LaunchForbidden, LaunchUnknown, shorten
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

_TASK_ARN = re.compile(r"arn:.+:task/([^/]+/)?([0-9a-f]{32}|[0-9a-f-]{36})")
"""For any other ECS refuses the whole request: `taskId length should be one of [32,36]`."""


class EcsTasks:
    """The tasks of flow runs on the agent's own cluster, and on others that runs may name."""

    def __init__(self, clients: AwsClients, settings: EcsSettings) -> None:
        self._clients = clients
        self._settings = settings
        self._known: frozenset[str] = frozenset()

    @property
    def place(self) -> Place:
        """The agent's own cluster."""
        return Place("ecs", self._settings.own_cluster)

    @property
    def _clusters(self) -> list[str]:
        """Where tasks of this agent may be, each once: as the settings spell it, else as it was first seen."""
        # The cluster `default` of somebody who names his clusters in his work pools is none that one may look into.
        is_pools = self._settings.names_clusters and not self._settings.cluster
        own = (*(() if is_pools else (self.place.name,)), *self._settings.allowed_clusters)
        return sorted({_name_of(cluster): cluster for cluster in (*sorted(self._known), *own)}.values())

    def _learn(self, clusters: Iterable[str]) -> None:
        self._known |= frozenset(clusters)

    def _text(self, cluster: str, arn: str) -> str:
        return f"Task {cluster}::{arn}" if self._settings.names_clusters else f"Task {arn}"

    def _read(self, text: str) -> tuple[str, str]:
        """The cluster and the ARN that a text names. The ARN goes before, but one of the old form names no cluster."""
        named, _, arn = text.removeprefix("Task ").rpartition("::")
        of_arn = _cluster_of(arn)
        return named if named and _name_of(named) == _name_of(of_arn or named) else of_arn or self.place.name, arn

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        """The launches (`Task arn:...`) that these messages of EventBridge say have ended; what is not ours is left."""
        spelt = {_name_of(cluster): cluster for cluster in self._clusters}
        # Of which clusters a work pool's events come is a matter of the rule that sends them.
        stopped = stopped_tasks(bodies, None if self._settings.names_clusters else spelt)
        return [self._text(spelt.get(_name_of(cluster), cluster), arn) for arn, cluster in stopped.items()]

    def find_alive(self, run_id: str) -> Sighting | None:
        """The task of this flow run that has not stopped, in any cluster that runs may name; None when there is none.

        Raises LaunchUnknown when ECS cannot or will not say: that refusal says nothing of the run.
        """
        try:
            for cluster in self._clusters:
                for task in self._list(cluster, startedBy=STARTED_BY + run_id):
                    if task.get("lastStatus") != "STOPPED":
                        return read_task(task, self._text(cluster, task["taskArn"]))
        except LaunchError as error:
            raise LaunchUnknown(str(error)) from error
        return None

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What ECS says of these tasks, a request for each 100 of a cluster; nothing of those that are no flow runs'.

        What is called like no task has that for its trouble, and those of a cluster that cannot be asked have theirs;
        raises LaunchError when none can.
        """
        by_place: dict[tuple[str, str], dict[str, str]] = {}
        seen: list[Sighting] = []
        for text in texts:
            cluster, arn = self._read(text)
            if _TASK_ARN.fullmatch(arn):
                # A request with the ARN of another account or region would be refused as a whole.
                by_place.setdefault((cluster, arn.rpartition("/")[0]), {})[arn] = text
            else:
                seen.append(Sighting("", None, text, trouble=f"{shorten(text)} has no ARN of a task"))
        troubles: list[LaunchError] = []
        for (cluster, _), wanted in by_place.items():
            try:
                seen += self._look_in(cluster, wanted)
            except LaunchError as error:
                troubles.append(error)
                seen += [Sighting("", None, text, trouble=str(error)) for text in wanted.values()]
        if troubles and len(troubles) == len(by_place):
            raise troubles[0]
        return seen

    def _look_in(self, cluster: str, texts: Mapping[str, str]) -> list[Sighting]:
        """What ECS says of the tasks of a cluster, by ARN, with the texts that were asked about."""
        # An ARN of the old form may be answered with the new one, of which nobody spoke.
        tasks = [task for task in self._describe(cluster, list(texts)) if _run_id(task) and task["taskArn"] in texts]
        self._learn([cluster] if tasks and self._settings.names_clusters else ())
        return [read_task(task, texts[task["taskArn"]]) for task in tasks]

    def list_alive(self) -> list[Sighting]:
        """All tasks that an agent of this name has launched and that have not stopped. Raises LaunchError."""
        name = tag_text(self._settings.agent_name)
        tasks = [(cluster, task) for cluster in self._clusters for task in self._list(cluster)]
        ours = [(cluster, task) for cluster, task in tasks if _tags(task).get(AGENT_TAG) == name]
        alive = [(cluster, task) for cluster, task in ours if task.get("lastStatus") != "STOPPED"]
        return [read_task(task, self._text(cluster, task["taskArn"])) for cluster, task in alive]

    def stop(self, sighting: Sighting, reason: str) -> None:
        """Have ECS stop the task: SIGTERM, and SIGKILL after the container's `stopTimeout`. Raises LaunchError."""
        cluster, arn = self._read(sighting.text)
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


def read_task(task: Document, text: str) -> Sighting:
    """What the description of a flow run's task says, of which others speak as `text`."""
    status = task.get("lastStatus")
    return Sighting(
        run_id=_run_id(task),
        key=_tags(task).get(LAUNCH_KEY_TAG),
        text=text,
        is_running=status == "RUNNING",
        stop=read_stop(task) if status == "STOPPED" else None,
    )


def _run_id(task: Document) -> str:
    """The flow run of a task, also of an official worker's, which no `startedBy` tells; "" where it has none."""
    started_by = str(task.get("startedBy"))
    is_ours = started_by.startswith(STARTED_BY)
    return started_by.removeprefix(STARTED_BY) if is_ours else _tags(task).get(RUN_LABEL, "")


def _tags(task: Document) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in task.get("tags", ())}


def _name_of(cluster: str) -> str:
    """The name of a cluster that is given by name or ARN."""
    return cluster.rpartition("/")[2]


def _cluster_of(arn: str) -> str:
    """The cluster that a task's ARN names; "" for one of the old form."""
    return arn.split("/")[1] if arn.count("/") == 2 else ""
