"""The task that ECS would start from a definition and a RunTask request, in a form that can be compared.

What is left out, because it differs on purpose: the family, `startedBy` and `count`, the tags that only this agent
sets, and the place of Prefect's two tags: the task's here, the definition's there, nowhere there for a definition of
the run's own.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PREFECT_TAGS = {"prefect:flow-id", "prefect:flow-version"}
_OUR_TAGS = {"prefect.io/flow_run_id", "prefect-agent:name"}
_OURS_ALWAYS = {"count", "startedBy"}


def effective_task(definition: Json, run_task: Json) -> Json:
    """Containers by name, task-level properties, launch arguments and tags, overrides applied."""
    overrides = run_task["overrides"]
    of_the_task = {
        key: value for key, value in definition.items() if key not in {"containerDefinitions", "family", "tags"}
    }
    of_the_task.update({key: value for key, value in overrides.items() if key != "containerOverrides"})
    launch = {key: value for key, value in run_task.items() if key not in {"overrides", "tags", *_OURS_ALWAYS}}
    if not launch.get("capacityProviderStrategy"):
        launch.pop("capacityProviderStrategy", None)
    own_tags = _pairs(definition.get("tags", []), "key")
    prefect_tags = {key: value for key, value in own_tags.items() if key in PREFECT_TAGS}
    tags = {**prefect_tags, **_pairs(run_task.get("tags", []), "key")}
    return {
        "containers": _containers(definition["containerDefinitions"], overrides["containerOverrides"]),
        "task": of_the_task,
        "launch": launch,
        "tags": {key: value for key, value in tags.items() if key not in _OUR_TAGS},
        "definition_tags": {key: value for key, value in own_tags.items() if key not in PREFECT_TAGS},
    }


def _containers(definitions: list[Json], overrides: list[Json]) -> Json:
    containers: Json = {}
    for part in [*definitions, *overrides]:
        container = containers.setdefault(part["name"], {"environment": {}})
        environment = {**container["environment"], **_pairs(part.get("environment", []))}
        container.update({**part, "environment": environment})
    return containers


def _pairs(entries: list[Json], name: str = "name") -> dict[str, str]:
    return {entry[name]: entry.get("value", "") for entry in entries}
