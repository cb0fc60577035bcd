"""What is checked of a task definition template and of RunTask arguments before the agent works on them."""

from __future__ import annotations

from collections.abc import Mapping

from chalicelib.builders.documents import kind_of, null_problems, pairs_problems
from chalicelib.errors import shorten
from chalicelib.flow_runs import Document

FLOW_CONTAINER = "flow"
"""The container that runs the flow; all others are its sidecars."""

RUN_TASK_ARGUMENTS = frozenset(
    {
        "capacityProviderStrategy",
        "clientToken",
        "cluster",
        "count",
        "enableECSManagedTags",
        "enableExecuteCommand",
        "group",
        "launchType",
        "networkConfiguration",
        "overrides",
        "placementConstraints",
        "placementStrategy",
        "platformVersion",
        "propagateTags",
        "referenceId",
        "startedBy",
        "tags",
        "taskDefinition",
        "volumeConfigurations",
    }
)
"""The arguments of ECS's RunTask, as botocore's service model lists them."""

NOT_FOR_REGISTRATION = frozenset(
    {
        "compatibilities",
        "deleteRequestedAt",
        "deregisteredAt",
        "registeredAt",
        "registeredBy",
        "requiresAttributes",
        "revision",
        "status",
        "taskDefinitionArn",
    }
)
"""What DescribeTaskDefinition shows and RegisterTaskDefinition refuses: templates are often made from the former."""


def template_problems(template: object) -> list[str]:
    """What is wrong with a task definition template, one line each; empty when the agent can work on it."""
    if not isinstance(template, Mapping):
        return [f"it is {kind_of(template)}, not an object"]
    kept = {key: value for key, value in template.items() if key not in NOT_FOR_REGISTRATION}
    problems = _containers_problems(kept.get("containerDefinitions", []), "containerDefinitions")
    problems += pairs_problems(kept["tags"], "tags", "key") if "tags" in kept else []
    # Only where the shape is right can the one null that is allowed be told from the others.
    return problems or null_problems(_without_empty_image(kept), "")


def _without_empty_image(template: Document) -> Document:
    """The template without the null image of its flow container, for which the agent finds one."""
    containers = [
        {key: value for key, value in container.items() if key != "image" or value is not None}
        if container["name"] == FLOW_CONTAINER
        else container
        for container in template.get("containerDefinitions", [])
    ]
    return {**template, "containerDefinitions": containers}


def run_task_problems(arguments: object) -> list[str]:
    """What is wrong with RunTask arguments that a run or the agent gives, one line each."""
    if not isinstance(arguments, Mapping):
        return [f"it is {kind_of(arguments)}, not an object"]
    unknown = sorted(shorten(str(name), 60) for name in arguments if name not in RUN_TASK_ARGUMENTS)
    problems = [f"ECS's RunTask has no argument {', '.join(unknown)}"] if unknown else []
    if "taskDefinition" in arguments:
        problems.append("taskDefinition cannot be given here: use the run config's task_definition_arn")
    if arguments.get("count", 1) != 1:
        problems.append(f"count is {shorten(str(arguments['count']), 20)}, and a flow run is one task: leave it out")
    if "clientToken" in arguments:
        problems.append("clientToken cannot be given: it is the launch key, by which nothing is launched twice")
    if arguments.get("launchType") and arguments.get("capacityProviderStrategy"):
        problems.append("launchType and capacityProviderStrategy exclude each other")
    problems += pairs_problems(arguments["tags"], "tags", "key") if "tags" in arguments else []
    problems += _overrides_problems(arguments["overrides"]) if "overrides" in arguments else []
    return problems or null_problems(arguments, "")


def _overrides_problems(overrides: object) -> list[str]:
    if not isinstance(overrides, Mapping):
        return [f"overrides is {kind_of(overrides)}, not an object"]
    return _containers_problems(overrides.get("containerOverrides", []), "overrides.containerOverrides")


def _containers_problems(entries: object, where: str) -> list[str]:
    if not isinstance(entries, (list, tuple)):
        return [f"{where} is {kind_of(entries)}, not a list"]
    return [
        problem for index, entry in enumerate(entries) for problem in _container_problems(entry, f"{where}[{index}]")
    ]


def _container_problems(container: object, where: str) -> list[str]:
    if not isinstance(container, Mapping):
        return [f"{where} is {kind_of(container)}, not an object"]
    problems = []
    if not isinstance(container.get("name"), str) or not container["name"]:
        problems.append(f"{where} has no name")
    image = container.get("image")
    if image is not None and (not image or not isinstance(image, str)):
        problems.append(f"{where}.image is not the name of an image")
    for field, value_field in (("environment", "value"), ("secrets", "valueFrom")):
        if field in container:
            problems += pairs_problems(container[field], f"{where}.{field}", value_field=value_field)
    return problems
