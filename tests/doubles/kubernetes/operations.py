"""What the server does for each verb and resource."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.doubles.kubernetes import access, controller, jobs, kubelet, resources
from tests.doubles.kubernetes.lists import list_objects
from tests.doubles.kubernetes.refusals import Row, method_not_allowed, no_such_path
from tests.doubles.kubernetes.resources import PODS, SUBRESOURCES, Resource
from tests.doubles.kubernetes.routes import Request
from tests.doubles.kubernetes.store import Store
from tests.doubles.kubernetes.transport import Answer

Operation = Callable[[Store, Request], Answer]


def operate(store: Store, request: Request) -> Answer:
    """Do what a request asks for and let the Jobs settle before and after; raises Refusal."""
    controller.settle(store)
    operation = _operation(request)
    answer = operation(store, request)
    controller.settle(store)
    return answer


def _operation(request: Request) -> Operation:
    if request.resource is None:
        return _document
    resource = request.resource
    if (request.subresource and request.what not in SUBRESOURCES) or (request.namespace and not resource.namespaced):
        raise no_such_path()
    if not request.subresource and request.verb not in resource.verbs:
        raise method_not_allowed()
    if request.verb == "list":
        return _list
    # Without a namespace there are only lists of what has one.
    if resource.namespaced and request.namespace is None:
        raise method_not_allowed()
    if request.verb == "get" and not request.subresource:
        return _get
    operation = OPERATIONS.get((request.verb, request.what))
    if operation is None:
        raise method_not_allowed()
    return operation


def _document(store: Store, request: Request) -> Answer:
    document = resources.document(request.path)
    if document is None:
        raise no_such_path()
    if request.verb != "get":
        raise method_not_allowed()
    return Answer(200, document, {})


def _list(store: Store, request: Request) -> Answer:
    return Answer(200, list_objects(store, request), {})


def _get(store: Store, request: Request) -> Answer:
    resource = request.served
    return Answer(200, _whole(resource, store.get(resource, request.namespace, request.name or "")), {})


def _create_job(store: Store, request: Request) -> Answer:
    job, headers = jobs.create(store, request)
    return Answer(201, _whole(request.served, job), headers)


def _delete_job(store: Store, request: Request) -> Answer:
    body, headers = jobs.delete(store, request)
    return Answer(200, body if body.get("kind") == "Status" else _whole(request.served, body), headers)


def _patch_job(store: Store, request: Request) -> Answer:
    return Answer(200, _whole(request.served, jobs.patch(store, request)), {})


def _delete_pod(store: Store, request: Request) -> Answer:
    pod = store.get(PODS, request.namespace, request.name or "")
    controller.remove_pod(store, pod)
    ending = {"deletionTimestamp": store.now_text(), "deletionGracePeriodSeconds": 30}
    return Answer(200, _whole(PODS, {**pod, "metadata": {**pod["metadata"], **ending}}), {})


def _read_log(store: Store, request: Request) -> Answer:
    return Answer(200, kubelet.read_log(store, request), {})


def _review(store: Store, request: Request) -> Answer:
    return Answer(201, access.review(store, request), {})


def _whole(resource: Resource, item: Row) -> dict[str, Any]:
    """An object by itself says what it is; within a list it does not."""
    return {"kind": resource.kind, "apiVersion": resource.api_version, **item}


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("create", "jobs"): _create_job,
    ("create", "selfsubjectaccessreviews"): _review,
    ("delete", "jobs"): _delete_job,
    ("delete", "pods"): _delete_pod,
    ("get", "jobs/status"): _get,
    ("get", "pods/log"): _read_log,
    ("get", "pods/status"): _get,
    ("patch", "jobs"): _patch_job,
}
