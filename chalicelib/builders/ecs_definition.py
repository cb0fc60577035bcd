"""Task definitions, registered by content: nothing in them differs between two runs of one flow."""

from __future__ import annotations

import hashlib
import json
import re
from copy import deepcopy
from typing import Any

from chalicelib.builders import flow_container as flows
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.ecs_documents import list_of, pairs_of, text_sized
from chalicelib.builders.run_configs import EcsRun
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Document, Flow

_SLUG_LENGTH = 40
_HASH_LENGTH = 20


def build_definition(
    flow: Flow, ecs_run: EcsRun, template: Document, defaults: EcsDefaults, overriding_role: str | None
) -> dict[str, Any]:
    """The RegisterTaskDefinition request that a checked template becomes for `flow`, its family named by its content.

    `overriding_role` is an execution role that only RunTask arguments name: registration asks for one too, as soon as
    there are secrets. Raises UnsupportedRun.
    """
    definition = deepcopy(text_sized(template))
    container = _flow_container(definition)
    if container is None:
        container = {"name": flows.FLOW_CONTAINER}
        definition.setdefault("containerDefinitions", []).append(container)
    container["image"] = flows.flow_image(flow, ecs_run.image, container.get("image"))
    _set_environment(container, defaults.container.secret_reference)
    role = ecs_run.execution_role_arn or defaults.execution_role_arn or overriding_role
    if role:
        definition.setdefault("executionRoleArn", role)
    if defaults.effective_launch_type:
        definition.setdefault("requiresCompatibilities", [defaults.effective_launch_type])
    definition.pop("family", None)
    return {"family": _family(container["image"], definition), **definition}


def check_existing(flow: Flow, definition: Document, defaults: EcsDefaults) -> bool:
    """Whether the definition that a run names itself hands its flow container the key as a secret.

    Where that is not needed the answer is False. Raises UnsupportedRun when this definition cannot run `flow`, or when
    the secret is missing and the key may not be given in plain either.
    """
    if flow.storage.get("type") == "Docker":
        raise UnsupportedRun(
            "Cannot provide `task_definition_arn` when using `Docker` storage: leave it out, or use another storage"
        )
    container = _flow_container(definition)
    if container is None:
        raise UnsupportedRun(
            f"the task definition of task_definition_arn has no container named {flows.FLOW_CONTAINER!r}"
        )
    settings, needed = defaults.container, flows.key_variable(flow.core_version)
    if not settings.secret_reference:
        return False
    if needed in pairs_of(container.get("secrets", ())):
        return True
    if defaults.allow_plain_api_key and (settings.api_key or settings.auth_token):
        return False
    raise secret_missing(flows.FLOW_CONTAINER, needed, _secrets(settings.secret_reference))


def secret_missing(container: str, needed: str, secrets: list[dict[str, str]]) -> UnsupportedRun:
    """What is wrong with a run's own task definition that does not show its container the key as a secret."""
    lines = json.dumps({"secrets": secrets})[1:-1]
    return UnsupportedRun(
        f"the task definition of task_definition_arn does not give its container {container!r} the secret "
        f"{needed}; add to that container: {lines} (or let the agent pass the key in plain: AGENT_ALLOW_PLAIN_API_KEY)"
    )


def _flow_container(definition: Document) -> Any:
    containers = definition.get("containerDefinitions", ())
    return next((container for container in containers if container["name"] == flows.FLOW_CONTAINER), None)


def _set_environment(container: dict[str, Any], reference: str | None) -> None:
    env = flows.without_keys(pairs_of(container.get("environment", ())))
    container["environment"] = list_of({**env, flows.IMAGE_VARIABLE: container["image"]})
    if reference:
        others = [entry for entry in container.get("secrets", ()) if entry["name"] not in flows.KEY_VARIABLES]
        container["secrets"] = others + _secrets(reference)


def _secrets(reference: str) -> list[dict[str, str]]:
    """The `secrets` of a container definition that make the platform fill in the key variables."""
    return [{"name": name, "valueFrom": reference} for name in flows.KEY_VARIABLES]


def _family(image: str, definition: Document) -> str:
    """A name that says which image and is the same for the same content: at most 255 of [A-Za-z0-9_-]."""
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", image.rsplit("/", 1)[-1])[:_SLUG_LENGTH].strip("-")
    return f"prefect-{slug}-{content_hash(definition)}" if slug else f"prefect-{content_hash(definition)}"


def content_hash(definition: Document) -> str:
    """The same for the same content: 20 characters of [0-9a-f]."""
    content = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:_HASH_LENGTH]
