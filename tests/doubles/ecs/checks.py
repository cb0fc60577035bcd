"""What ECS asks of requests beyond their shape."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tests.doubles.ecs.protocol import Refusal, invalid

OVERRIDES_LIMIT = 8192
TAGS_LIMIT = 50

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_STARTED_BY = re.compile(r"[A-Za-z0-9/_-]{0,128}")
_TOKEN = re.compile(r"[!-~]{1,64}")
_TAG_TEXT = re.compile(r"[\w\s+\-=._:/@]*")
_SIZES = {"256": (512, 2048), "512": (1024, 4096), "1024": (2048, 8192), "2048": (4096, 16384), "4096": (8192, 30720)}
_LARGE_SIZES = {"8192": (16384, 61440, 4096), "16384": (32768, 122880, 8192)}


def client_error(message: str) -> Refusal:
    """What ECS says to a request that does not fit together."""
    return Refusal("ClientException", message)


def check_name(name: str, what: str) -> None:
    """Names of clusters, families and containers."""
    if not _NAME.fullmatch(name):
        raise client_error(f"{what} contains invalid characters or is longer than 255.")


def check_tags(tags: Sequence[Mapping[str, str]]) -> None:
    """Number, length, characters and prefix of tags."""
    keys = [tag.get("key", "") for tag in tags]
    if len(tags) > TAGS_LIMIT:
        raise invalid("Too many tags.")
    if len(set(keys)) < len(keys):
        raise invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    for key, value in zip(keys, (tag.get("value", "") for tag in tags), strict=True):
        if not 1 <= len(key) <= 128 or key.lower().startswith("aws:") or not _TAG_TEXT.fullmatch(key):
            raise invalid(f"Invalid tag key: {key}")
        if len(value) > 256 or not _TAG_TEXT.fullmatch(value):
            raise invalid(f"Invalid tag value of {key}")


def check_run_task(parameters: Mapping[str, Any]) -> None:
    """What of a RunTask request can be judged without knowing anything else."""
    if not 1 <= parameters.get("count", 1) <= 10:
        raise invalid("count must be between 1 and 10.")
    if not _STARTED_BY.fullmatch(parameters.get("startedBy", "")):
        raise invalid("startedBy: up to 128 letters, numbers, hyphens, slashes and underscores are allowed.")
    if not _TOKEN.fullmatch(parameters.get("clientToken", "-")):
        raise invalid("clientToken must be 1 to 64 characters in the range of 33-126.")
    if len(json.dumps(parameters.get("overrides", {}), separators=(",", ":"), ensure_ascii=False)) > OVERRIDES_LIMIT:
        raise invalid(f"Container Overrides length must be at most {OVERRIDES_LIMIT}")
    if parameters.get("launchType") and parameters.get("capacityProviderStrategy"):
        raise invalid("Specifying both a launch type and capacity provider strategy is not supported.")
    check_tags(parameters.get("tags", []))


def check_fit(parameters: Mapping[str, Any], definition: Mapping[str, Any]) -> None:
    """Whether a RunTask request and its task definition go together."""
    names = {container["name"] for container in definition["containerDefinitions"]}
    for override in parameters.get("overrides", {}).get("containerOverrides", []):
        if override.get("name") not in names:
            raise invalid(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )
    is_awsvpc = definition.get("networkMode") == "awsvpc"
    if is_awsvpc and not parameters.get("networkConfiguration"):
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    if not is_awsvpc and parameters.get("networkConfiguration"):
        raise invalid("Network Configuration is not valid for the given networkMode of this task definition.")
    if parameters.get("launchType") == "FARGATE" and "FARGATE" not in definition["compatibilities"]:
        raise invalid("Task definition does not support launch_type FARGATE.")


def check_definition(parameters: Mapping[str, Any]) -> None:
    """What ECS asks of a new task definition."""
    check_name(parameters["family"], "Family")
    containers = parameters["containerDefinitions"]
    if not containers:
        raise client_error("Container list cannot be empty.")
    for container in containers:
        _check_container(container, "memory" in parameters)
    has_secrets = any(container.get("secrets") for container in containers)
    if has_secrets and not parameters.get("executionRoleArn"):
        text = "When you are specifying container secrets, you must also specify a value for 'executionRoleArn'."
        raise client_error(text)
    if "FARGATE" in parameters.get("requiresCompatibilities", []):
        _check_fargate(parameters)
    check_tags(parameters.get("tags", []))


def _check_container(container: Mapping[str, Any], task_has_memory: bool) -> None:
    if not container.get("name") or not container.get("image"):
        raise client_error("Container.name and Container.image should not be null or empty.")
    check_name(container["name"], "Container name")
    if not task_has_memory and not container.get("memory") and not container.get("memoryReservation"):
        text = "At least one of 'memory' or 'memoryReservation' must be specified."
        raise client_error(f"Invalid setting for container '{container['name']}'. {text}")
    secrets = {secret["name"] for secret in container.get("secrets", [])}
    if secrets & {entry.get("name") for entry in container.get("environment", [])}:
        raise client_error(
            "The secret name must be unique and not shared with any new or existing environment variables."
        )


def _check_fargate(parameters: Mapping[str, Any]) -> None:
    if parameters.get("networkMode") != "awsvpc":
        raise client_error("Fargate only supports network mode 'awsvpc'.")
    if not {"cpu", "memory"} <= parameters.keys():
        raise client_error("Fargate requires that 'cpu' be defined at the task level.")
    if not has_fargate_size(parameters["cpu"], parameters["memory"]):
        raise client_error("No Fargate configuration exists for given values.")


def has_fargate_size(cpu: str, memory: str) -> bool:
    """Whether Fargate has tasks of this size; text such as `1 vcpu` or `2 GB` counts too."""
    units, mebibytes = _number(cpu, "vcpu"), _number(memory, "gb")
    if str(units) in _LARGE_SIZES:
        least, most, step = _LARGE_SIZES[str(units)]
        return least <= mebibytes <= most and (mebibytes - least) % step == 0
    if str(units) not in _SIZES:
        return False
    least, most = _SIZES[str(units)]
    return least <= mebibytes <= most and mebibytes % (512 if mebibytes < 1024 else 1024) == 0


def _number(text: str, unit: str) -> int:
    lowered = text.lower().replace(" ", "")
    try:
        return int(float(lowered.removesuffix(unit)) * 1024) if lowered.endswith(unit) else int(lowered)
    except ValueError:
        raise client_error(f"Invalid setting {text!r}.") from None
