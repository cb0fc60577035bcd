"""The arguments of RunTask: the agent's, over them the run's, and over both what must be ours."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from chalicelib.builders.documents import list_of, pairs_of
from chalicelib.builders.ecs_checks import FLOW_CONTAINER, run_task_problems
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.environment import KEY_VARIABLES
from chalicelib.builders.flow_container import flow_run_command
from chalicelib.builders.run_configs import EcsRun
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun

OVERRIDES_LIMIT = 8192
"""Characters that RunTask takes for `overrides`, as AWS documents it."""

_OUR_TAGS = ("prefect-agent:", "prefect.io/")
_NOT_IN_A_TAG = re.compile(r"[^\w\s.:/=+\-@]|[\x00-\x1f]")
_TAG_VALUE_LENGTH = 256


def merged_arguments(ecs_run: EcsRun, defaults: EcsDefaults, network: Document | None) -> dict[str, Any]:
    """The agent's RunTask arguments with the run's over them, merged as Prefect 1.4.1 does it.

    `network` stands in for a networkConfiguration that the agent does not give. Raises UnsupportedRun for arguments
    that do not exist, are malformed, or that a run may not use here.
    """
    _check(ecs_run.run_task_kwargs, defaults)
    base: dict[str, Any] = deepcopy(dict(defaults.run_task_kwargs))
    if network is not None:
        base["networkConfiguration"] = network
    if not base.get("capacityProviderStrategy"):
        base["launchType"] = defaults.effective_launch_type
    if defaults.cluster:
        base["cluster"] = defaults.cluster
    merged = merge(base, ecs_run.run_task_kwargs)
    if merged.get("launchType") and not merged.get("capacityProviderStrategy"):
        merged.pop("capacityProviderStrategy", None)
    return merged


def _check(asked: Document, defaults: EcsDefaults) -> None:
    problems = run_task_problems(asked)
    own_cluster = defaults.cluster or defaults.run_task_kwargs.get("cluster") or "default"
    if asked.get("cluster", own_cluster) not in (own_cluster, *defaults.allowed_clusters):
        cluster = shorten(str(asked["cluster"]), 100)
        problems.append(f"cluster {cluster} is not one that this agent may use (AGENT_CLUSTERS lists them)")
    if asked.get("enableExecuteCommand", False) is not False and not defaults.allow_execute_command:
        problems.append("enableExecuteCommand is not allowed here: AGENT_ALLOW_EXECUTE_COMMAND would allow it")
    if problems:
        raise UnsupportedRun(f"run_task_kwargs cannot be used: {'; '.join(problems)}")


def merge(base: Document, top: Document) -> dict[str, Any]:
    """Two sets of RunTask arguments as one, `top` winning argument by argument.

    Inside `overrides` it wins entry by entry, and container overrides of one name become one. `launchType` and
    `capacityProviderStrategy` drive each other out.
    """
    excluded = {"launchType": "capacityProviderStrategy", "capacityProviderStrategy": "launchType"}
    merged = {name: value for name, value in base.items() if excluded.get(name) not in top}
    merged.update({name: value for name, value in top.items() if name != "overrides"})
    below, above = base.get("overrides", {}), top.get("overrides", {})
    merged["overrides"] = {
        **below,
        **above,
        "containerOverrides": _merge_containers(
            [*below.get("containerOverrides", ()), *above.get("containerOverrides", ())]
        ),
    }
    return merged


def _merge_containers(entries: list[Document]) -> list[dict[str, Any]]:
    by_name: dict[str, dict[str, Any]] = {}
    for entry in entries:
        by_name.setdefault(entry["name"], {}).update(entry)
    return list(by_name.values())


def flow_overrides(
    asked: Document, run: FlowRun, ecs_run: EcsRun, definition: Document, defaults: EcsDefaults, env: Mapping[str, str]
) -> dict[str, Any]:
    """The overrides of a run's task: everything about it that another run of the flow would not share.

    `asked` are the overrides that the merged arguments bring. Raises UnsupportedRun when ECS would find them too long.
    """
    overrides = dict(asked)
    roles = {
        "taskRoleArn": ecs_run.task_role_arn or definition.get("taskRoleArn") or defaults.task_role_arn,
        "executionRoleArn": execution_role(ecs_run, definition, defaults),
    }
    overrides.update({name: role for name, role in roles.items() if role})
    sizes = {"cpu": ecs_run.cpu or asked.get("cpu"), "memory": ecs_run.memory or asked.get("memory")}
    overrides.update({name: str(size) for name, size in sizes.items() if size is not None})
    overrides["containerOverrides"] = _with_flow(asked["containerOverrides"], run, env)
    _check_length(overrides)
    return overrides


def execution_role(ecs_run: EcsRun, definition: Document, defaults: EcsDefaults) -> str | None:
    """The execution role that run, definition or agent name, in this order; RunTask arguments may know another."""
    return ecs_run.execution_role_arn or definition.get("executionRoleArn") or defaults.execution_role_arn


def _with_flow(containers: list[dict[str, Any]], run: FlowRun, env: Mapping[str, str]) -> list[dict[str, Any]]:
    asked = next((container for container in containers if container["name"] == FLOW_CONTAINER), {})
    own_env = pairs_of(asked.get("environment", ()))
    if not env.keys() & set(KEY_VARIABLES):
        # The key comes as a secret, and ECS refuses a variable of the same name.
        own_env = {name: value for name, value in own_env.items() if name not in KEY_VARIABLES}
    flow = {
        **asked,
        "name": FLOW_CONTAINER,
        "command": flow_run_command(run.flow.core_version),
        "environment": list_of({**own_env, **env}),
    }
    return sorted([flow, *(each for each in containers if each is not asked)], key=lambda each: str(each["name"]))


def _check_length(overrides: Document) -> None:
    length = len(json.dumps(overrides, separators=(",", ":"), ensure_ascii=False))
    if length <= OVERRIDES_LIMIT:
        return
    entries = [entry for each in overrides["containerOverrides"] for entry in each.get("environment", ())]
    largest = sorted(entries, key=lambda entry: len(entry.get("value", "")), reverse=True)[:3]
    names = ", ".join(shorten(entry["name"], 60) for entry in largest)
    raise UnsupportedRun(
        f"the task's overrides have {length} characters, ECS takes {OVERRIDES_LIMIT}: put the largest variables "
        f"({names}) into a task definition, or let the flow read them from somewhere"
    )


def started_by(run: FlowRun) -> str:
    """The `startedBy` of all tasks of a flow run, by which they are found whatever their launch keys are."""
    return f"prefect/{run.id}"


def run_tags(asked: Document, run: FlowRun, agent_name: str) -> list[dict[str, str]]:
    """The tags of a run's task: those asked for, and ours, which win."""
    tags = {
        key: value for key, value in pairs_of(asked.get("tags", ()), "key").items() if not key.startswith(_OUR_TAGS)
    }
    ours = {
        "prefect.io/flow_run_id": run.id,
        "prefect:flow-id": run.flow.id,
        "prefect:flow-version": str(run.flow.version),
        "prefect-agent:name": _NOT_IN_A_TAG.sub("-", agent_name)[:_TAG_VALUE_LENGTH],
    }
    return list_of({**tags, **ours}, "key")
