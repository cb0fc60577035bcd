"""What the double remembers: clusters, task definitions, tasks and client tokens, and how their ARNs are made."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tests.doubles.ecs.protocol import Refusal

Row = dict[str, Any]

TOKEN_LIFE = timedelta(hours=24)
"""How long a client token is known at most."""

STOPPED_LIFE = timedelta(hours=1)
"""How long a stopped task, and the client token that started it, is known."""


class Clock(Protocol):
    """The time that the double lives in."""

    def now(self) -> datetime:
        """The current time, in UTC."""


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        return datetime.now(UTC)


@dataclass(frozen=True)
class Token:
    """A client token that was used: for which parameters, and which tasks they started."""

    parameters: str
    task_arns: tuple[str, ...]
    used_at: datetime


@dataclass
class Store:
    """All state; hold `lock` while touching it.

    `definitions` are by family, in the order of their revisions. `passable_roles` None means every role. `forbidden`
    are actions that IAM refuses.
    """

    clock: Clock
    region: str
    account: str
    lock: threading.RLock = field(default_factory=threading.RLock)
    clusters: dict[str, Row] = field(default_factory=dict)
    definitions: dict[str, list[Row]] = field(default_factory=dict)
    tasks: dict[str, Row] = field(default_factory=dict)
    tokens: dict[tuple[str, str], Token] = field(default_factory=dict)
    tags: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    listeners: list[Callable[[Row], object]] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    passable_roles: set[str] | None = None

    def arn(self, kind: str, name: str) -> str:
        """The ARN of an ECS resource."""
        return f"arn:aws:ecs:{self.region}:{self.account}:{kind}/{name}"

    def new_id(self) -> str:
        """An id as ECS gives its tasks."""
        return uuid.uuid4().hex

    def cluster(self, given: str | None) -> Row:
        """An ACTIVE cluster by name or ARN, `default` when none is given; refuses one that is not there."""
        name = (given or "default").rpartition("/")[2]
        row = self.clusters.get(name)
        if row is None or ((given or "").startswith("arn:") and row["clusterArn"] != given):
            raise Refusal("ClusterNotFoundException", "Cluster not found.")
        if row["status"] != "ACTIVE":
            raise Refusal("ClusterNotFoundException", "The referenced cluster was inactive.")
        return row

    def definition(self, given: str) -> Row | None:
        """A task definition by family (its newest ACTIVE one), `family:revision` or ARN; None when there is none."""
        family, _, revision = given.rpartition("/")[2].partition(":")
        rows = self.definitions.get(family, [])
        if revision:
            found = [row for row in rows if str(row["revision"]) == revision]
            found = [row for row in found if not given.startswith("arn:") or row["taskDefinitionArn"] == given]
        else:
            found = [row for row in rows if row["status"] == "ACTIVE"]
        return found[-1] if found else None

    def task(self, cluster: Row, given: str) -> Row | None:
        """A task of the cluster by id or ARN, while ECS still knows it."""
        wanted = given if given.startswith("arn:") else self.arn("task", f"{cluster['clusterName']}/{given}")
        row = self.tasks.get(wanted)
        return row if row and row["clusterArn"] == cluster["clusterArn"] and self.is_known(row) else None

    def is_known(self, task: Row) -> bool:
        """Whether ECS still shows this task."""
        return "stoppedAt" not in task or self.clock.now() < task["stoppedAt"] + STOPPED_LIFE

    def token(self, cluster: Row, token: str) -> Token | None:
        """What was started with a client token, while ECS remembers it."""
        used = self.tokens.get((cluster["clusterArn"], token))
        if used is None or self.clock.now() >= used.used_at + TOKEN_LIFE:
            return None
        return used if all(self.is_known(self.tasks[arn]) for arn in used.task_arns) else None

    def allow(self, action: str, resource: str) -> None:
        """Refuse an action that IAM does not let this caller take."""
        if action in self.forbidden:
            raise self.denied(f"ecs:{action}", resource)

    def allow_roles(self, *roles: str | None) -> None:
        """Refuse a role that this caller may not hand on."""
        for role in roles:
            if role and self.passable_roles is not None and role not in self.passable_roles:
                raise self.denied("iam:PassRole", role)

    def denied(self, action: str, resource: str) -> Refusal:
        """IAM's words."""
        user = f"arn:aws:sts::{self.account}:assumed-role/agent/agent"
        text = (
            f"User: {user} is not authorized to perform: {action} on resource: {resource} "
            f"because no identity-based policy allows the {action} action"
        )
        return Refusal("AccessDeniedException", text)
