"""The Job controller: makes pods for Jobs, counts how they end, and says when a Job is finished.

It acts at once where the real one waits: there is no back-off between the pods of a Job, and pods that are deleted are
gone without their grace period.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import timedelta

from tests.doubles.kubernetes import access, events
from tests.doubles.kubernetes.refusals import Refusal, Row
from tests.doubles.kubernetes.resources import JOBS, PODS
from tests.doubles.kubernetes.store import Key, Store, generate_name, time_of

COMPONENT = "job-controller"
TRACKING = "batch.kubernetes.io/job-tracking"
"""The finalizer of a pod whose end is not counted yet."""

ENDED = ("Succeeded", "Failed")


def settle(store: Store) -> None:
    """Let every Job become what its pods and the time make of it: those that have changed, or change with the time."""
    unsettled, store.unsettled = store.unsettled, set()
    for key, job in list(store.objects[JOBS.plural].items()):
        if key in unsettled:
            _settle_job(store, job, store.pods_of(job))
            _look_again(store, key)


def _look_again(store: Store, key: Key) -> None:
    """Keep a Job in sight that time alone can change, or that lacks pods."""
    job = store.objects[JOBS.plural].get(key)
    if job is None:
        return
    spec, active = job["spec"], job["status"].get("active", 0)
    limit = "ttlSecondsAfterFinished" if is_finished(job) else "activeDeadlineSeconds"
    if spec.get(limit) is not None or (active < spec["parallelism"] and not is_finished(job)):
        store.unsettled.add(key)


def remove_job(store: Store, job: Row, with_pods: bool) -> None:
    """Forget a Job, and its pods or that they were its own."""
    store.remove(JOBS, job)
    for pod in store.pods_of(job):
        if with_pods:
            _drop(store, pod)
        else:
            with store.change(PODS, pod) as changed:
                changed["metadata"].pop("ownerReferences")
                changed["metadata"].pop("finalizers", None)


def remove_pod(store: Store, pod: Row) -> None:
    """Delete a pod; its Job counts one that had not ended as failed."""
    job = _job_of(store, pod)
    if job is not None and TRACKING in pod["metadata"].get("finalizers", ()) and not is_finished(job):
        ended = "succeeded" if pod["status"]["phase"] == "Succeeded" else "failed"
        with store.change(JOBS, job) as changed:
            changed["status"][ended] = changed["status"].get(ended, 0) + 1
    _drop(store, pod)


def is_finished(job: Row) -> bool:
    """Whether a Job is Complete or Failed."""
    return any(row["type"] in ("Complete", "Failed") for row in job["status"].get("conditions", ()))


def fail(store: Store, job: Row, reason: str, message: str) -> None:
    """Let a Job be Failed; its pods that run are deleted."""
    _end(store, job, ("FailureTarget", "Failed"), reason, message)
    events.tell(store, job, reason, message, COMPONENT, warning=True)
    for pod in store.pods_of(job):
        if pod["status"]["phase"] not in ENDED:
            _drop(store, pod)


def _settle_job(store: Store, job: Row, pods: list[Row]) -> None:
    if is_finished(job):
        _expire(store, job)
        return
    counted = _count(store, job, [pod for pod in pods if pod["status"]["phase"] in ENDED])
    active = [pod for pod in pods if pod["status"]["phase"] not in ENDED]
    spec, status = counted["spec"], counted["status"]
    succeeded, completions = status.get("succeeded", 0), spec.get("completions")
    if status.get("failed", 0) > spec["backoffLimit"] or _restarts_too_often(counted, active):
        fail(store, counted, "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    elif _is_overdue(store, counted):
        fail(store, counted, "DeadlineExceeded", "Job was active longer than specified deadline")
    elif succeeded >= completions if completions is not None else succeeded and not active:
        message = "Reached expected number of succeeded pods"
        _end(store, counted, ("SuccessCriteriaMet", "Complete"), "CompletionsReached", message)
        events.tell(store, counted, "Completed", "Job completed", COMPONENT)
    elif spec["suspend"]:
        _suspend(store, counted, active)
    else:
        left = completions - succeeded if completions is not None else spec["parallelism"]
        wanted = 0 if completions is None and succeeded else min(spec["parallelism"], left)
        made = [pod for pod in (_make_pod(store, counted) for _ in range(wanted - len(active))) if pod]
        _note(store, counted, [*active, *made])


def _count(store: Store, job: Row, ended: list[Row]) -> Row:
    """The Job with the pods counted that ended since."""
    new = [pod for pod in ended if TRACKING in pod["metadata"].get("finalizers", ())]
    if not new:
        return job
    for pod in new:
        with store.change(PODS, pod) as changed:
            changed["metadata"].pop("finalizers")
    with store.change(JOBS, job) as counted:
        for pod in new:
            name = pod["status"]["phase"].lower()
            counted["status"][name] = counted["status"].get(name, 0) + 1
    return counted


def _restarts_too_often(job: Row, active: Iterable[Row]) -> bool:
    """With OnFailure the kubelet starts containers again, and each time counts; 0 and 1 as limits are the same."""
    if job["spec"]["template"]["spec"]["restartPolicy"] != "OnFailure":
        return False
    rows = [row for pod in active for row in pod["status"].get("containerStatuses", ())]
    restarts: int = sum(row["restartCount"] for row in rows)
    return restarts >= max(1, int(job["spec"]["backoffLimit"]))


def _is_overdue(store: Store, job: Row) -> bool:
    seconds, since = job["spec"].get("activeDeadlineSeconds"), job["status"].get("startTime")
    if seconds is None or since is None or job["spec"]["suspend"]:
        return False
    return store.clock.now() >= time_of(since) + timedelta(seconds=seconds)


def _end(store: Store, job: Row, kinds: tuple[str, str], reason: str, message: str) -> None:
    now = store.now_text()
    times = {"lastProbeTime": now, "lastTransitionTime": now}
    with store.change(JOBS, job) as changed:
        status = changed["status"]
        for name in ("active", "ready"):
            status.pop(name, None)
        status["conditions"] = [
            {"type": kind, "status": "True", **times, "reason": reason, "message": message} for kind in kinds
        ]
        if kinds[1] == "Complete":
            status["completionTime"] = now


def _expire(store: Store, job: Row) -> None:
    """Delete a Job with its pods when it has been finished for as long as it says."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    if seconds is None:
        return
    finished = time_of(job["status"]["conditions"][-1]["lastTransitionTime"])
    if store.clock.now() >= finished + timedelta(seconds=seconds):
        remove_job(store, job, with_pods=True)


def _suspend(store: Store, job: Row, active: list[Row]) -> None:
    for pod in active:
        _drop(store, pod)
    _note(store, job, [])


def _note(store: Store, job: Row, active: list[Row]) -> None:
    """Write the Job's status anew when it has changed."""
    status = dict(job["status"])
    for name in ("active", "ready"):
        status.pop(name, None)
    ready = sum(pod["status"]["phase"] == "Running" for pod in active)
    if not job["spec"]["suspend"]:
        status.setdefault("startTime", store.now_text())
    status |= ({"active": len(active)} if active else {}) | {"ready": ready, "terminating": 0}
    status["uncountedTerminatedPods"] = {}
    if status != job["status"]:
        with store.change(JOBS, job) as changed:
            changed["status"] = status


def _make_pod(store: Store, job: Row) -> Row | None:
    """A new pod of a Job; None, and an event of the Job, when the quota does not allow for it."""
    namespace, name = job["metadata"]["namespace"], generate_name(f"{job['metadata']['name']}-")
    try:
        access.enter_namespace(store, PODS, namespace, name)
        access.pass_quota(store, PODS, namespace, name)
    except Refusal as refusal:
        # Each try has a name of its own, so that the events are not the same: one for each moment is enough.
        if store.now_text() not in events.times(store, job, "FailedCreate"):
            events.tell(store, job, "FailedCreate", f"Error creating: {refusal}", COMPONENT, warning=True)
        return None
    template = copy.deepcopy(job["spec"]["template"])
    owner = {"apiVersion": JOBS.api_version, "kind": JOBS.kind, "name": job["metadata"]["name"]}
    owner |= {"uid": job["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    metadata = {**template["metadata"], "name": name, "generateName": f"{job['metadata']['name']}-"}
    metadata |= {"namespace": namespace, "ownerReferences": [owner], "finalizers": [TRACKING]}
    status = {"phase": "Pending", "qosClass": "BestEffort"}
    pod = store.add(PODS, {"metadata": metadata, "spec": template["spec"], "status": status})
    events.tell(store, job, "SuccessfulCreate", f"Created pod: {name}", COMPONENT)
    return pod


def _job_of(store: Store, pod: Row) -> Row | None:
    uids = {owner["uid"] for owner in pod["metadata"].get("ownerReferences", ())}
    return next((job for job in store.objects[JOBS.plural].values() if job["metadata"]["uid"] in uids), None)


def _drop(store: Store, pod: Row) -> None:
    store.remove(PODS, pod)
    store.logs.pop(pod["metadata"]["uid"], None)
