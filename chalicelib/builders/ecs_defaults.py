"""What the agent itself says about ECS, below what a run asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from chalicelib.builders.ecs_checks import run_task_problems, template_problems
from chalicelib.builders.environment import ContainerSettings
from chalicelib.errors import SettingsError
from chalicelib.flow_runs import Document

LAUNCH_TYPES = ("FARGATE", "EC2")


def built_in_definition() -> Document:
    """The template that is used when neither the run nor the agent has one."""
    return {"networkMode": "awsvpc", "cpu": "1024", "memory": "2048", "containerDefinitions": [{"name": "flow"}]}


@dataclass(frozen=True)
class EcsDefaults:
    """The agent's settings for ECS.

    `cluster` is "" for the account's default cluster. A run may choose among `allowed_clusters` and `cluster`, spelt
    as they are here. `launch_type` is FARGATE, EC2, or None: FARGATE unless `run_task_kwargs` names capacity providers.
    `task_definition` is the agent's own template. `allow_plain_api_key` lets the key go into the overrides of a task
    whose own definition (`task_definition_arn`) does not show it as a secret.

    Raises SettingsError with all problems of the documents: found here, they fail the agent and not each run.
    """

    container: ContainerSettings
    cluster: str = ""
    allowed_clusters: frozenset[str] = frozenset()
    launch_type: str | None = None
    task_definition: Document = field(default_factory=built_in_definition)
    run_task_kwargs: Document = field(default_factory=dict)
    task_role_arn: str | None = None
    execution_role_arn: str | None = None
    allow_plain_api_key: bool = False
    allow_execute_command: bool = False
    agent_name: str = "agent"

    def __post_init__(self) -> None:
        problems = [f"--task-definition: {problem}" for problem in template_problems(self.task_definition)]
        problems += [f"--run-task-kwargs: {problem}" for problem in run_task_problems(self.run_task_kwargs)]
        if self.launch_type not in (None, *LAUNCH_TYPES):
            problems.append(f"--launch-type is neither of {' and '.join(LAUNCH_TYPES)}")
        if problems:
            raise SettingsError(problems)

    @property
    def effective_launch_type(self) -> str | None:
        """The launch type that definitions are made for; None only where capacity providers decide."""
        return self.launch_type or (None if self.run_task_kwargs.get("capacityProviderStrategy") else "FARGATE")
