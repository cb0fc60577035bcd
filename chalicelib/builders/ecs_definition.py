"""Task definitions, registered by content: nothing in them differs between two runs of one flow."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from chalicelib.builders.documents import canonical, canonical_text, list_of, pairs_of
from chalicelib.builders.ecs_checks import FLOW_CONTAINER, NOT_FOR_REGISTRATION, template_problems
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.environment import API_KEY, AUTH_TOKEN, KEY_VARIABLES
from chalicelib.builders.flow_container import flow_image, is_docker_storage, is_older
from chalicelib.builders.run_configs import EcsRun
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document, Flow

IMAGE_VARIABLE = "PREFECT__CONTEXT__IMAGE"
_SLUG_LENGTH = 40
_HASH_LENGTH = 20


def build_definition(
    flow: Flow, ecs_run: EcsRun, template: Document, defaults: EcsDefaults, overriding_role: str | None
) -> dict[str, Any]:
    """The RegisterTaskDefinition request that `template` becomes for `flow`; its family is named by its content.

    `overriding_role` is an execution role that only RunTask arguments name: registration asks for one too, as soon as
    there are secrets. Raises UnsupportedRun.
    """
    definition = _open_template(template, _source(ecs_run))
    container = _flow_container(definition)
    container["image"] = flow_image(flow, ecs_run.image, container.get("image"))
    _set_environment(container, defaults.container.secret_reference)
    for size in definition.keys() & {"cpu", "memory"}:
        definition[size] = str(definition[size])
    role = ecs_run.execution_role_arn or defaults.execution_role_arn or overriding_role
    if role:
        definition.setdefault("executionRoleArn", role)
    if defaults.effective_launch_type:
        definition.setdefault("requiresCompatibilities", [defaults.effective_launch_type])
    return {"family": _family(container["image"], definition), **definition}


def check_existing(flow: Flow, definition: Document, defaults: EcsDefaults) -> bool:
    """Whether the definition that a run names itself hands its flow container the key as a secret.

    Where that is not needed the answer is False. Raises UnsupportedRun when this definition cannot run `flow`, or when
    the secret is missing and the key may not be given in plain either.
    """
    if is_docker_storage(flow.storage):
        raise UnsupportedRun(
            "Cannot provide `task_definition_arn` when using `Docker` storage: leave it out, or use another storage"
        )
    container = _flow_container(definition)
    if container is None:
        raise UnsupportedRun(f"the task definition of task_definition_arn has no container named {FLOW_CONTAINER!r}")
    reference = defaults.container.secret_reference
    if not reference:
        return False
    # The name that the Prefect in the container reads.
    needed = AUTH_TOKEN if is_older(flow.core_version or "0.0.0", (0, 15, 0)) else API_KEY
    if needed in {entry.get("name") for entry in container.get("secrets") or ()}:
        return True
    plain = defaults.container.api_key or defaults.container.auth_token
    if not (defaults.allow_plain_api_key and plain):
        raise UnsupportedRun(_missing_secret(needed, reference))
    return False


def _missing_secret(needed: str, reference: str) -> str:
    lines = json.dumps({"secrets": secrets_of(reference)})[1:-1]
    return (
        f"the task definition of task_definition_arn does not give its container {FLOW_CONTAINER!r} the secret "
        f"{needed}; add to that container: {lines} (or let the agent pass the key in plain: AGENT_ALLOW_PLAIN_API_KEY)"
    )


def secrets_of(reference: str) -> list[dict[str, str]]:
    """The `secrets` of a container definition that make the platform fill in the key variables."""
    return [{"name": name, "valueFrom": reference} for name in KEY_VARIABLES]


def _open_template(template: Document, source: str) -> dict[str, Any]:
    """A copy to work on: with the container `flow`, without what DescribeTaskDefinition adds and without its family."""
    problems = template_problems(template)
    if problems:
        raise UnsupportedRun(f"{source} cannot be used: {'; '.join(problems)}")
    dropped = NOT_FOR_REGISTRATION | {"family"}
    definition = canonical({key: value for key, value in template.items() if key not in dropped})
    if _flow_container(definition) is None:
        definition.setdefault("containerDefinitions", []).append({"name": FLOW_CONTAINER})
    return definition


def _source(ecs_run: EcsRun) -> str:
    if ecs_run.task_definition:
        return "task_definition"
    if ecs_run.task_definition_path:
        return f"the task definition template {shorten(ecs_run.task_definition_path)}"
    return "the agent's own task definition template"


def _flow_container(definition: Document) -> Any:
    containers = definition.get("containerDefinitions") or ()
    return next((container for container in containers if container.get("name") == FLOW_CONTAINER), None)


def _set_environment(container: dict[str, Any], reference: str | None) -> None:
    env = {**pairs_of(container.get("environment", ())), IMAGE_VARIABLE: container["image"]}
    if reference:
        # ECS refuses a container in which a variable and a secret have one name.
        env = {name: value for name, value in env.items() if name not in KEY_VARIABLES}
        others = [entry for entry in container.get("secrets", ()) if entry["name"] not in KEY_VARIABLES]
        container["secrets"] = others + secrets_of(reference)
    container["environment"] = list_of(env)


def _family(image: str, definition: Document) -> str:
    """A name that says which image and is the same for the same content: at most 255 of [A-Za-z0-9_-]."""
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", image.rsplit("/", 1)[-1])[:_SLUG_LENGTH].strip("-")
    digest = hashlib.sha256(canonical_text(definition).encode()).hexdigest()[:_HASH_LENGTH]
    return f"prefect-{slug}-{digest}" if slug else f"prefect-{digest}"
