"""A flow run of a Prefect 3 ECS work pool made into the launch request of a task, as the official worker makes it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, NamedTuple

from chalicelib.builders.ecs_defaults import PoolDefaults
from chalicelib.builders.ecs_definition import secret_missing
from chalicelib.builders.ecs_documents import Check, default_network, list_of, pairs_of, run_task_problems, text_sized
from chalicelib.builders.ecs_launch import AGENT_TAG, OUR_TAGS, STARTED_BY, EcsLaunch, check_length, tag_text
from chalicelib.builders.job_configuration import render_job_configuration
from chalicelib.builders.run_configs import kind_of
from chalicelib.builders.work_pool_container import (
    RUN_LABEL,
    WorkPoolContainer,
    container_environment,
    job_labels,
    split_command,
)
from chalicelib.builders.work_pool_definition import FARGATE, container_name, launch_type_of, named_in, secrets_of
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, FlowRun

_OBJECTS = ("task_definition", "task_run_request", "network_configuration", "cloudwatch_logs_options")
_TEXTS = (
    *("cluster", "container_name", "vpc_id", "cloudwatch_logs_prefix", "execution_role_arn"),
    *("prefect_api_key_secret_arn", "prefect_api_auth_string_secret_arn"),
)
_KINDS = {**dict.fromkeys(_OBJECTS, Mapping), **dict.fromkeys(_TEXTS, str), "configure_cloudwatch_logs": bool}

_SPOT = [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]
_TAG_KEY_LENGTH = 128


class Base(NamedTuple):
    """What a task is started from: a definition of its own that is to be registered, or one that exists."""

    definition: Document
    arn: str | None = None


def read_configuration(rendered: Document) -> dict[str, Any]:
    """A rendered job configuration, its parts of the kinds that they must be of, without what is null or empty.

    `task_definition` and `task_run_request` are always there. Raises UnsupportedRun with all problems.
    """
    given = {name: value for name, value in rendered.items() if value not in (None, "", {})}
    problems = [
        f"{name} is {kind_of(value)}"
        for name, value in given.items()
        if not isinstance(value, _KINDS.get(name, object))
    ]
    configuration = {"task_definition": {}, "task_run_request": {}, "env": {}, "labels": {}, **given}
    if not problems and not configuration["task_definition"] and not existing_definition(configuration):
        problems.append("there is neither a task_definition nor a taskDefinition in task_run_request")
    elif not problems and not isinstance(existing_definition(configuration) or "", str):
        problems.append(f"taskDefinition is {kind_of(existing_definition(configuration))}")
    if configuration.get("network_configuration") and not configuration.get("vpc_id"):
        problems.append("network_configuration needs the vpc_id that its subnets are in")
    if configuration.get("cloudwatch_logs_options") and not configuration.get("configure_cloudwatch_logs"):
        problems.append("cloudwatch_logs_options need configure_cloudwatch_logs")
    if problems:
        raise UnsupportedRun(f"the job configuration cannot be used: {'; '.join(problems)}")
    return configuration


def existing_definition(configuration: Document) -> str | None:
    """The task definition that a job configuration names instead of describing one."""
    return configuration["task_run_request"].get("taskDefinition") or None


def cluster_of(configuration: Document, defaults: PoolDefaults) -> str:
    """The cluster that a job configuration names, else the agent's own."""
    return str(configuration["task_run_request"].get("cluster") or configuration.get("cluster") or defaults.own_cluster)


def check_cluster(run: FlowRun, configuration: Document, defaults: PoolDefaults) -> None:
    """Raise UnsupportedRun for a cluster that only job variables name, unless the agent's settings list it.

    What the work pool says without them is its operator's choice, and so is what the agent's settings say.
    """
    cluster = cluster_of(configuration, defaults)
    if cluster not in (defaults.own_cluster, *defaults.allowed_clusters) and cluster != _pool_cluster(run, defaults):
        raise UnsupportedRun(
            f"cluster {shorten(cluster, 100)} is named by job variables and is not one that this agent may use: "
            "AGENT_CLUSTERS lists them, or make it the work pool's own"
        )


def _pool_cluster(run: FlowRun, defaults: PoolDefaults) -> str:
    if run.job is None:
        return defaults.own_cluster
    deployment, flow_run = ({**each, "job_variables": {}} for each in (run.job.deployment, run.job.flow_run))
    try:
        bare = replace(run, job=replace(run.job, deployment=deployment, flow_run=flow_run))
        return cluster_of(read_configuration(render_job_configuration(bare)), defaults)
    except UnsupportedRun:
        return defaults.own_cluster  # The template needs variables, so that it has no cluster of its own.


def needed_vpc(configuration: Document, definition: Document, defaults: PoolDefaults) -> str | None:
    """The VPC whose subnets must be found out, "" for the default one; None where that is not needed."""
    vpc_id = str(configuration.get("vpc_id") or "")
    if definition.get("networkMode") != "awsvpc":
        return None
    in_request = configuration["task_run_request"].get("networkConfiguration")
    is_own = not vpc_id and defaults.run_task_kwargs.get("networkConfiguration")
    return None if configuration.get("network_configuration") or in_request or is_own else vpc_id


def build_pool_launch(
    run: FlowRun, configuration: Document, base: Base, subnets: Sequence[str], defaults: PoolDefaults, check: Check
) -> EcsLaunch:
    """The launch request of `run`: what prefect-aws' ECS worker would start, with the definition kept apart.

    `configuration` is as `read_configuration` answers it, `subnets` are those of the VPC that `needed_vpc` names.
    Raises UnsupportedRun, which says where the fault is and what to change.
    """
    _check_base(configuration, base.definition)
    name = container_name(configuration, base.definition)
    request = _plain_request(configuration, base.definition, name)
    request.update(_network(configuration, base.definition, subnets, defaults))
    problems = run_task_problems(request, check)
    if problems:
        raise UnsupportedRun(f"task_run_request cannot be used: {'; '.join(problems)}")
    env = _environment(run, configuration, base.definition, name, defaults.container)
    overrides = _flow_overrides(request["overrides"], name, env, configuration["command"])
    if defaults.task_role_arn and not base.definition.get("taskRoleArn"):
        overrides.setdefault("taskRoleArn", defaults.task_role_arn)
    check_length(overrides)
    tags = _tags(request["tags"], run, configuration["labels"], defaults.agent_name)
    ours = {"cluster": cluster_of(configuration, defaults), "count": 1, "startedBy": STARTED_BY + run.id, "tags": tags}
    return EcsLaunch({**request, "overrides": overrides, **ours}, None if base.arn else base.definition, base.arn)


def _check_base(configuration: Document, definition: Document) -> None:
    """What the definition and the rest of the job configuration must have in common."""
    request = configuration["task_run_request"]
    launch_type = launch_type_of(request, definition)
    if configuration.get("configure_cloudwatch_logs") and not definition.get("executionRoleArn"):
        raise UnsupportedRun("configure_cloudwatch_logs needs an execution role: set execution_role_arn")
    if launch_type in (None, "EC2") or (request.get("capacityProviderStrategy") and launch_type != "FARGATE_SPOT"):
        return
    if not {"FARGATE", launch_type} & {*(definition.get("requiresCompatibilities") or ["FARGATE"])}:
        raise UnsupportedRun(f"the task definition is not for {launch_type}: see its requiresCompatibilities")
    if launch_type in FARGATE and definition.get("networkMode", "awsvpc") != "awsvpc":
        raise UnsupportedRun(f"the task definition's networkMode must be awsvpc for {launch_type}")


def _plain_request(configuration: Document, definition: Document, name: str) -> dict[str, Any]:
    """The RunTask request of a job configuration, its shorthands written out, without the definition."""
    request = _without_null(configuration["task_run_request"])
    request.pop("taskDefinition", None)
    launch_type, providers = launch_type_of(request, definition), request.pop("capacityProviderStrategy", None)
    request.pop("launchType", None)
    if providers or launch_type == "FARGATE_SPOT":
        request["capacityProviderStrategy"] = providers or _SPOT
    elif launch_type:
        request["launchType"] = launch_type
    overrides = request.get("overrides") or {}
    if isinstance(overrides, dict):
        containers = overrides.get("containerOverrides") or []
        if isinstance(containers, list):
            containers = [_plain_override(each, name, configuration["env"]) for each in _named(containers, name)]
        overrides = {**text_sized(_without_null(overrides)), "containerOverrides": containers}
    return {**request, "overrides": overrides, "tags": _entries(request.get("tags") or [], "key")}


def _named(containers: list[Any], name: str) -> list[Any]:
    """Container overrides without the empty ones; the first may do without a name."""
    first, *others = containers or [{}]
    is_nameless = isinstance(first, dict) and not first.get("name")
    return [{**first, "name": name} if is_nameless else first, *(each for each in others if each)]


def _plain_override(entry: Any, name: str, env: Document) -> Any:
    """A container override in ECS's own form; that of the flow's without the variables that are set in it anyway."""
    if not isinstance(entry, dict):
        return entry
    ruled = env.keys() if entry.get("name") == name else set()
    plain = {**_without_null(entry), "environment": _entries(entry.get("environment") or [], "name")}
    if isinstance(plain["environment"], list):
        plain["environment"] = [each for each in plain["environment"] if not _is_void(each, ruled)]
    if isinstance(entry.get("command"), str):
        plain["command"] = split_command(entry["command"])
    return plain


def _without_null(document: Document) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def _is_void(entry: Any, ruled: Set[Any]) -> bool:
    """Whether an entry of an environment sets nothing: it is null, or its variable is set by others."""
    return isinstance(entry, dict) and (entry.get("value") is None or str(entry.get("name")) in ruled)


def _entries(value: Any, name_field: str) -> Any:
    """Pairs that are written as an object, as AWS's list; anything else as it is."""
    return [{name_field: name, "value": each} for name, each in value.items()] if isinstance(value, dict) else value


def _network(
    configuration: Document, definition: Document, subnets: Sequence[str], defaults: PoolDefaults
) -> dict[str, Any]:
    if definition.get("networkMode") != "awsvpc":
        return {}
    if asked := configuration.get("network_configuration"):
        return {"networkConfiguration": {"awsvpcConfiguration": asked}}
    if configuration["task_run_request"].get("networkConfiguration"):
        return {}
    if subnets:
        return {"networkConfiguration": default_network(subnets)}
    return {"networkConfiguration": defaults.run_task_kwargs["networkConfiguration"]}


def _environment(
    run: FlowRun, configuration: Document, definition: Document, name: str, container: WorkPoolContainer
) -> dict[str, str]:
    """The variables of the flow's container, without those that its definition gives it as secrets."""
    wanted = secrets_of(configuration, definition, container)
    given = named_in(definition, name)
    if not wanted.keys() <= given:
        has_key = container.api_key or container.auth_string
        if not has_key or (container.secret_reference and not container.allow_plain_api_key):
            secrets = [{"name": variable, "valueFrom": arn} for variable, arn in wanted.items()]
            raise secret_missing(name, ", ".join(wanted), secrets)
        container = replace(container, secret_reference=None)
    left_out = {*(wanted.keys() & given), *named_in(definition, name, ("secrets",))}
    env = container_environment(run, container, configuration["env"])
    return {variable: value for variable, value in env.items() if variable not in left_out}


def _flow_overrides(overrides: Document, name: str, env: Mapping[str, str], command: str) -> dict[str, Any]:
    containers = {each["name"]: each for each in overrides["containerOverrides"]}
    flow = containers.get(name, {})
    environment = list_of({**pairs_of(flow.get("environment", ())), **env})
    containers[name] = {**flow, "name": name, "command": split_command(command), "environment": environment}
    return {**overrides, "containerOverrides": list(containers.values())}


def _tags(asked: Iterable[Document], run: FlowRun, labels: Document, agent_name: str) -> list[dict[str, str]]:
    """The tags of a run's task: the official ones, those asked for over them, and over all what it is known by."""
    texts = {**pairs_of(asked, "key"), **job_labels(run, agent_name), **labels}
    tags = {_slug(key)[:_TAG_KEY_LENGTH]: tag_text(_slug(value)) for key, value in texts.items()}
    tags = {key: value for key, value in tags.items() if key and not key.startswith(OUR_TAGS)}
    return list_of({**tags, RUN_LABEL: run.id, AGENT_TAG: tag_text(agent_name)}, "key")


def _slug(text: str) -> str:
    """A text in the characters of a tag, as the official worker spells it."""
    plain = re.sub(r"(?<=\d),(?=\d)", "", unicodedata.normalize("NFKC", text.replace("'", "-")).replace("'", ""))
    return re.sub(r"-{2,}", "-", re.sub(r"[^a-zA-Z0-9_./=+:@-]", "-", plain)).strip("-")
