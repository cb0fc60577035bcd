"""The actions on clusters and on tags."""

from __future__ import annotations

from typing import Any

from tests.doubles.ecs.checks import check_name, check_tags
from tests.doubles.ecs.protocol import Refusal
from tests.doubles.ecs.store import Row, Store

Parameters = dict[str, Any]


def create_cluster(store: Store, parameters: Parameters) -> Row:
    """CreateCluster; one that exists is answered as it is."""
    name = parameters.get("clusterName", "default")
    check_name(name, "Cluster name")
    check_tags(parameters.get("tags", []))
    row = {"clusterName": name, "clusterArn": store.arn("cluster", name), "status": "ACTIVE"}
    store.clusters.setdefault(name, row)
    store.tags.setdefault(row["clusterArn"], list(parameters.get("tags", [])))
    return {"cluster": store.clusters[name]}


def describe_clusters(store: Store, parameters: Parameters) -> Row:
    """DescribeClusters, `default` when none is asked for."""
    found, failures = [], []
    for given in parameters.get("clusters") or ["default"]:
        row = store.clusters.get(given.rpartition("/")[2])
        if row is None:
            arn = given if given.startswith("arn:") else store.arn("cluster", given)
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            found.append({**row, **_counts(store, row), **_tags_if_asked(store, row, parameters)})
    return {"clusters": found, "failures": failures}


def _counts(store: Store, cluster: Row) -> Row:
    tasks = [task for task in store.tasks.values() if task["clusterArn"] == cluster["clusterArn"]]
    statuses = [task["lastStatus"] for task in tasks]
    pending = sum(status in ("PROVISIONING", "PENDING") for status in statuses)
    return {"runningTasksCount": statuses.count("RUNNING"), "pendingTasksCount": pending}


def _tags_if_asked(store: Store, cluster: Row, parameters: Parameters) -> Row:
    return {"tags": store.tags.get(cluster["clusterArn"], [])} if "TAGS" in parameters.get("include", []) else {}


def list_clusters(store: Store, parameters: Parameters) -> Row:
    """ListClusters."""
    return {"clusterArns": sorted(row["clusterArn"] for row in store.clusters.values())}


def tag_resource(store: Store, parameters: Parameters) -> Row:
    """TagResource on whatever exists; a tag of the same key is replaced."""
    arn = _existing(store, parameters["resourceArn"])
    merged = {tag["key"]: tag for tag in [*store.tags.get(arn, []), *parameters["tags"]]}
    check_tags(list(merged.values()))
    store.tags[arn] = list(merged.values())
    return {}


def list_tags(store: Store, parameters: Parameters) -> Row:
    """ListTagsForResource."""
    return {"tags": store.tags.get(_existing(store, parameters["resourceArn"]), [])}


def _existing(store: Store, arn: str) -> str:
    known = {row["clusterArn"] for row in store.clusters.values()} | store.tasks.keys()
    if arn not in known and not (":task-definition/" in arn and store.definition(arn)):
        raise Refusal("ResourceNotFoundException", "The specified resource was not found.")
    return arn
