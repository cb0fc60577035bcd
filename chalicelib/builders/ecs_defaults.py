"""What the agent itself says about ECS, below what a run asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from chalicelib.builders.ecs_documents import Check, run_task_problems, template_problems
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.errors import SettingsError
from chalicelib.flow_runs import Document


def built_in_definition() -> Document:
    """The template that is used when neither the run nor the agent has one."""
    return {"networkMode": "awsvpc", "cpu": "1024", "memory": "2048", "containerDefinitions": [{"name": "flow"}]}


@dataclass(frozen=True, kw_only=True)
class EcsSettings:
    """What the agent itself says about ECS to the runs of either generation of Prefect's API.

    `cluster` is "" for the account's default cluster. A run may choose among `allowed_clusters` and `cluster`, spelt
    as they are here. `names_clusters`: a launch is called `Task <cluster>::<arn>`, as work pools have it, and events
    of any cluster are read; otherwise `Task <arn>`, and only those of the clusters that runs may choose.
    """

    cluster: str = ""
    allowed_clusters: frozenset[str] = frozenset()
    run_task_kwargs: Document = field(default_factory=dict)
    task_role_arn: str | None = None
    execution_role_arn: str | None = None
    agent_name: str = "agent"
    names_clusters: bool = False

    @property
    def own_cluster(self) -> str:
        """The cluster of the runs that name none."""
        return self.cluster or self.run_task_kwargs.get("cluster") or "default"

    def own_names(self) -> set[str]:
        """The roles, subnets and security groups that the agent itself puts into requests."""
        network = self.run_task_kwargs.get("networkConfiguration", {}).get("awsvpcConfiguration", {})
        names = {self.task_role_arn, self.execution_role_arn}
        return {name for name in names if name} | {*network.get("subnets", ()), *network.get("securityGroups", ())}


@dataclass(frozen=True, kw_only=True)
class PoolDefaults(EcsSettings):
    """The agent's settings for the work pools of Prefect 3: what a pool's job configuration leaves open."""

    container: WorkPoolContainer
    names_clusters: bool = True


@dataclass(frozen=True, kw_only=True)
class EcsDefaults(EcsSettings):
    """The agent's settings for the run configs of Prefect 1.

    `launch_type` is FARGATE, EC2, or None: FARGATE unless `run_task_kwargs` names capacity providers.
    `task_definition` is the agent's own template. `allow_plain_api_key` lets the key go into the overrides of a task
    whose own definition (`task_definition_arn`) does not show it as a secret.
    """

    container: ContainerSettings
    launch_type: str | None = None
    task_definition: Document = field(default_factory=built_in_definition)
    allow_plain_api_key: bool = False
    allow_execute_command: bool = False

    def validate(self, check: Check) -> None:
        """Raise SettingsError with all problems of the documents: found so, they fail the agent and not each run."""
        problems = [f"--task-definition: {line}" for line in template_problems(self.task_definition, check)]
        problems += [f"--run-task-kwargs: {line}" for line in run_task_problems(self.run_task_kwargs, check)]
        if problems:
            raise SettingsError(problems)

    @property
    def effective_launch_type(self) -> str | None:
        """The launch type that definitions are made for; None only where capacity providers decide."""
        return self.launch_type or (None if self.run_task_kwargs.get("capacityProviderStrategy") else "FARGATE")
