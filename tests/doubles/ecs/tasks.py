"""The actions on tasks."""

from __future__ import annotations

import json
from typing import Any

from tests.doubles.ecs.checks import check_fit, check_run_task, client_error
from tests.doubles.ecs.definitions import page
from tests.doubles.ecs.life import begin_stop, enter
from tests.doubles.ecs.protocol import Refusal, invalid
from tests.doubles.ecs.store import Row, Store, Token

Parameters = dict[str, Any]

DESCRIBE_LIMIT = 100


def run(store: Store, parameters: Parameters) -> Row:
    """RunTask: new tasks, or those that the same client token started."""
    check_run_task(parameters)
    cluster = store.cluster(parameters.get("cluster"))
    store.allow("RunTask", store.arn("task-definition", parameters["taskDefinition"].rpartition("/")[2]))
    if parameters.get("tags"):
        store.allow("TagResource", store.arn("task", f"{cluster['clusterName']}/*"))
    definition = store.definition(parameters["taskDefinition"])
    if definition is None or definition["status"] == "DELETE_IN_PROGRESS":
        raise client_error("TaskDefinition not found.")
    if definition["status"] != "ACTIVE":
        raise client_error("TaskDefinition is inactive")
    check_fit(parameters, definition)
    _allow_roles(store, parameters, definition)
    repeated = _repeated(store, cluster, parameters)
    if repeated is not None:
        return {"tasks": repeated, "failures": []}
    tasks = [_new_task(store, cluster, definition, parameters) for _ in range(parameters.get("count", 1))]
    if "clientToken" in parameters:
        token = Token(_identity(parameters), tuple(task["taskArn"] for task in tasks), store.clock.now())
        store.tokens[cluster["clusterArn"], parameters["clientToken"]] = token
    return {"tasks": [_shown(store, task, with_tags=True) for task in tasks], "failures": []}


def _allow_roles(store: Store, parameters: Parameters, definition: Row) -> None:
    overrides = parameters.get("overrides", {})
    for kind in ("taskRoleArn", "executionRoleArn"):
        store.allow_roles(overrides.get(kind) or definition.get(kind))


def _identity(parameters: Parameters) -> str:
    return json.dumps({**parameters, "clientToken": None}, sort_keys=True)


def _repeated(store: Store, cluster: Row, parameters: Parameters) -> list[Row] | None:
    token = store.token(cluster, parameters["clientToken"]) if "clientToken" in parameters else None
    if token is None:
        return None
    if token.parameters != _identity(parameters):
        text = "The clientToken was used with other parameters."
        raise Refusal("ConflictException", text, resourceIds=list(token.task_arns))
    return [_repeated_task(store, store.tasks[arn]) for arn in token.task_arns]


def _repeated_task(store: Store, task: Row) -> Row:
    if task["lastStatus"] == "STOPPED":
        return {name: task[name] for name in ("taskArn", "lastStatus", "desiredStatus")}
    return _shown(store, task, with_tags=True)


def _new_task(store: Store, cluster: Row, definition: Row, parameters: Parameters) -> Row:
    task_id = store.new_id()
    arn = store.arn("task", f"{cluster['clusterName']}/{task_id}")
    overrides = parameters.get("overrides", {})
    task = {
        "taskArn": arn,
        "clusterArn": cluster["clusterArn"],
        "taskDefinitionArn": definition["taskDefinitionArn"],
        "desiredStatus": "RUNNING",
        "createdAt": store.clock.now(),
        "group": parameters.get("group", f"family:{definition['family']}"),
        "startedBy": parameters.get("startedBy"),
        "launchType": parameters.get("launchType")
        or ("FARGATE" if "capacityProviderStrategy" in parameters else "EC2"),
        "capacityProviderName": (parameters.get("capacityProviderStrategy") or [{}])[0].get("capacityProvider"),
        "cpu": overrides.get("cpu") or definition.get("cpu"),
        "memory": overrides.get("memory") or definition.get("memory"),
        "enableExecuteCommand": parameters.get("enableExecuteCommand", False),
        "overrides": {"containerOverrides": [], **overrides},
        "attachments": [],
        "version": 0,
        "containers": [_container(store, arn, each) for each in definition["containerDefinitions"]],
    }
    store.tasks[arn] = {name: value for name, value in task.items() if value is not None}
    inherited = store.tags[definition["taskDefinitionArn"]] if parameters.get("propagateTags") else []
    tags = {tag["key"]: tag for tag in [*inherited, *parameters.get("tags", [])]}
    store.tags[arn] = list(tags.values())
    enter(store, store.tasks[arn], "PROVISIONING")
    return store.tasks[arn]


def _container(store: Store, task_arn: str, definition: Row) -> Row:
    arn = store.arn("container", f"{task_arn.split('/', 1)[1]}/{store.new_id()}")
    values = {"name": definition["name"], "image": definition["image"], "lastStatus": "PENDING"}
    return {"containerArn": arn, "taskArn": task_arn, "networkInterfaces": [], "cpu": str(definition["cpu"]), **values}


def _shown(store: Store, task: Row, with_tags: bool) -> Row:
    return {**task, "tags": store.tags[task["taskArn"]] if with_tags else []}


def describe(store: Store, parameters: Parameters) -> Row:
    """DescribeTasks of at most 100; those that ECS does not know (any more) are MISSING."""
    cluster = store.cluster(parameters.get("cluster"))
    if not 1 <= len(parameters["tasks"]) <= DESCRIBE_LIMIT:
        raise invalid("Tasks cannot be empty." if not parameters["tasks"] else "Tasks can have at most 100 items.")
    found, failures = [], []
    for given in parameters["tasks"]:
        task = store.task(cluster, given)
        if task:
            found.append(_shown(store, task, "TAGS" in parameters.get("include", [])))
        else:
            arn = given if given.startswith("arn:") else store.arn("task", f"{cluster['clusterName']}/{given}")
            failures.append({"arn": arn, "reason": "MISSING"})
    return {"tasks": found, "failures": failures}


def list_tasks(store: Store, parameters: Parameters) -> Row:
    """ListTasks: those that are to run, or to stop when asked for; `startedBy` suffers no other filter."""
    cluster = store.cluster(parameters.get("cluster"))
    filters = parameters.keys() & {"containerInstance", "family", "serviceName", "desiredStatus", "launchType"}
    if "startedBy" in parameters and filters:
        raise invalid("startedBy must be the only filter.")
    wanted: Row = {name: parameters[name] for name in ("startedBy", "launchType") if name in parameters}
    wanted.update(clusterArn=cluster["clusterArn"], desiredStatus=parameters.get("desiredStatus", "RUNNING"))
    if "family" in parameters:
        wanted["group"] = f"family:{parameters['family']}"
    rows = [task for task in store.tasks.values() if wanted.items() <= _comparable(task) and store.is_known(task)]
    return page([task["taskArn"] for task in rows], "taskArns", parameters)


def _comparable(task: Row) -> Any:
    return {name: value for name, value in task.items() if isinstance(value, str)}.items()


def stop(store: Store, parameters: Parameters) -> Row:
    """StopTask: the task is to stop; its containers end when a test says so."""
    task = store.task(store.cluster(parameters.get("cluster")), parameters["task"])
    if task is None:
        raise invalid("The referenced task was not found.")
    if task["desiredStatus"] != "STOPPED":
        begin_stop(store, task, "UserInitiated", parameters.get("reason", "Task stopped by user"))
    return {"task": _shown(store, task, with_tags=False)}
