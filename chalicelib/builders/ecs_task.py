"""A Prefect 1 flow run made into the launch request of an ECS task."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from chalicelib.builders.documents import canonical
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_definition import build_definition, check_existing
from chalicelib.builders.ecs_launch import EcsLaunch
from chalicelib.builders.ecs_run_task import flow_overrides, merged_arguments, run_tags, started_by
from chalicelib.builders.environment import container_environment
from chalicelib.builders.run_configs import EcsRun
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Document, FlowRun

__all__ = ["EcsDefaults", "build_ecs_launch", "needs_network"]


def needs_network(ecs_run: EcsRun, defaults: EcsDefaults) -> bool:
    """Whether the network of the default VPC must be found out: on Fargate, when neither agent nor run gives one."""
    if defaults.effective_launch_type != "FARGATE" or defaults.run_task_kwargs.get("networkConfiguration"):
        return False
    return "networkConfiguration" not in ecs_run.run_task_kwargs


def build_ecs_launch(
    run: FlowRun, ecs_run: EcsRun, base_definition: Document, defaults: EcsDefaults, network: Document | None
) -> EcsLaunch:
    """The launch request of `run`: what Prefect 1.4.1's ECSAgent would start, with the definition kept apart.

    `base_definition` is the template (the run's, loaded from its path, or the agent's); with a
    `task_definition_arn` it is the definition as DescribeTaskDefinition shows it. `network` is the value of
    `networkConfiguration` for the default VPC, used only where `needs_network` says so.

    Raises UnsupportedRun, which says where the fault is and what to change.
    """
    try:
        return _build(run, ecs_run, base_definition, defaults, network)
    except RecursionError:
        raise UnsupportedRun("the run config or its task definition is nested too deeply") from None


def _build(
    run: FlowRun, ecs_run: EcsRun, base_definition: Document, defaults: EcsDefaults, network: Document | None
) -> EcsLaunch:
    arguments = merged_arguments(ecs_run, defaults, _inferred(network, ecs_run, defaults))
    settings = defaults.container
    if ecs_run.task_definition_arn:
        definition, existing = None, base_definition
        if not check_existing(run.flow, existing, defaults):
            settings = replace(settings, secret_reference=None)
    else:
        role = arguments["overrides"].get("executionRoleArn")
        definition = existing = build_definition(run.flow, ecs_run, base_definition, defaults, role)
    env = container_environment(run, settings, ecs_run.env)
    overrides = flow_overrides(arguments["overrides"], run, ecs_run, existing, defaults, env)
    if settings.secret_reference and not overrides.get("executionRoleArn"):
        raise UnsupportedRun(
            "the API key is a secret that ECS fetches, and nothing names a role to fetch it with: set "
            "AGENT_EXECUTION_ROLE_ARN (--execution-role-arn), or execution_role_arn in the run config"
        )
    return EcsLaunch(
        run_task=_finished(arguments, overrides, run, defaults),
        definition=definition,
        definition_arn=ecs_run.task_definition_arn,
    )


def _inferred(network: Document | None, ecs_run: EcsRun, defaults: EcsDefaults) -> Document | None:
    if not needs_network(ecs_run, defaults):
        return None
    if network is None:
        raise UnsupportedRun(
            "there is no default VPC with subnets to run in: give networkConfiguration in the agent's "
            "--run-task-kwargs, or in the run config's run_task_kwargs"
        )
    return network


def _finished(arguments: Document, overrides: Document, run: FlowRun, defaults: EcsDefaults) -> dict[str, Any]:
    return canonical(
        {
            **arguments,
            "overrides": overrides,
            "count": 1,
            "startedBy": started_by(run),
            "tags": run_tags(arguments, run, defaults.agent_name),
        }
    )
