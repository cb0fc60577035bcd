"""How a Job has ended, read from it and its pods (pure): whether that passes, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from chalicelib.builders.kubernetes_job import FLOW_RUN_LABEL, LAUNCH_KEY_ANNOTATION
from chalicelib.builders.work_pool_container import RUN_LABEL
from chalicelib.errors import shorten
from chalicelib.flow_runs import Document
from chalicelib.sightings import Sighting, Stop

STOPPED_ANNOTATION = "prefect-agent/stopped"
"""Why the agent has ended a Job. It stands on the Job, because its pods, and what they said, go when it is ended."""

START_GRACE_SECONDS = 5 * 60
"""How long a pod may fail to start, from its creation on, before that counts as its end.

Prefect 1.4.1 fails such a run at once. But a registry that is away, or an image or Secret that is made together with
the run, is a matter of a minute or two, and the kubelet goes on trying: at 5 minutes its waits have reached their
longest, so that what could mend itself has had some six tries.
"""

FALSE_STARTS = (
    r"ErrImagePull|ImagePullBackOff|InvalidImageName|ErrImageNeverPull|ImageInspectError|RegistryUnavailable|"
    r"CreateContainerConfigError|CreateContainerError"
)
"""Reasons of the kubelet for which a container waits that never ran."""

PASSING_STARTS = r"toomanyrequests|429|[Tt]oo ?[Mm]any ?[Rr]equests|i/o timeout|TLS handshake timeout|50[0234] |EOF"
"""What a registry says that will be other in a while."""

RECLAIMED = (
    r"Evicted|NodeLost|NodeShutdown|node shutdown|Preempt|DeletionByTaintManager|DeletionByPodGC|"
    r"EvictionByEvictionAPI|TerminationByKubelet"
)
"""Reasons for which a pod is taken off its machine, in its status and its condition DisruptionTarget."""

_ITS_OWN_FAULT = r"exceeds the (total )?limit"

HINTS: tuple[tuple[str, str], ...] = (
    (_ITS_OWN_FAULT, "it uses more local storage than its limit: raise that in the job template"),
    (RECLAIMED, "the machine was taken away; AGENT_RESUBMIT=running in the run's env launches it again by itself"),
    (PASSING_STARTS, "the registry was too busy or away"),
    (r"Image", "check the image's name and imagePullSecrets, and the nodes' way to the registry"),
    (r"CreateContainer", "check the Secrets, ConfigMaps and command that the container names"),
    (r"OOMKilled", "it needs more memory: raise `memory_limit` in the run config or job variables"),
    (r"DeadlineExceeded", "it ran longer than activeDeadlineSeconds in its job template"),
    (r"exit code 12[678]\b", "the container's command cannot be run: check image and command"),
    (r"exit code 137\b", "it was killed, most often for want of memory, or when it did not end in time"),
    (r"exit code 143\b", "somebody or something stopped the pod"),
    (r"exit code", "look at the pod's log"),
)
"""What to do, by what the reasons say; the first that fits."""

_NO_POD = "see `kubectl describe job`: a quota, an admission rule or the service account is in the way"
_COUNTS = ("active", "failed", "succeeded", "uncountedTerminatedPods")
_DID_NOTHING = "its command ended before the flow run began: check that the image runs Prefect's command"


def read_job(job: Document, pods: Sequence[Document]) -> Sighting:
    """What a Job and its pods say of the flow run. It has a stop when the Job is finished, and not before."""
    metadata = job["metadata"]
    labels = metadata.get("labels", {})
    return Sighting(
        run_id=labels.get(FLOW_RUN_LABEL) or labels.get(RUN_LABEL, ""),
        key=metadata.get("annotations", {}).get(LAUNCH_KEY_ANNOTATION),
        text=f"Job {metadata['name']}",
        is_running=any("running" in _flow_status(pod).get("state", {}) for pod in pods),
        stop=_read_stop(job, pods),
    )


def is_ending(job: Document) -> bool:
    """Whether a Job that may still have a pod is being ended or deleted, so that nothing can rely on it."""
    metadata = job["metadata"]
    return STOPPED_ANNOTATION in metadata.get("annotations", {}) or "deletionTimestamp" in metadata


def _read_stop(job: Document, pods: Sequence[Document]) -> Stop | None:
    conditions = {each["type"]: each for each in job.get("status", {}).get("conditions") or () if _holds(each)}
    subject = f"Job {job['metadata']['name']}"
    if "Complete" in conditions:
        return Stop(f"{subject} is complete ({_DID_NOTHING})", has_run=True, went_well=True)
    if "Failed" not in conditions:
        return None
    if reason := job["metadata"].get("annotations", {}).get(STOPPED_ANNOTATION):
        return _false_start(reason) if " cannot start: " in reason else Stop(reason, has_run=True)
    failed = conditions["Failed"]
    text = f"{subject} has failed: {_texts(failed)}"
    ended = [pod for pod in pods if pod["status"].get("phase") in ("Failed", "Succeeded")]
    if not ended:
        # The pods of a deadline are deleted by the Job itself, any others by whoever took the machine.
        passes = failed.get("reason") == "BackoffLimitExceeded"
        text += "; its pod is gone" if passes else ""
        return Stop(f"{text} ({HINTS[1][1] if passes else _hint(text)})", has_run=True, passes=passes)
    return _stop_of_pod(text, max(ended, key=lambda pod: str(pod["metadata"].get("creationTimestamp"))))


def _stop_of_pod(text: str, pod: Document) -> Stop:
    """The stop of the pod that was the last to end. Sidecars say nothing of the flow."""
    end = _flow_status(pod).get("state", {}).get("terminated") or {}
    disruptions = (each for each in pod["status"].get("conditions") or () if each["type"] == "DisruptionTarget")
    taken = "; ".join(_texts(each) for each in (pod["status"], *filter(_holds, disruptions)) if each.get("reason"))
    exit_code = end.get("exitCode")
    parts = [text, f"pod {pod['metadata']['name']}", taken]
    parts += [f"exit code {exit_code}", _texts(end)] if end else []
    whole = "; ".join(filter(None, parts))
    return Stop(
        reason=f"{whole} ({_DID_NOTHING if exit_code == 0 else _hint(f'{taken} {whole}')})",
        has_run=bool(end) and end.get("reason") not in ("StartError", "ContainerCannotRun"),
        went_well=exit_code == 0,
        passes=bool(re.search(RECLAIMED, taken)) and not re.search(_ITS_OWN_FAULT, taken),
    )


def false_start(job: Document, pods: Sequence[Document], now: datetime) -> Stop | None:
    """The stop of a Job that is not finished, and whose pod has failed to start for START_GRACE_SECONDS.

    The Job would go on trying, so it must be ended before anybody acts upon this.
    """
    subject = f"Job {job['metadata']['name']} cannot start"
    has_had_pods = bool(pods) or any(job.get("status", {}).get(name) for name in _COUNTS)
    if not has_had_pods and _is_late(job, now) and not job["spec"].get("suspend"):
        return Stop(f"{subject}: it has no pod ({_NO_POD})", has_run=False, passes=True)
    present = [pod for pod in pods if pod["status"].get("phase") not in ("Failed", "Succeeded")]
    if any(_has_begun(pod) for pod in present):
        return None
    for pod in present:
        for waiting in _waits(pod):
            if re.fullmatch(FALSE_STARTS, str(waiting.get("reason"))) and _is_late(pod, now):
                text = f"{subject}: {_texts(waiting)}"
                return _false_start(f"{text} ({_hint(text)})")
    return None


def _is_late(described: Document, now: datetime) -> bool:
    created = datetime.fromisoformat(described["metadata"]["creationTimestamp"])
    return (now - created).total_seconds() > START_GRACE_SECONDS


def _has_begun(pod: Document) -> bool:
    """Whether the flow's container runs or ever ran, whatever the pod's other containers wait for."""
    status = _flow_status(pod)
    has_ended = bool(status.get("lastState", {}).get("terminated")) or status.get("restartCount", 0) > 0
    return has_ended or bool(status.get("state", {}).keys() & {"running", "terminated"})


def _false_start(reason: str) -> Stop:
    return Stop(reason, has_run=False, passes=_NO_POD in reason or bool(re.search(PASSING_STARTS, reason)))


def _waits(pod: Document) -> Iterator[Document]:
    """What the flow's container waits for, or one that has to end before it. A sidecar holds up nobody."""
    stays = {each["name"] for each in pod["spec"].get("initContainers") or () if each.get("restartPolicy") == "Always"}
    first = [each for each in pod["status"].get("initContainerStatuses") or () if each.get("name") not in stays]
    for status in (*first, _flow_status(pod)):
        if waiting := status.get("state", {}).get("waiting"):
            yield waiting


def _flow_status(pod: Document) -> Document:
    """What the kubelet says of the container that runs the flow: the first one, whatever it is called."""
    name = pod["spec"]["containers"][0]["name"]
    statuses = pod["status"].get("containerStatuses") or ()
    return next((status for status in statuses if status.get("name") == name), {})


def _texts(said: Document) -> str:
    return ": ".join(shorten(str(said[name])) for name in ("reason", "message") if said.get(name)) or "no reason given"


def _holds(condition: Document) -> bool:
    return condition.get("status") == "True"


def _hint(text: str) -> str:
    return next((hint for pattern, hint in HINTS if re.search(pattern, text)), "look at the Job and its pods")
