"""The actions on task definitions."""

from __future__ import annotations

from typing import Any

from tests.doubles.ecs.checks import check_definition, client_error
from tests.doubles.ecs.protocol import invalid
from tests.doubles.ecs.store import Row, Store

Parameters = dict[str, Any]

_NOT_FOUND = "Unable to describe task definition."


def register(store: Store, parameters: Parameters) -> Row:
    """RegisterTaskDefinition: always a new revision, also of the same content."""
    check_definition(parameters)
    store.allow_roles(parameters.get("taskRoleArn"), parameters.get("executionRoleArn"))
    rows = store.definitions.setdefault(parameters["family"], [])
    revision = len(rows) + 1
    arn = store.arn("task-definition", f"{parameters['family']}:{revision}")
    asked = parameters.get("requiresCompatibilities", [])
    row = {
        "volumes": [],
        "placementConstraints": [],
        **{name: value for name, value in parameters.items() if name != "tags"},
        "taskDefinitionArn": arn,
        "revision": revision,
        "status": "ACTIVE",
        "compatibilities": sorted({"EC2", *asked} | ({"FARGATE"} if _fits_fargate(parameters) else set())),
        "registeredAt": store.clock.now(),
    }
    row["containerDefinitions"] = [_completed(container) for container in parameters["containerDefinitions"]]
    rows.append(row)
    store.tags[arn] = list(parameters.get("tags", []))
    return {"taskDefinition": row, "tags": store.tags[arn]}


def _fits_fargate(parameters: Parameters) -> bool:
    return parameters.get("networkMode") == "awsvpc" and {"cpu", "memory"} <= parameters.keys()


def _completed(container: Row) -> Row:
    empty: Row = {
        "cpu": 0,
        "portMappings": [],
        "essential": True,
        "environment": [],
        "mountPoints": [],
        "volumesFrom": [],
    }
    return {**empty, **container}


def describe(store: Store, parameters: Parameters) -> Row:
    """DescribeTaskDefinition, of an INACTIVE one too."""
    row = store.definition(parameters["taskDefinition"])
    if row is None:
        raise client_error(_NOT_FOUND)
    tags = {"tags": store.tags[row["taskDefinitionArn"]]} if "TAGS" in parameters.get("include", []) else {}
    return {"taskDefinition": row, **tags}


def deregister(store: Store, parameters: Parameters) -> Row:
    """DeregisterTaskDefinition: INACTIVE from now on."""
    given = parameters["taskDefinition"]
    if ":" not in given.rpartition("/")[2]:
        raise client_error("Revision is missing.")
    row = store.definition(given)
    if row is None:
        raise client_error("Unable to describe task definition.")
    row.update(status="INACTIVE", deregisteredAt=store.clock.now())
    return {"taskDefinition": row}


def list_definitions(store: Store, parameters: Parameters) -> Row:
    """ListTaskDefinitions of one status, all of a family if asked."""
    status, family = parameters.get("status", "ACTIVE"), parameters.get("familyPrefix")
    rows = [row for name, rows in sorted(store.definitions.items()) if family in (None, name) for row in rows]
    arns = [row["taskDefinitionArn"] for row in rows if row["status"] == status]
    if parameters.get("sort") == "DESC":
        arns.reverse()
    return page(arns, "taskDefinitionArns", parameters)


def delete(store: Store, parameters: Parameters) -> Row:
    """DeleteTaskDefinitions: only what is INACTIVE; nobody finds it again."""
    deleted, failures = [], []
    for given in parameters["taskDefinitions"]:
        row = store.definition(given)
        if row is None or row["status"] != "INACTIVE":
            reason = "The specified task definition does not exist." if row is None else "must be INACTIVE"
            failures.append({"arn": given, "reason": reason})
        else:
            row.update(status="DELETE_IN_PROGRESS", deleteRequestedAt=store.clock.now())
            deleted.append(row)
    return {"taskDefinitions": deleted, "failures": failures}


def page(arns: list[str], name: str, parameters: Parameters) -> Row:
    """The part of a list that `nextToken` and `maxResults` (100 at most) ask for."""
    size = parameters.get("maxResults", 100)
    if not 1 <= size <= 100:
        raise invalid("maxResults must be between 1 and 100.")
    begin = parameters.get("nextToken", "0")
    if not begin.isdecimal():
        raise invalid("Invalid token")
    end = int(begin) + size
    return {name: arns[int(begin) : end], "nextToken": str(end) if end < len(arns) else None}
