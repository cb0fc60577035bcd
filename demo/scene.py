"""The flow runs of the demo: one of each kind, and what must become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from demo.parts import Parts

IMAGE = "prefecthq/prefect:1.4.1"
SCARCE_IMAGE = "team/needs-much:1"
MISSING_IMAGE = "team/not-there:1"
MISSING_DEFINITION = "arn:aws:ecs:us-east-1:123456789012:task-definition/nightly:7"
DUE_SECONDS = 3
RETRY_AGE_SECONDS = 10
"""For how long the retry has been due; while it is younger than 3 s it is left to the flow run's own process."""

NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
NO_IMAGE = f"CannotPullContainerError: pull image manifest has been retried 1 time(s): {MISSING_IMAGE}: not found"

ON_KUBERNETES = "Submitted to kubernetes:main/flows by agent 'demo-k8s' as {run_id}"
ECS_RUN = {"type": "ECSRun", "image": IMAGE, "cpu": "512", "memory": "1024"}
JOB_RUN = {"type": "KubernetesRun", "image": IMAGE, "cpu_request": "500m", "memory_request": "1Gi"}
DOCKER_STORAGE = {
    "type": "Docker",
    "registry_url": "registry.example.com",
    "image_name": "sales",
    "image_tag": "2026-11-20",
}


@dataclass(frozen=True)
class Kind:
    """One flow run of the scene, named for its kind; `state`, `has_task` and `says` (in its message) must come of it.

    A Job is a task too. `retries` makes it a Running run with a task run whose retry is due. Once it is launched its
    task fails to start for the reason `fails_to_start`, or somebody cancels it while it runs: then its task must stop.
    """

    name: str
    state: str
    has_task: bool
    says: str = ""
    labels: tuple[str, ...] = ("dev",)
    run_config: Mapping[str, Any] | None = None
    storage: Mapping[str, Any] | None = None
    due_seconds: float = 0.0
    retries: bool = False
    fails_to_start: str = ""
    is_cancelled: bool = False

    @property
    def must_stop(self) -> bool:
        """Whether its task must have stopped in the end."""
        return bool(self.fails_to_start) or self.is_cancelled


@dataclass(frozen=True)
class Scheduled:
    """A flow run that was created, and the task run that it retries."""

    kind: Kind
    run_id: str
    task_run_id: str = field(default="")


IN_THE_TICK = (
    Kind("ECSRun", "Submitted", True, "as {run_id}", run_config=ECS_RUN),
    Kind("ECSRun, two labels", "Submitted", True, "as {run_id}", labels=("dev", "etl"), run_config=ECS_RUN),
    Kind("UniversalRun", "Submitted", True, "as {run_id}", run_config={"type": "UniversalRun", "env": {"A": "1"}}),
    Kind("no run config", "Submitted", True, "as {run_id}"),
    Kind("Docker storage", "Submitted", True, "as {run_id}", run_config={"type": "ECSRun"}, storage=DOCKER_STORAGE),
    Kind(f"due in {DUE_SECONDS} s", "Submitted", True, "as {run_id}", run_config=ECS_RUN, due_seconds=DUE_SECONDS),
    Kind("retry of a task", "Running", True, "as {run_id}", run_config=ECS_RUN, retries=True),
    Kind("KubernetesRun", "Submitted", True, ON_KUBERNETES, labels=("k8s",), run_config=JOB_RUN),
    Kind("UniversalRun, k8s", "Submitted", True, ON_KUBERNETES, labels=("k8s",), run_config={"type": "UniversalRun"}),
    Kind("DockerRun", "Failed", False, "only `ECSRun` is supported", run_config={"type": "DockerRun"}),
    Kind(
        "unknown definition",
        "Failed",
        False,
        MISSING_DEFINITION,
        run_config={"type": "ECSRun", "task_definition_arn": MISSING_DEFINITION},
    ),
    Kind(
        "no capacity",
        "Scheduled",
        False,
        "Given back, to be tried again in",
        run_config={**ECS_RUN, "image": SCARCE_IMAGE},
    ),
    Kind("another's label", "Scheduled", False, labels=("prod",), run_config=ECS_RUN),
    Kind("no label", "Scheduled", False, labels=(), run_config=ECS_RUN),
    Kind(
        "image not there",
        "Failed",
        True,
        f"{NO_IMAGE} (check the image's name",
        run_config={**ECS_RUN, "image": MISSING_IMAGE},
        fails_to_start=NO_IMAGE,
    ),
    Kind(
        "no room to start",
        "Scheduled",
        True,
        "Launched again (1 of 3)",
        run_config=ECS_RUN,
        fails_to_start=NO_CAPACITY,
    ),
    Kind(
        "cancelled",
        "Cancelled",
        True,
        "UserInitiated; The flow run was cancelled",
        run_config=ECS_RUN,
        is_cancelled=True,
    ),
)
"""There before the scheduled ticks of both stages."""

BETWEEN_TICKS = (Kind("made between ticks", "Submitted", True, "as {run_id}", run_config=ECS_RUN),)
"""Created after the scheduled tick, and served by the one that a wake-up starts, on ECS."""


def create(parts: Parts, kinds: tuple[Kind, ...]) -> list[Scheduled]:
    """A flow run of each kind."""
    now = datetime.now(UTC)
    return [_create(parts, kind, now) for kind in kinds]


def _create(parts: Parts, kind: Kind, now: datetime) -> Scheduled:
    prefect = parts.prefect
    run_id = prefect.add_flow_run(
        prefect.add_flow(kind.name, storage=kind.storage),
        run_config=kind.run_config,
        labels=list(kind.labels),
        name=kind.name,
        start_time=now + timedelta(seconds=kind.due_seconds),
        state={"type": "Running"} if kind.retries else None,
    )
    if not kind.retries:
        return Scheduled(kind, run_id)
    retry = {"type": "Retrying", "run_count": 2, "start_time": (now - timedelta(seconds=RETRY_AGE_SECONDS)).isoformat()}
    return Scheduled(kind, run_id, prefect.add_task_run(run_id, retry))
