"""Both doubles, as the real KubernetesAgent of prefect 1.4.1 and the official client of Kubernetes see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import Prefect1
from tests.doubles.kubernetes import Call, KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.prefect1 import Prefect1Server

pytestmark = pytest.mark.oracle

AGENT: dict[str, Any] = {"labels": ["lab"], "name": "oracle", "namespace": "flows"}
RUN = {"type": "KubernetesRun", "__version__": "1.4.1", "labels": ["lab"], "image": "flows:1"}
MODULE = {"type": "Module", "__version__": "1.4.1", "module": "flows", "secrets": []}
ONE_TRY = {"spec": {"backoffLimit": 0, "template": {"spec": {"containers": [{"name": "flow"}]}}}}
PAGE = 20
"""Jobs that the agent reads at once."""


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[KubernetesServer]:
    """A cluster that whoever is at home in `tmp_path` has a kubeconfig for."""
    with KubernetesServer(namespaces=("flows",)) as running:
        write_kubeconfig(running, tmp_path / ".kube" / "config")
        yield running


def poll(prefect1: Prefect1, times: int = 1, **settings: Any) -> None:
    prefect1.script("poll_as_kubernetes_agent", json.dumps({**AGENT, "max_polls": times, **settings}))


def heartbeat(prefect1: Prefect1) -> None:
    prefect1.script("poll_as_kubernetes_agent", json.dumps(AGENT), "heartbeat")


def add_runs(server: Prefect1Server, count: int, **more: Any) -> list[str]:
    flow_id = server.add_flow("my flow", storage=MODULE, run_config={**RUN, **more})
    return [server.add_flow_run(flow_id) for _ in range(count)]


def launch(prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer) -> tuple[str, str, str]:
    """A flow run that the agent has submitted, its Job and its pod; the Job tries once."""
    (run_id,) = add_runs(server, 1, job_template=ONE_TRY)
    poll(prefect1)
    (job,), (pod,) = kubernetes.jobs(), kubernetes.pods()
    return run_id, job["metadata"]["name"], pod["metadata"]["name"]


def lines(server: Prefect1Server, run_id: str, name: str) -> list[tuple[str, str]]:
    """Level and text of what was logged under this name."""
    return [(entry["level"], entry["message"]) for entry in server.logs(run_id) if entry["name"] == name]


# polling


def test_the_agent_makes_jobs_of_what_matches_its_labels_and_leaves_the_rest(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    flow_id = server.add_flow("my flow", storage=MODULE, run_config=RUN)
    matching = server.add_flow_run(flow_id)
    others = [server.add_flow_run(flow_id, labels=labels) for labels in ([], ["lab", "more"])]
    later = server.add_flow_run(flow_id, start_time=datetime.now(UTC) + timedelta(minutes=5))

    poll(prefect1)

    (job,), run = kubernetes.jobs(), server.flow_run(matching)
    assert (run["state"], run["state_message"]) == ("Submitted", "Submitted for execution")
    assert lines(server, matching, "oracle") == [("INFO", f"Submitted for execution: Job {job['metadata']['name']}")]
    assert {server.flow_run(each)["state"] for each in (*others, later)} == {"Scheduled"}
    assert (job["metadata"]["namespace"], job["metadata"]["labels"]["prefect.io/flow_run_id"]) == ("flows", matching)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "flows:1"
    (agent,) = server.agents()
    assert (agent["id"], agent["type"], agent["name"]) == (run["agent_id"], "KubernetesAgent", "oracle")


def no_right(kubernetes: KubernetesServer) -> None:
    kubernetes.forbid("create", "jobs")


def no_room(kubernetes: KubernetesServer) -> None:
    kubernetes.set_quota("flows", jobs=0)


@pytest.mark.parametrize(
    ("arrange", "config", "status", "words"),
    [
        (no_right, {}, "(403)", 'cannot create resource \\"jobs\\"'),
        (no_room, {}, "(403)", "exceeded quota"),
        (None, {"service_account_name": "flows", "image": " flows:1"}, "(422)", "is invalid: spec.template"),
    ],
)
def test_a_job_that_is_refused_fails_its_run_in_the_servers_words(
    prefect1: Prefect1,
    server: Prefect1Server,
    kubernetes: KubernetesServer,
    arrange: Callable[[KubernetesServer], None] | None,
    config: dict[str, str],
    status: str,
    words: str,
) -> None:
    if arrange:
        arrange(kubernetes)
    (run_id,) = add_runs(server, 1, **config)

    poll(prefect1)

    assert [state["state"] for state in server.states(run_id)] == ["Scheduled", "Submitted", "Failed"]
    message = server.flow_run(run_id)["state_message"]
    assert message.startswith(f"{status}\nReason: ")
    assert words in message
    assert lines(server, run_id, "oracle") == [("ERROR", message)]


def test_a_job_that_is_made_before_the_connection_is_cut_is_not_made_again(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    kubernetes.faults.add("create jobs", "cut_after")
    (run_id,) = add_runs(server, 1)

    poll(prefect1)

    (job,) = kubernetes.jobs()
    assert kubernetes.count("create jobs") == 2
    assert lines(server, run_id, "oracle") == [("INFO", f"Submitted for execution: Job {job['metadata']['name']}")]


# the heartbeat


def test_the_heartbeat_deletes_finished_jobs_and_leaves_those_that_run(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    run_ids = add_runs(server, 3)
    poll(prefect1)
    pods = {pod["metadata"]["labels"]["prefect.io/flow_run_id"]: pod["metadata"]["name"] for pod in kubernetes.pods()}
    done, runs, waits = run_ids
    kubernetes.finish_pod(pods[done])
    kubernetes.start_pod(pods[runs])

    heartbeat(prefect1)

    assert {job["metadata"]["labels"]["prefect.io/flow_run_id"] for job in kubernetes.jobs()} == {runs, waits}
    assert {pod["metadata"]["name"] for pod in kubernetes.pods()} == {pods[runs], pods[waits]}
    assert {server.flow_run(run_id)["state"] for run_id in run_ids} == {"Submitted"}


def test_the_heartbeat_fails_a_run_whose_image_cannot_be_had_and_tells_its_pods_events(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    run_id, _, pod = launch(prefect1, server, kubernetes)
    kubernetes.wait_for_image(pod, message="pull access denied")

    heartbeat(prefect1)

    row = server.flow_run(run_id)
    assert (row["state"], row["state_message"]) == ("Failed", "Kubernetes Error: pull access denied")
    told = lines(server, run_id, "k8s-infra")
    assert ("DEBUG", f"Event: 'Failed' on pod '{pod}'\n\tMessage: Error: ImagePullBackOff") in told
    assert (kubernetes.jobs(), kubernetes.pods()) == ([], [])


def test_the_heartbeat_fails_a_run_whose_pod_has_failed_and_deletes_its_job(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    run_id, _, pod = launch(prefect1, server, kubernetes)
    kubernetes.finish_pod(pod, exit_code=137, reason="OOMKilled")

    heartbeat(prefect1)

    row = server.flow_run(run_id)
    assert (row["state"], row["state_message"]) == ("Failed", f"Kubernetes Error: pods ['{pod}'] failed for this job")
    ((level, message),) = lines(server, run_id, "k8s-infra")
    assert level == "ERROR"
    assert message.startswith(f"Pod {pod} failed.\n\tContainer 'flow' state: terminated\n\t\tExit Code:: 137")
    assert "Reason: OOMKilled" in message
    assert kubernetes.jobs() == []


def test_the_heartbeat_reads_page_by_page_while_it_deletes(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    finish_all(prefect1, server, kubernetes, 2 * PAGE + 5)

    heartbeat(prefect1)

    assert kubernetes.jobs() == []
    assert kubernetes.count("list jobs") == 3


def test_the_heartbeat_begins_again_when_its_list_is_too_old(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    finish_all(prefect1, server, kubernetes, PAGE + 5)
    kubernetes.faults.add(is_second_page, "status", status=410)

    heartbeat(prefect1)

    assert kubernetes.jobs() == []
    # The first page, the second in vain, and the one that is left of the new list.
    assert kubernetes.count("list jobs") == 3


def finish_all(prefect1: Prefect1, server: Prefect1Server, kubernetes: KubernetesServer, count: int) -> None:
    """Let so many Jobs of the agent's be finished."""
    add_runs(server, count)
    poll(prefect1, times=count // 25 + 1)
    pods = kubernetes.pods()
    assert len(pods) == count
    for pod in pods:
        kubernetes.finish_pod(pod["metadata"]["name"])
    kubernetes.forget_calls()


def is_second_page(call: Call) -> bool:
    return call.what == "list jobs" and bool(call.query.get("continue"))
