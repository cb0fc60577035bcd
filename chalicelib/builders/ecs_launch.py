"""A Prefect 1 flow run made into the launch request of an ECS task: which task definition, and which RunTask call."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_definition import build_definition, check_existing
from chalicelib.builders.ecs_documents import Check, list_of, pairs_of, run_task_problems, template_problems, text_sized
from chalicelib.builders.flow_container import FLOW_CONTAINER, container_environment, flow_run_command, without_keys
from chalicelib.builders.run_configs import EcsRun
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun

OVERRIDES_LIMIT = 8192
"""Characters that RunTask takes for `overrides`, as AWS documents it."""

_EXCLUDED_BY = {"launchType": "capacityProviderStrategy", "capacityProviderStrategy": "launchType"}
STARTED_BY = "prefect/"
"""How the `startedBy` of all tasks of flow runs begins; the id of the flow run follows, by which they are found."""

AGENT_TAG = "prefect-agent:name"
"""The tag of a task that says which agent has launched it."""

OUR_TAGS = "prefect-agent:"
"""How the tags begin that only this agent sets."""

_RESERVED_TAGS = (OUR_TAGS, "prefect.io/")
_NOT_IN_A_TAG = re.compile(r"[^\w\s.:/=+\-@]|[\x00-\x1f]")
_TAG_VALUE_LENGTH = 256


@dataclass(frozen=True)
class EcsLaunch:
    """What the ECS launcher needs to start one flow run.

    Exactly one of `definition` and `definition_arn` is set. `definition` is a whole RegisterTaskDefinition request,
    its `family` carrying the hash of its content; `definition_arn` names one that exists. `run_task` is the RunTask
    request without `taskDefinition` and `clientToken`.
    """

    run_task: Document
    definition: Document | None = None
    definition_arn: str | None = None


def needs_network(ecs_run: EcsRun, defaults: EcsDefaults) -> bool:
    """Whether the network of the default VPC must be found out: on Fargate, when neither agent nor run gives one."""
    if defaults.effective_launch_type != "FARGATE" or defaults.run_task_kwargs.get("networkConfiguration"):
        return False
    return "networkConfiguration" not in ecs_run.run_task_kwargs


def build_ecs_launch(
    run: FlowRun, ecs_run: EcsRun, base: Document, defaults: EcsDefaults, network: Document | None, check: Check
) -> EcsLaunch:
    """The launch request of `run`: what Prefect 1.4.1's ECSAgent would start, with the definition kept apart.

    `base` is the template (the run's, loaded from its path, or the agent's); with a `task_definition_arn` it is the
    definition as DescribeTaskDefinition shows it. `network` is the value of `networkConfiguration` for the default
    VPC where `needs_network` says so, else None.

    Raises UnsupportedRun, which says where the fault is and what to change.
    """
    _check(ecs_run, base, defaults, check)
    arguments = _merged_arguments(ecs_run.run_task_kwargs, defaults, network)
    settings, definition, overrides = defaults.container, None, arguments["overrides"]
    if ecs_run.task_definition_arn:
        if not check_existing(run.flow, base, defaults):
            settings = replace(settings, secret_reference=None)
    else:
        definition = base = build_definition(run.flow, ecs_run, base, defaults, overrides.get("executionRoleArn"))
    env = container_environment(run, settings, ecs_run.env)
    overrides = _flow_overrides(overrides, run, ecs_run, base, defaults, env)
    if settings.secret_reference and not overrides.get("executionRoleArn"):
        raise UnsupportedRun(
            "the API key is a secret that ECS fetches, and nothing names a role to fetch it with: set "
            "AGENT_EXECUTION_ROLE_ARN (--execution-role-arn), or execution_role_arn in the run config"
        )
    tags = _tags(arguments, run, defaults.agent_name)
    run_task = {**arguments, "overrides": overrides, "count": 1, "startedBy": STARTED_BY + run.id, "tags": tags}
    return EcsLaunch(run_task, definition, ecs_run.task_definition_arn)


def _check(ecs_run: EcsRun, base: Document, defaults: EcsDefaults, check: Check) -> None:
    source, asked = "run_task_kwargs", ecs_run.run_task_kwargs
    problems = run_task_problems(asked, check) + _forbidden(asked, defaults)
    if not problems and not ecs_run.task_definition_arn:
        source = "task_definition" if ecs_run.task_definition else "the agent's own task definition template"
        if ecs_run.task_definition_path:
            source = f"the task definition template {shorten(ecs_run.task_definition_path)}"
        problems = template_problems(base, check)
    if problems:
        raise UnsupportedRun(f"{source} cannot be used: {'; '.join(problems)}")


def _forbidden(asked: Document, defaults: EcsDefaults) -> list[str]:
    problems = []
    if asked.get("cluster", defaults.own_cluster) not in (defaults.own_cluster, *defaults.allowed_clusters):
        cluster = shorten(str(asked["cluster"]), 100)
        problems.append(f"cluster {cluster} is not one that this agent may use (AGENT_CLUSTERS lists them)")
    if asked.get("enableExecuteCommand", False) is not False and not defaults.allow_execute_command:
        problems.append("enableExecuteCommand is not allowed here: AGENT_ALLOW_EXECUTE_COMMAND would allow it")
    return problems


def _merged_arguments(asked: Document, defaults: EcsDefaults, network: Document | None) -> dict[str, Any]:
    """The agent's arguments with the run's over them, as Prefect 1.4.1 merges them: `overrides` entry by entry."""
    base: dict[str, Any] = dict(defaults.run_task_kwargs)
    if network is not None:
        base["networkConfiguration"] = network
    if not base.get("capacityProviderStrategy"):
        base["launchType"] = defaults.effective_launch_type
    if defaults.cluster:
        base["cluster"] = defaults.cluster
    kept = {name: value for name, value in base.items() if _EXCLUDED_BY.get(name) not in asked}
    merged = {**kept, **asked, "overrides": _merged_overrides(base.get("overrides", {}), asked.get("overrides", {}))}
    if not merged.get("capacityProviderStrategy"):
        merged.pop("capacityProviderStrategy", None)
    return merged


def _merged_overrides(below: Document, above: Document) -> dict[str, Any]:
    containers: dict[str, dict[str, Any]] = {}
    for entry in (*below.get("containerOverrides", ()), *above.get("containerOverrides", ())):
        containers.setdefault(entry["name"], {}).update(entry)
    return text_sized({**below, **above, "containerOverrides": list(containers.values())})


def _flow_overrides(
    asked: Document, run: FlowRun, ecs_run: EcsRun, definition: Document, defaults: EcsDefaults, env: Mapping[str, str]
) -> dict[str, Any]:
    """The overrides of a run's task: everything about it that another run of the flow would not share."""
    execution_role = ecs_run.execution_role_arn or definition.get("executionRoleArn") or defaults.execution_role_arn
    ours = {
        "taskRoleArn": ecs_run.task_role_arn or definition.get("taskRoleArn") or defaults.task_role_arn,
        "executionRoleArn": execution_role,
        "cpu": ecs_run.cpu,
        "memory": ecs_run.memory,
        "containerOverrides": _with_flow(asked["containerOverrides"], run, env),
    }
    overrides = {**asked, **{name: value for name, value in ours.items() if value}}
    check_length(overrides)
    return overrides


def _with_flow(asked: list[Document], run: FlowRun, env: Mapping[str, str]) -> list[Document]:
    containers = {container["name"]: container for container in asked}
    flow = containers.get(FLOW_CONTAINER, {})
    own_env = without_keys(pairs_of(flow.get("environment", ())))
    containers[FLOW_CONTAINER] = {
        **flow,
        "name": FLOW_CONTAINER,
        "command": flow_run_command(run.flow.core_version),
        "environment": list_of({**own_env, **env}),
    }
    return [containers[name] for name in sorted(containers)]


def check_length(overrides: Document) -> None:
    """Raise UnsupportedRun when a task's overrides are longer than RunTask takes."""
    length = len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False))
    if length <= OVERRIDES_LIMIT:
        return
    entries = [entry for each in overrides["containerOverrides"] for entry in each.get("environment", ())]
    large = sorted(entries, key=lambda entry: len(entry.get("value", "")), reverse=True)[:3]
    names = ", ".join(shorten(entry["name"], 60) for entry in large if len(entry.get("value", "")) > 100)
    raise UnsupportedRun(
        f"the task's overrides have {length} characters, ECS takes {OVERRIDES_LIMIT}: put the largest variables "
        f"({names}) into a task definition, or let the flow read them from somewhere"
    )


def _tags(arguments: Document, run: FlowRun, agent_name: str) -> list[dict[str, str]]:
    """The tags of a run's task: those asked for, and ours, which win."""
    asked = pairs_of(arguments.get("tags", ()), "key")
    ours = {
        "prefect.io/flow_run_id": run.id,
        "prefect:flow-id": run.flow.id,
        "prefect:flow-version": str(run.flow.version),
        AGENT_TAG: tag_text(agent_name),
    }
    return list_of(
        {**{key: value for key, value in asked.items() if not key.startswith(_RESERVED_TAGS)}, **ours}, "key"
    )


def tag_text(text: str) -> str:
    """A text as the value of a tag, which takes few characters."""
    return _NOT_IN_A_TAG.sub("-", text)[:_TAG_VALUE_LENGTH]
