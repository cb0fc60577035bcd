"""ECS's documents as people write them: what is wrong with them, by where it is and never by what stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from chalicelib.errors import shorten
from chalicelib.flow_runs import Document

SUBNETS_LIMIT = 16
"""How many subnets an awsvpcConfiguration takes, as AWS documents it."""

Check = Callable[[str, Document], list[str]]
"""What ECS's own model finds wrong with (a part of) a request of an operation: one line each, none if all is right."""


def text_sized(document: Document) -> dict[str, Any]:
    """The document with a task's `cpu` and `memory` as the text that ECS takes: people write numbers."""
    return {
        **document,
        **{size: str(document[size]) for size in ("cpu", "memory") if isinstance(document.get(size), (int, float))},
    }


def default_network(subnets: Sequence[str]) -> dict[str, Any]:
    """The `networkConfiguration` of tasks in these subnets, as far as they fit into one, with public addresses."""
    return {"awsvpcConfiguration": {"subnets": list(subnets[:SUBNETS_LIMIT]), "assignPublicIp": "ENABLED"}}


def template_problems(template: Document, check: Check) -> list[str]:
    """What is wrong with a task definition template, one line each; empty when the agent can work on it."""
    return check("RegisterTaskDefinition", text_sized(template)) or [
        *_containers_problems(template.get("containerDefinitions", ()), "containerDefinitions"),
        *_names_problems(template.get("tags", ()), "tags", "key"),
    ]


def run_task_problems(arguments: Document, check: Check) -> list[str]:
    """What is wrong with RunTask arguments that a run or the agent gives, one line each."""
    overrides = arguments.get("overrides", {})
    tidied = {"overrides": text_sized(overrides)} if isinstance(overrides, dict) else {}
    problems = check("RunTask", {**arguments, **tidied})
    if problems:
        return problems
    if "taskDefinition" in arguments:
        problems.append("taskDefinition cannot be given here: use the run config's task_definition_arn")
    if arguments.get("count", 1) != 1:
        problems.append(f"count is {arguments['count']}, and a flow run is one task: leave it out")
    if "clientToken" in arguments:
        problems.append("clientToken cannot be given: it is the launch key, by which nothing is launched twice")
    if arguments.get("launchType") and arguments.get("capacityProviderStrategy"):
        problems.append("launchType and capacityProviderStrategy exclude each other")
    problems += _names_problems(arguments.get("tags", ()), "tags", "key")
    return problems + _containers_problems(overrides.get("containerOverrides", ()), "overrides.containerOverrides")


def _containers_problems(containers: Iterable[Document], where: str) -> list[str]:
    problems = _names_problems(containers, where)
    for index, container in enumerate(containers):
        at = f"{where}[{index}]"
        if container.get("image") == "":
            problems.append(f"{at}.image is empty: name one or leave it out")
        for field in ("environment", "secrets"):
            problems += _names_problems(container.get(field, ()), f"{at}.{field}")
    return problems


def _names_problems(entries: Iterable[Document], where: str, name_field: str = "name") -> list[str]:
    """What ECS's model does not say: each entry has a name, and no process could be given a NUL."""
    problems = []
    for index, entry in enumerate(entries):
        name = entry.get(name_field)
        if not name:
            problems.append(f"{where}[{index}] has no {name_field}")
        elif "\x00" in f"{name}{entry.get('value')}":
            problems.append(f"{where}[{index}]: {shorten(name, 60)} has a NUL character: take it out")
    return problems


def pairs_of(entries: Iterable[Document], name_field: str = "name") -> dict[str, str]:
    """A list of named values as a mapping; of two with one name the later stays."""
    return {entry[name_field]: entry.get("value", "") for entry in entries}


def list_of(pairs: Mapping[str, str], name_field: str = "name") -> list[dict[str, str]]:
    """A mapping as AWS's list of named values, sorted by name: the order has no meaning there."""
    return [{name_field: name, "value": value} for name, value in sorted(pairs.items())]
