"""Task definitions of work pools (Prefect 3), registered by content, as its ECS worker would prepare them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from chalicelib.builders.ecs_defaults import PoolDefaults
from chalicelib.builders.ecs_definition import content_hash
from chalicelib.builders.ecs_documents import Check, template_problems, text_sized
from chalicelib.builders.work_pool_container import API_KEY, AUTH_STRING, WorkPoolContainer
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Document, FlowRun

DEFAULT_CONTAINER = "prefect"
"""The container that runs the flow, where the job configuration names none and the definition has one of this name."""

_SIZES = {"cpu": 1024, "memory": 2048}
FARGATE = ("FARGATE", "FARGATE_SPOT")
"""What may be asked for as a launch type and is Fargate; the second is no launch type of ECS's own."""

_FAMILY_LENGTH = 255


def build_pool_definition(
    run: FlowRun, configuration: Document, defaults: PoolDefaults, region: str, check: Check
) -> dict[str, Any]:
    """The RegisterTaskDefinition request that a job configuration becomes, its family named by its content.

    Raises UnsupportedRun.
    """
    template = configuration["task_definition"]
    _refuse(check("RegisterTaskDefinition", text_sized(_without_empty(template))))
    definition = deepcopy(dict(template))
    container = _flow_container(definition, configuration)
    container["image"] = container.get("image") or defaults.container.image
    container["environment"] = [each for each in container.get("environment") or () if each.get("value") is not None]
    if configuration.get("configure_cloudwatch_logs"):
        container["logConfiguration"] = _log_configuration(run, configuration, region)
    _set_sizes(definition, container, configuration["task_run_request"])
    role = definition.get("executionRoleArn") or configuration.get("execution_role_arn") or defaults.execution_role_arn
    family = _family(run, definition.pop("family", None))
    definition = _without_empty({**text_sized(definition), "executionRoleArn": role})
    _set_secrets(definition, container["name"], secrets_of(configuration, definition, defaults.container))
    _refuse(template_problems(definition, check))
    if all(each.get("essential") is False for each in definition["containerDefinitions"]):
        raise UnsupportedRun("task_definition cannot be used: at least one container must be essential")
    return {"family": f"{family}-{content_hash(definition)}", **definition}


def container_name(configuration: Document, definition: Document) -> str:
    """The container that runs the flow: the one asked for, else the usual one, else the first; of the template first.

    That is so also beside a definition that is named, where nothing else of the template matters.
    """
    usual = (_usual_name(each) for each in (configuration["task_definition"], definition))
    return str(configuration.get("container_name") or next(filter(None, usual), DEFAULT_CONTAINER))


def _usual_name(definition: Document) -> str | None:
    containers = definition.get("containerDefinitions")
    names = [each.get("name") for each in containers if isinstance(each, dict)] if isinstance(containers, list) else []
    return DEFAULT_CONTAINER if DEFAULT_CONTAINER in names else next(iter(names), None)


def secrets_of(configuration: Document, definition: Document, settings: WorkPoolContainer) -> dict[str, str]:
    """What a definition is to fetch for the flow's container, by variable: the job configuration's, else the agent's.

    The agent's own is left out where the job says otherwise how the container signs in.
    """
    fields = {API_KEY: "prefect_api_key_secret_arn", AUTH_STRING: "prefect_api_auth_string_secret_arn"}
    asked = {variable: configuration[name] for variable, name in fields.items() if configuration.get(name)}
    if asked or not settings.secret_reference:
        return asked
    given = {*configuration["env"], *named_in(definition, container_name(configuration, definition))}
    return {} if settings.secret_variable in given else {settings.secret_variable: settings.secret_reference}


def named_in(definition: Document, name: str, fields: Sequence[str] = ("environment", "secrets")) -> set[str]:
    """The variables and secrets that a definition gives its container of this name."""
    containers = [each for each in definition.get("containerDefinitions") or () if each.get("name") == name]
    return {str(entry.get("name")) for each in containers for field in fields for entry in each.get(field) or ()}


def _refuse(problems: list[str]) -> None:
    if problems:
        raise UnsupportedRun(f"task_definition cannot be used: {'; '.join(problems)}")


def _flow_container(definition: dict[str, Any], configuration: Document) -> Any:
    containers = [each for each in definition.get("containerDefinitions") or () if each]
    definition["containerDefinitions"] = containers
    name = container_name(configuration, definition)
    for container in containers:
        if container.get("name") == name:
            return container
    if name != DEFAULT_CONTAINER:
        raise UnsupportedRun(f"task_definition has no container named {name!r}: correct container_name or add it")
    nameless = next((each for each in containers if not each.get("name")), None)
    if nameless is None:
        containers.append(nameless := {})
    nameless["name"] = name
    return nameless


def _log_configuration(run: FlowRun, configuration: Document, region: str) -> dict[str, Any]:
    options = {
        "awslogs-create-group": "true",
        "awslogs-group": "prefect",
        "awslogs-region": region,
        "awslogs-stream-prefix": configuration.get("cloudwatch_logs_prefix") or _of_pool("prefect-logs", run),
    }
    return {"logDriver": "awslogs", "options": {**options, **(configuration.get("cloudwatch_logs_options") or {})}}


def _of_pool(prefix: str, run: FlowRun) -> str:
    """A name for all runs of a deployment, or of a flow without one, on a work pool."""
    job = run.job
    pool, deployment_id = (job.pool.get("name"), job.flow_run.get("deployment_id")) if job else ("", None)
    return f"{prefix}_{pool}_{deployment_id or run.flow.id}"


def _set_sizes(definition: dict[str, Any], container: dict[str, Any], request: Document) -> None:
    """Fargate wants the size of the task, other launch types that of the container."""
    sizes = {name: definition.get(name) or size for name, size in _SIZES.items()}
    if launch_type_of(request, definition) in FARGATE:
        kinds = definition.get("requiresCompatibilities") or []
        more = {} if "FARGATE" in kinds else {"requiresCompatibilities": [*kinds, "FARGATE"]}
        definition.update(sizes, networkMode=definition.get("networkMode") or "awsvpc", **more)
        return
    try:
        for name, size in sizes.items():
            container.setdefault(name, int(size))
    except (ValueError, TypeError):
        raise UnsupportedRun("cpu and memory must be numbers, unless the launch type is FARGATE") from None


def launch_type_of(request: Document, definition: Document) -> str | None:
    """The launch type of a RunTask request; None where capacity providers are to decide."""
    if asked := request.get("launchType"):
        return str(asked)
    has_providers = request.get("capacityProviderStrategy") or "EC2" in (
        definition.get("requiresCompatibilities") or ()
    )
    return None if has_providers else "FARGATE"


def _set_secrets(definition: dict[str, Any], name: str, secrets: dict[str, str]) -> None:
    if not secrets:
        return
    if not definition.get("executionRoleArn"):
        raise UnsupportedRun(
            "the API key is a secret that ECS fetches, and nothing names a role to fetch it with: set "
            "execution_role_arn in the work pool, or AGENT_EXECUTION_ROLE_ARN"
        )
    container = next(each for each in definition["containerDefinitions"] if each["name"] == name)
    for field in ("environment", "secrets"):
        container[field] = [each for each in container.get(field, ()) if each.get("name") not in secrets]
    container["secrets"] += [{"name": variable, "valueFrom": reference} for variable, reference in secrets.items()]


def _without_empty(value: Any) -> Any:
    """A document without what is empty in it, as ECS takes no null; false and what stands in lists stays."""
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item or item is False}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _family(run: FlowRun, asked: object) -> str:
    """The first part of a family's name, so that there is room for the hash."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", str(asked or _of_pool("prefect", run)))
    return name[: _FAMILY_LENGTH - 1 - len(content_hash({}))]
