"""What the API server fills in where a Job says nothing."""

from __future__ import annotations

import copy
import uuid

from tests.doubles.kubernetes.refusals import Row
from tests.doubles.kubernetes.store import generate_name

JOB_UID_LABEL = "batch.kubernetes.io/controller-uid"
JOB_NAME_LABEL = "batch.kubernetes.io/job-name"

SPEC = {
    "backoffLimit": 6,
    "completionMode": "NonIndexed",
    "suspend": False,
    "manualSelector": False,
    "podReplacementPolicy": "TerminatingOrFailed",
}
POD_SPEC = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
}
CONTAINER = {"terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}


def fill_job(given: Row, namespace: str) -> Row:
    """A Job as it is stored: named, with its defaults, its uid and the labels by which its pods are found."""
    job = copy.deepcopy(given)
    _fill_metadata(job.setdefault("metadata", {}), namespace)
    spec = job.setdefault("spec", {})
    for name, value in SPEC.items():
        spec.setdefault(name, value)
    _fill_counts(spec)
    template = spec.setdefault("template", {})
    _fill_pod(template.setdefault("spec", {}))
    _mark(job, template.setdefault("metadata", {}))
    return job | {"status": {}}


def _fill_metadata(metadata: Row, namespace: str) -> None:
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = generate_name(metadata["generateName"])
    metadata.setdefault("name", "")
    for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "creationTimestamp"):
        metadata.pop(name, None)
    metadata |= {"namespace": namespace, "uid": str(uuid.uuid4()), "generation": 1}


def _fill_counts(spec: Row) -> None:
    """Without both it is one pod once; with only a parallelism it is a work queue, which has no completions."""
    if "parallelism" not in spec and "completions" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)


def _fill_pod(spec: Row) -> None:
    for name, value in POD_SPEC.items():
        spec.setdefault(name, value)
    spec.setdefault("securityContext", {})
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        for name, value in CONTAINER.items():
            container.setdefault(name, value)
        container.setdefault("resources", {})
        container.setdefault("imagePullPolicy", "Always" if _is_latest(container.get("image", "")) else "IfNotPresent")


def _is_latest(image: str) -> bool:
    """Whether an image is named `latest`, or has neither tag nor digest."""
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@" not in image and tag in ("", "latest")


def _mark(job: Row, template_metadata: Row) -> None:
    """Choose the Job's own pods by its uid. A Job without labels of its own has those of its template."""
    if job["spec"]["manualSelector"]:
        return
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    marks = {JOB_UID_LABEL: uid, JOB_NAME_LABEL: name, "controller-uid": uid, "job-name": name}
    template_metadata["labels"] = {**template_metadata.get("labels", {}), **marks}
    job["spec"]["selector"] = {"matchLabels": {JOB_UID_LABEL: uid}}
    if not job["metadata"].get("labels"):
        job["metadata"]["labels"] = dict(template_metadata["labels"])
