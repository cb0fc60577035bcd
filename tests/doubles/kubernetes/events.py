"""Events: what components tell of an object, told once and counted."""

from __future__ import annotations

from tests.doubles.kubernetes.refusals import Row
from tests.doubles.kubernetes.resources import EVENTS, JOBS, PODS, Resource
from tests.doubles.kubernetes.store import Store, generate_name


def tell(store: Store, about: Row, reason: str, message: str, component: str, warning: bool = False) -> Row:
    """Tell an event of a Job or pod. The same once more is the same event with a higher count and a later time."""
    for event in store.objects[EVENTS.plural].values():
        same = (event["involvedObject"]["uid"], event["reason"], event["message"])
        if same == (about["metadata"]["uid"], reason, message):
            with store.change(EVENTS, event) as changed:
                changed["count"] += 1
                changed["lastTimestamp"] = store.now_text()
            return changed
    return store.add(EVENTS, _event(store, about, reason, message, component, warning))


def times(store: Store, about: Row, reason: str) -> set[str]:
    """When something was last told of an object, for each message that it had."""
    uid = about["metadata"]["uid"]
    rows = store.objects[EVENTS.plural].values()
    return {row["lastTimestamp"] for row in rows if (row["involvedObject"]["uid"], row["reason"]) == (uid, reason)}


def _event(store: Store, about: Row, reason: str, message: str, component: str, warning: bool) -> Row:
    resource = _resource(about)
    metadata = about["metadata"]
    return {
        "metadata": {"name": generate_name(f"{metadata['name']}.")[-253:], "namespace": metadata["namespace"]},
        "involvedObject": {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "message": message,
        "source": {"component": component},
        "firstTimestamp": store.now_text(),
        "lastTimestamp": store.now_text(),
        "count": 1,
        "type": "Warning" if warning else "Normal",
        "reportingComponent": component,
        "reportingInstance": "",
    }


def _resource(about: Row) -> Resource:
    return JOBS if "template" in about["spec"] else PODS
