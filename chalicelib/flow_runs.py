"""Flow runs and the claims on them: what the tick reasons about, whatever API they came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Document = Mapping[str, Any]
"""A JSON object as an API sent it; never changed in place."""

BEGUN = 1 << 32
"""The `begun_version` of a run that has begun, where its API does not number the states: later than any claim."""


@dataclass(frozen=True)
class Flow:
    """The flow that a run belongs to, as far as a launch depends on it."""

    id: str
    name: str
    version: int | None = None
    core_version: str | None = None
    storage: Document = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRun:
    """A task run of a Running flow run whose retry is due (Prefect 1)."""

    id: str
    version: int
    state: Document = field(default_factory=dict)


@dataclass(frozen=True)
class WorkPoolJob:
    """What the job of a work pool's run is configured from (Prefect 3), as the API has it.

    `pool` is the work pool with its `type` and `base_job_template`, `flow_run` the run with its `job_variables`,
    `deployment` that of the run, empty where it has none. `references` holds what placeholders of blocks and variables
    stand for, by the names that `find_references` gives them; what does not exist is left out.
    """

    pool: Document
    flow_run: Document
    deployment: Document = field(default_factory=dict)
    references: Document = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class FlowRun:
    """A flow run that is due, as it was read.

    `state` is the state document as read; `start_time` is when it may start, in UTC; `due_task_runs`, earliest first,
    is non-empty for a retry, whose flow run stays Running; `tenant_id` is the tenant it belongs to (Prefect 1).
    `job` is what it is configured from (Prefect 3), where `version` is a number of no order, another for each state.
    `was_claimed_before`: an earlier claim on it may have left a task that still lives. `begun_version` is the version
    of the latest state that its flow was in once it had begun, 0 while it never has.
    """

    id: str
    name: str
    version: int
    start_time: datetime
    flow: Flow
    state: Document = field(default_factory=dict)
    run_config: Document | None = None
    due_task_runs: tuple[TaskRun, ...] = ()
    tenant_id: str = ""
    was_claimed_before: bool = False
    begun_version: int = 0
    job: WorkPoolJob | None = None

    @property
    def pool_name(self) -> str:
        """The work pool that it belongs to (Prefect 3), else ""."""
        return str(self.job.pool.get("name")) if self.job else ""

    @property
    def is_retry(self) -> bool:
        """Whether task runs of a Running flow run are to be run again, rather than the flow run started."""
        return bool(self.due_task_runs)


@dataclass(frozen=True)
class Place:
    """Where launches go: a platform and its cluster or namespace."""

    platform: str
    name: str

    def __str__(self) -> str:
        return f"{self.platform}:{self.name}"


@dataclass(frozen=True)
class Claim:
    """A flow run that this agent holds; `key` is the same for every attempt to launch this claim and no other."""

    run: FlowRun
    key: str
    claimed_at: datetime


def launch_key(run: FlowRun) -> str:
    """The launch key of the claim that would be made on `run` as it was read (Prefect 1).

    At most 64 characters of lower-case letters, digits and `-`, so that it is an ECS client token and nearly always a
    Kubernetes name as it stands. Every state a flow run enters raises its version, so the next claim has another key;
    a retry leaves the flow run's version alone and is told apart by its earliest due task run.
    """
    key = f"{run.id}-{run.version}"
    if not run.is_retry:
        return key
    first = run.due_task_runs[0]
    return f"{key}-{first.id.split('-')[0]}-{first.version}"


def claimed_version(key: str, run_id: str) -> int:
    """The version that a run had when it was claimed with this key; a key of somebody else's counts as the latest."""
    number = key.removeprefix(f"{run_id}-").split("-")[0]
    return int(number) if re.fullmatch("[0-9]{1,9}", number) else 1 << 31
