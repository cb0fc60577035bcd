"""Scheduler and kubelet: what becomes of pods, when a test says so."""

from __future__ import annotations

import uuid
from typing import Any

from tests.doubles.kubernetes import controller, events
from tests.doubles.kubernetes.refusals import Row, bad_request
from tests.doubles.kubernetes.resources import PODS
from tests.doubles.kubernetes.routes import Request
from tests.doubles.kubernetes.store import Store

KUBELET = "kubelet"
SCHEDULER = "default-scheduler"


def leave_unscheduled(store: Store, pod: Row, message: str) -> None:
    """Let no node have room for a pod."""
    with store.change(PODS, pod) as changed:
        _set_condition(store, changed, "PodScheduled", False, "Unschedulable", message)
    events.tell(store, pod, "FailedScheduling", message, SCHEDULER, warning=True)


def schedule(store: Store, pod: Row, node: str) -> Row:
    """Give a pod its node, unless it has one; its containers wait to be created."""
    if "nodeName" in pod["spec"]:
        return pod
    with store.change(PODS, pod) as changed:
        changed["spec"]["nodeName"] = node
        changed["status"] |= {"startTime": store.now_text(), "hostIP": "10.0.0.1"}
        _set_condition(store, changed, "PodScheduled", True)
        _set_states(changed, {"waiting": {"reason": "ContainerCreating"}})
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    events.tell(store, pod, "Scheduled", f"Successfully assigned {namespace}/{name} to {node}", SCHEDULER)
    return changed


def start(store: Store, pod: Row, node: str) -> Row:
    """Let a pod run: its images are pulled, its containers started."""
    pod = schedule(store, pod, node)
    with store.change(PODS, pod) as changed:
        changed["status"] |= {"phase": "Running", "podIP": "10.1.0.1"}
        _set_condition(store, changed, "Ready", True)
        _set_states(changed, {"running": {"startedAt": store.now_text()}})
    for container in pod["spec"]["containers"]:
        name, image = container["name"], container["image"]
        events.tell(store, pod, "Pulled", f'Successfully pulled image "{image}" in 1s (1s including waiting).', KUBELET)
        events.tell(store, pod, "Created", f"Created container: {name}", KUBELET)
        events.tell(store, pod, "Started", f"Started container {name}", KUBELET)
    return changed


def wait_for_image(store: Store, pod: Row, node: str, reason: str, message: str) -> None:
    """Let a pod wait for an image that cannot be had."""
    pod = schedule(store, pod, node)
    with store.change(PODS, pod) as changed:
        _set_condition(store, changed, "Ready", False, "ContainersNotReady")
        _set_states(changed, {"waiting": {"reason": reason, "message": message}})
    image = pod["spec"]["containers"][0]["image"]
    events.tell(store, pod, "Pulling", f'Pulling image "{image}"', KUBELET)
    events.tell(store, pod, "Failed", f'Failed to pull image "{image}": {message}', KUBELET, warning=True)
    events.tell(store, pod, "Failed", f"Error: {reason}", KUBELET, warning=True)
    if reason == "ImagePullBackOff":
        events.tell(store, pod, "BackOff", f'Back-off pulling image "{image}"', KUBELET)


def finish(store: Store, pod: Row, exit_code: int, reason: str, message: str) -> None:
    """Let a pod's containers exit; one that failed and is to be restarted runs again, and its restarts count."""
    end: Row = {"exitCode": exit_code, "reason": reason, "finishedAt": store.now_text()}
    end |= {"message": message} if message else {}
    with store.change(PODS, pod) as changed:
        for row in changed["status"]["containerStatuses"]:
            end["startedAt"] = row["state"].get("running", {}).get("startedAt", store.now_text())
            if exit_code and pod["spec"]["restartPolicy"] == "OnFailure":
                row |= {"lastState": {"terminated": dict(end)}, "restartCount": row["restartCount"] + 1}
                row["state"] = {"running": {"startedAt": store.now_text()}}
            else:
                row |= {"state": {"terminated": dict(end)}, "ready": False, "started": False}
                changed["status"]["phase"] = "Failed" if exit_code else "Succeeded"
        if changed["status"]["phase"] in controller.ENDED:
            _set_condition(store, changed, "Ready", False, "PodFailed" if exit_code else "PodCompleted")


def evict(store: Store, pod: Row, message: str) -> None:
    """Let the kubelet throw a pod out for want of resources."""
    with store.change(PODS, pod) as changed:
        changed["status"] |= {"phase": "Failed", "reason": "Evicted", "message": message}
        _set_condition(store, changed, "DisruptionTarget", True, "TerminationByKubelet", message)
        end = {"exitCode": 137, "reason": "Error", "startedAt": store.now_text(), "finishedAt": store.now_text()}
        _set_states(changed, {"terminated": end})
    events.tell(store, pod, "Evicted", message, KUBELET, warning=True)


def lose_node(store: Store, node: str, deleted: bool) -> None:
    """Let nothing be heard of a node any more: its pods stay as they were last seen; with `deleted` they are gone."""
    for pod in list(store.objects[PODS.plural].values()):
        if pod["spec"].get("nodeName") != node or pod["status"]["phase"] in controller.ENDED:
            continue
        if deleted:
            controller.remove_pod(store, pod)
            continue
        message = f"Node {node} which was running pod {pod['metadata']['name']} is unresponsive"
        with store.change(PODS, pod) as changed:
            changed["status"] |= {"reason": "NodeLost", "message": message}
            _set_condition(store, changed, "Ready", False, "NodeLost")
        events.tell(store, pod, "NodeNotReady", "Node is not ready", "node-controller", warning=True)


def read_log(store: Store, request: Request) -> str:
    """What a container has written; refuses one that has not begun, or cannot be told from others."""
    pod = store.get(PODS, request.namespace, request.name or "")
    name, names = pod["metadata"]["name"], [row["name"] for row in pod["spec"]["containers"]]
    container = request.query.get("container") or (names[0] if len(names) == 1 else "")
    if not container:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    if container not in names:
        raise bad_request(f"container {container} is not valid for pod {name}")
    if "nodeName" not in pod["spec"]:
        raise bad_request(f"pod {name} does not have a host assigned")
    state = next(row["state"] for row in pod["status"]["containerStatuses"] if row["name"] == container)
    if "waiting" in state:
        reason = state["waiting"]["reason"]
        # The kubelet has words of its own for images that it cannot get.
        why = "trying and failing to pull image" if reason in ("ErrImagePull", "ImagePullBackOff") else reason
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {why}')
    return _cut(store.logs.get(pod["metadata"]["uid"], ""), request)


def _cut(text: str, request: Request) -> str:
    try:
        lines, size = (int(request.query.get(name) or -1) for name in ("tailLines", "limitBytes"))
    except ValueError as error:
        raise bad_request(f"strconv.ParseInt: {error}") from None
    if lines >= 0:
        kept = text.splitlines(keepends=True)
        text = "".join(kept[max(0, len(kept) - lines) :])
    return text.encode()[:size].decode(errors="ignore") if size > 0 else text


def _set_states(pod: Row, state: Row) -> None:
    """Let every container of a pod be in one state."""
    running = "running" in state
    rows: list[Row] = pod["status"].get("containerStatuses") or [_container(row) for row in pod["spec"]["containers"]]
    for row in rows:
        row |= {"state": dict(state), "ready": running, "started": running}
        if running:
            row |= {"containerID": f"containerd://{uuid.uuid4().hex}", "imageID": f"{row['image']}@sha256:0"}
    pod["status"]["containerStatuses"] = rows


def _container(container: Row) -> Row:
    names = {"name": container["name"], "image": container["image"], "imageID": ""}
    return names | {"restartCount": 0, "lastState": {}}


def _set_condition(store: Store, pod: Row, kind: str, holds: bool, reason: str = "", message: str = "") -> None:
    condition: dict[str, Any] = {"type": kind, "status": str(holds), "lastTransitionTime": store.now_text()}
    condition |= {name: text for name, text in (("reason", reason), ("message", message)) if text}
    others = [row for row in pod["status"].get("conditions", ()) if row["type"] != kind]
    pod["status"]["conditions"] = [*others, condition]
