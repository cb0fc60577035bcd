"""How a Job has ended, read from it and its pods."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.builders.kubernetes_job import FLOW_RUN_LABEL, LAUNCH_KEY_ANNOTATION
from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS, STOPPED_ANNOTATION, false_start, read_job
from chalicelib.sightings import Stop

CREATED = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
LATE = CREATED + timedelta(seconds=START_GRACE_SECONDS + 1)
PULL = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "flows:1": pull access denied'}


def job(condition: str = "", reason: str = "BackoffLimitExceeded", **annotations: str) -> dict[str, Any]:
    message = "Job has reached the specified backoff limit"
    rows = [{"type": condition, "status": "True", "reason": reason, "message": message}] if condition else []
    kept = {LAUNCH_KEY_ANNOTATION: "run-1-3", **annotations}
    metadata = {"name": "prefect-job-run-1-3", "labels": {FLOW_RUN_LABEL: "run-1"}, "annotations": kept}
    return {"metadata": metadata, "spec": {}, "status": {"conditions": rows}}


def pod(
    phase: str = "Failed", flow: Any = None, sidecar: Any = None, init: Any = None, name: str = "p-1", **status: Any
) -> dict[str, Any]:
    def rows(**states: Any) -> list[dict[str, Any]]:
        return [{"name": name, "state": state} for name, state in states.items() if state]

    return {
        "metadata": {"name": name, "creationTimestamp": "2026-11-20T12:00:00Z"},
        "spec": {"containers": [{"name": "flow"}, {"name": "proxy"}]},
        # The kubelet sorts them by name, and not as the spec does.
        "status": {
            "phase": phase,
            "containerStatuses": rows(proxy=sidecar, flow=flow)[::-1],
            "initContainerStatuses": rows(init=init),
            **status,
        },
    }


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def stop_of(*pods: Any, of: Any = None) -> Stop:
    stop = read_job(of or job("Failed"), pods).stop
    assert stop is not None
    return stop


# alive


def test_a_sighting_names_the_run_the_key_and_the_job() -> None:
    sighting = read_job(job(), [])
    assert (sighting.run_id, sighting.key, sighting.text) == ("run-1", "run-1-3", "Job prefect-job-run-1-3")
    assert (sighting.is_running, sighting.stop) == (False, None)


def test_a_job_runs_while_the_flows_container_does() -> None:
    running: dict[str, Any] = {"running": {}}
    assert read_job(job(), [pod("Running", flow=running)]).is_running
    assert not read_job(job(), [pod("Running", sidecar=running, flow={"waiting": PULL})]).is_running


@pytest.mark.parametrize("condition", ["", "Suspended", "FailureTarget", "SuccessCriteriaMet"])
def test_a_job_that_is_not_finished_has_no_stop_whatever_its_pods_say(condition: str) -> None:
    assert read_job(job(condition), [pod(flow=ended(1)), pod("Pending")]).stop is None


def test_a_pod_that_finds_no_node_waits() -> None:
    unscheduled = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]
    waits = pod("Pending", conditions=unscheduled)
    assert read_job(job(), [waits]).stop is None
    assert false_start(job(), [waits], LATE) is None


# ended


def test_a_job_that_is_complete_went_well() -> None:
    stop = stop_of(of=job("Complete", "CompletionsReached"))
    assert (stop.went_well, stop.has_run, stop.passes) == (True, True, False)


def test_a_flow_that_fails_is_told_with_exit_code_and_what_to_do() -> None:
    stop = stop_of(pod(flow=ended(1, message="the end of the log")))
    assert (stop.has_run, stop.went_well, stop.passes) == (True, False, False)
    assert "Job prefect-job-run-1-3 has failed: BackoffLimitExceeded" in stop.reason
    assert "pod p-1; exit code 1; Error: the end of the log (look at the pod's log)" in stop.reason


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (137, "OOMKilled", "raise `memory_limit` in the run config"),
        (137, "Error", "most often for want of memory"),
        (143, "Error", "somebody or something stopped the pod"),
        (127, "Error", "check image and command"),
        (128, "StartError", "check image and command"),
    ],
)
def test_an_exit_code_comes_with_a_hint(code: int, reason: str, hint: str) -> None:
    assert hint in stop_of(pod(flow=ended(code, reason))).reason


def test_a_command_that_cannot_be_started_has_not_run() -> None:
    assert not stop_of(pod(flow=ended(128, "StartError"))).has_run


@given(st.integers(0, 255), st.integers(0, 255))
def test_the_flows_container_decides_and_no_sidecar(flow: int, sidecar: int) -> None:
    assert stop_of(pod(flow=ended(flow), sidecar=ended(sidecar))).went_well is (flow == 0)


def test_of_several_pods_the_last_one_counts() -> None:
    later = pod(flow=ended(3), name="p-2")
    later["metadata"]["creationTimestamp"] = "2026-11-20T12:05:00Z"
    assert "p-2; exit code 3" in stop_of(later, pod(flow=ended(1))).reason


def test_a_deadline_of_the_template_is_told() -> None:
    stop = stop_of(of=job("Failed", "DeadlineExceeded"))
    assert "activeDeadlineSeconds" in stop.reason
    assert not stop.passes


# taken away


@pytest.mark.parametrize(
    "status",
    [
        {"reason": "Evicted", "message": "The node was low on resource: memory."},
        {"reason": "NodeLost", "message": "Node n which was running pod p is unresponsive"},
        {"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."},
        {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
        {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]},
    ],
)
def test_a_pod_that_was_taken_off_its_machine_passes(status: dict[str, Any]) -> None:
    stop = stop_of(pod(flow=ended(137), **status))
    assert stop.passes
    assert "AGENT_RESUBMIT=running" in stop.reason


def test_a_pod_that_is_gone_was_taken_away() -> None:
    stop = stop_of()
    assert stop.passes
    assert "its pod is gone" in stop.reason


def test_a_pod_over_its_own_limit_would_be_evicted_again() -> None:
    message = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
    stop = stop_of(pod(reason="Evicted", message=message))
    assert not stop.passes
    assert "raise that in the job template" in stop.reason


def test_what_the_flow_itself_writes_does_not_make_its_end_pass() -> None:
    assert not stop_of(pod(flow=ended(1, message="Evicted Preempting NodeLost"))).passes


# cannot start


@pytest.mark.parametrize(
    "reason",
    ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError"],
)
def test_a_container_that_cannot_start_is_given_time_and_then_told(reason: str) -> None:
    waiting = pod("Pending", flow={"waiting": {"reason": reason, "message": "the kubelet's words"}})
    assert false_start(job(), [waiting], CREATED + timedelta(seconds=START_GRACE_SECONDS)) is None
    stop = false_start(job(), [waiting], LATE)
    assert stop is not None
    assert (stop.has_run, stop.passes) == (False, False)
    assert f"cannot start: {reason}: the kubelet's words" in stop.reason


def test_an_init_container_holds_up_the_flow_and_a_sidecar_does_not() -> None:
    assert false_start(job(), [pod("Pending", init={"waiting": PULL})], LATE)
    assert false_start(job(), [pod("Running", flow={"running": {}}, sidecar={"waiting": PULL})], LATE) is None


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing", "CrashLoopBackOff"])
def test_a_container_that_is_on_its_way_has_all_the_time(reason: str) -> None:
    waiting = pod("Pending", flow={"waiting": {"reason": reason}})
    assert false_start(job(), [waiting], LATE + timedelta(days=1)) is None


def test_a_registry_that_is_too_busy_passes() -> None:
    busy = {"reason": "ErrImagePull", "message": "toomanyrequests: You have reached your pull rate limit."}
    stop = false_start(job(), [pod("Pending", flow={"waiting": busy})], LATE)
    assert stop is not None
    assert stop.passes


def test_a_reason_that_stands_on_the_job_is_its_stop_again() -> None:
    told = false_start(job(), [pod("Pending", flow={"waiting": PULL})], LATE)
    assert told is not None
    marked = job("Failed", "DeadlineExceeded", **{STOPPED_ANNOTATION: told.reason})
    assert read_job(marked, []).stop == told
    assert read_job(job(**{STOPPED_ANNOTATION: told.reason}), []).stop is None


BEGUN: list[dict[str, Any]] = [
    {"state": {"running": {}}},
    {"state": {"terminated": {"exitCode": 1, "reason": "Error"}}},
    {"state": {"waiting": PULL}, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}},
    {"state": {"waiting": PULL}, "restartCount": 1},
]


@pytest.mark.parametrize("begun", BEGUN)
def test_a_flow_whose_container_ever_ran_is_no_false_start_whatever_waits_beside_it(begun: dict[str, Any]) -> None:
    waits = pod("Running", sidecar={"waiting": PULL}, init={"waiting": PULL})
    assert false_start(job(), [waits], LATE), "without the flow's container it is one"
    waits["status"]["containerStatuses"].append({"name": "flow", **begun})
    assert false_start(job(), [waits], LATE) is None


@pytest.mark.parametrize("flow", [{"running": {}}, {"waiting": {"reason": "PodInitializing"}}])
def test_a_native_sidecar_that_cannot_be_had_holds_up_nobody(flow: dict[str, Any]) -> None:
    waits = pod("Pending", flow=flow, init={"waiting": PULL})
    waits["spec"]["initContainers"] = [{"name": "init", "restartPolicy": "Always"}]
    assert false_start(job(), [waits], LATE) is None


def test_a_flow_that_cannot_start_is_told_although_a_native_sidecar_runs() -> None:
    waits = pod("Pending", flow={"waiting": PULL}, init={"running": {}})
    waits["spec"]["initContainers"] = [{"name": "init", "restartPolicy": "Always"}]
    stop = false_start(job(), [waits], LATE)
    assert stop is not None
    assert "pull access denied" in stop.reason


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_of_a_pod_that_has_ended_neither_what_it_waited_for_nor_that_it_ran_counts(phase: str) -> None:
    never_ran, ran = pod(phase, flow={"waiting": PULL}), pod(phase, flow=ended(1))
    on_its_way = pod("Pending", flow={"waiting": {"reason": "ContainerCreating"}}, name="p-2")
    assert false_start(job(), [never_ran, on_its_way], LATE) is None
    assert false_start(job(), [ran, pod("Pending", flow={"waiting": PULL}, name="p-2")], LATE)


def job_of_age(suspend: bool = False) -> dict[str, Any]:
    """A Job that was made at CREATED."""
    made = job()
    made["metadata"]["creationTimestamp"] = "2026-11-20T12:00:00Z"
    return {**made, "spec": {"suspend": suspend}}


def test_a_job_that_gets_no_pod_is_given_time_and_passes_then() -> None:
    assert false_start(job_of_age(), [], CREATED + timedelta(seconds=START_GRACE_SECONDS)) is None
    stop = false_start(job_of_age(), [], LATE)
    assert stop is not None
    assert (stop.has_run, stop.went_well, stop.passes) == (False, False, True)
    assert "kubectl describe job" in stop.reason


def test_a_job_that_is_suspended_waits_for_its_pod_as_long_as_it_takes() -> None:
    assert false_start(job_of_age(suspend=True), [], LATE + timedelta(days=1)) is None


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod("Pending", flow={"waiting": PULL})],
        [pod("Pending", flow={"waiting": {"reason": "ErrImagePull", "message": "toomanyrequests"}})],
    ],
)
def test_a_false_start_that_was_ended_is_the_same_stop_to_whoever_reads_it_later(pods: list[Any]) -> None:
    told = false_start(job_of_age(), pods, LATE)
    assert told is not None
    marked = job("Failed", "DeadlineExceeded", **{STOPPED_ANNOTATION: told.reason})
    assert read_job(marked, []).stop == told
    assert not told.has_run
