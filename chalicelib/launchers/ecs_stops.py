"""Why an ECS task has stopped, read from its description (pure): whether that passes, and what to do about it."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Container, Iterable
from typing import Any

from chalicelib.builders.ecs_launch import STARTED_BY
from chalicelib.builders.flow_container import FLOW_CONTAINER
from chalicelib.errors import FOREIGN_TEXT_LIMIT, LaunchDeferred, LaunchError, LaunchRejected, shorten
from chalicelib.flow_runs import Document
from chalicelib.sightings import Stop

LOGGER = logging.getLogger(__name__)

PASSING_STARTS = (
    r"RESOURCE:|Capacity is unavailable|[Rr]ate exceeded|toomanyrequests|Throttling|RequestLimitExceeded|"
    r"[Tt]ime-?out waiting for (network interface|EphemeralStorage)|InternalError|Service ?Unavailable|"
    r"Task provisioning timed out|Insufficient capacity"
)
"""Reasons for which a task never ran that are no fault of the run."""

RECLAIMED = (
    r"^(SpotInterruption|TerminationNotice)|Spot Task was interrupted|Host EC2|"
    r"performing maintenance on the underlying infrastructure"
)
"""Reasons for which the machine below a task was taken away, whether it ran or not."""

HINTS: tuple[tuple[str, str], ...] = (
    (RECLAIMED, "the machine was taken away; AGENT_RESUBMIT=running in the run's env launches it again by itself"),
    (r"CannotPull\w*", "check the image's name, the execution role's rights and the subnets' way to the registry"),
    (
        r"ResourceInitializationError.*secret|unable to (pull|retrieve) secrets|retrieve ecr registry auth",
        "check that the execution role may read it, and that the subnets reach the service",
    ),
    (r"network interface", "check that the subnets have addresses left"),
    (PASSING_STARTS, "AWS had no room or was too busy; more subnets or zones help"),
    (r"OutOfMemory", "it needs more memory: raise `memory` in the run config or the job variables"),
    (r"CannotStartContainer|exit code 12[67]\b", "the container's command cannot be run: check image and command"),
    (r"exit code 137\b", "it was killed, most often for want of memory, or when it did not end in time"),
    (r"exit code 143\b|^UserInitiated", "somebody or something stopped the task"),
    (r"exit code", "look at the container's own log"),
)
"""What to do, by what the reasons say; the first that fits."""

READ_LENGTH = 4096
"""How much of a reason is read; AWS documents 1,024 characters for a container's, and no limit for a task's."""

_TOLD = ("PREFECT__CONTEXT__FLOW_RUN_ID", "PREFECT__FLOW_RUN_ID")
"""The variables in which a container is told its flow run, by generation of Prefect's API."""

_DID_NOTHING = "its command ended before the flow run began: check that the image runs Prefect's command"


def read_stop(task: Document) -> Stop:
    """How a stopped task has ended, out of its description by DescribeTasks."""
    containers = task.get("containers", ())
    # Sidecars are killed when the flow's container ends, so their exit codes say nothing of the flow.
    names = _flow_containers(task)
    flows = [container for container in containers if container.get("name") in names] or containers
    exit_codes = [container.get("exitCode") for container in flows]
    has_run = task.get("startedAt") is not None or any(each.get("exitCode") is not None for each in containers)
    # What it is about may stand behind the part that is shown.
    of_flow, whole = _tell(task, flows, READ_LENGTH, READ_LENGTH), _tell(task, containers, READ_LENGTH, READ_LENGTH)
    passes = bool(re.search(RECLAIMED, whole)) or (not has_run and bool(re.search(PASSING_STARTS, whole)))
    went_well = bool(exit_codes) and all(code == 0 for code in exit_codes)
    hints = (hint for text in (of_flow, whole) for pattern, hint in HINTS if re.search(pattern, text))
    hint = _DID_NOTHING if went_well else next(hints, "look at the stopped task in ECS")
    reason = f"Task {task['taskArn']} has stopped: {_tell(task, containers)} ({hint})"
    return Stop(reason, has_run, went_well, passes)


def _flow_containers(task: Document) -> set[str]:
    """The names of the containers that were told which flow run they are; a description may come without overrides."""
    overrides = task.get("overrides", {}).get("containerOverrides", ())
    told = {each.get("name") for each in overrides for entry in each.get("environment", ()) if entry["name"] in _TOLD}
    return told or {FLOW_CONTAINER}


def _tell(
    task: Document, containers: Iterable[Document], reason_limit: int = FOREIGN_TEXT_LIMIT, container_limit: int = 120
) -> str:
    """What ECS says of a stop, with so many characters of its reason and of each container's."""
    reason = str(task.get("stoppedReason") or "no reason given")
    parts = [str(task.get("stopCode") or "no stop code"), shorten(reason, reason_limit)]
    for container in containers:
        ended = [f"exit code {container['exitCode']}"] if container.get("exitCode") is not None else []
        ended += [shorten(container["reason"], container_limit)] if container.get("reason") else []
        parts += [f"container {container.get('name')}: {', '.join(ended)}"] if ended else []
    return "; ".join(parts)


def answer_of_stop(task: Document) -> LaunchError:
    """The answer that a task is which a launch key has started and which has stopped: for now if that passes."""
    stop = read_stop(task)
    return LaunchDeferred(stop.reason) if stop.passes and not stop.has_run else LaunchRejected(stop.reason)


def stopped_tasks(bodies: Iterable[str], clusters: Container[str] | None = None) -> dict[str, str]:
    """The ARNs that "ECS Task State Change" events say have stopped, with that of their cluster: those of flow runs.

    `clusters` are the names of those that count; None is every one. `bodies` are the messages as EventBridge sends
    them. What is no such event is logged and left out.
    """
    stopped: dict[str, str] = {}
    for body in bodies:
        try:
            detail: Any = json.loads(body)["detail"]
            cluster_arn, arn = str(detail["clusterArn"]), str(detail["taskArn"])
            cluster = cluster_arn.rpartition("/")[2]
            is_there = (clusters is None or cluster in clusters) and arn.split("/")[1:-1] in ([], [cluster])
            is_ours = is_there and str(detail.get("startedBy")).startswith(STARTED_BY)
            stopped |= {arn: cluster_arn} if is_ours and detail["lastStatus"] == "STOPPED" else {}
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            LOGGER.error("A message is left out that is no event of ECS: %r", error)
    return stopped
