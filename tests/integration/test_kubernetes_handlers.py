"""The handlers of `app.py` on EKS, end to end: a due flow run in, a Job and a Submitted state out, and what follows."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import app
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS
from chalicelib.prefect_api.prefect1_launches import ORPHAN_AGE_SECONDS
from tests.doubles.clock import TurnedClock
from tests.doubles.eks import EksServer
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.prefect1 import Prefect1Server
from tests.integration.lambdas import Lambdas

RUN = {"type": "KubernetesRun", "image": "flows:1"}
ONE_TRY = {"spec": {"backoffLimit": 0, "template": {"spec": {"containers": [{"name": "flow"}]}}}}


class Functions(Lambdas):
    """The app's functions, which end their connections to the cluster too."""

    def freeze(self) -> None:
        if app.installation.cache_info().currsize and "ticks" in vars(app.installation()):
            launcher = app.installation().ticks.agent.launcher
            assert isinstance(launcher, KubernetesLauncher)
            launcher.api.close()
        super().freeze()


@pytest.fixture
def prefect() -> Iterator[Prefect1Server]:
    """A server whose launches are old enough to be looked at, since the agent lives by the clock on the wall."""
    behind = datetime.now(UTC) - timedelta(seconds=ORPHAN_AGE_SECONDS + 5)
    with Prefect1Server(clock=TurnedClock(behind)) as server:
        yield server


@pytest.fixture
def clock() -> TurnedClock:
    """The cluster's clock: its pods are older than they may be to wait for an image."""
    return TurnedClock(datetime.now(UTC) - timedelta(seconds=START_GRACE_SECONDS + 10))


@pytest.fixture
def kubernetes(clock: TurnedClock) -> Iterator[KubernetesServer]:
    with KubernetesServer(clock=clock, namespaces=("flows",)) as server:
        yield server


@pytest.fixture
def eks(kubernetes: KubernetesServer) -> Iterator[EksServer]:
    with EksServer(kubernetes, "main") as server:
        yield server


@pytest.fixture
def lambdas(prefect: Prefect1Server, eks: EksServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambdas]:
    """The app as a fresh Lambda container would have it."""
    variables = {
        "AWS_REGION": eks.region,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_ENDPOINT_URL_EKS": eks.url,
        "PREFECT__CLOUD__API": prefect.url,
        "PREFECT__CLOUD__AGENT__NAME": "lambda",
        "PREFECT__CLOUD__AGENT__LABELS": '["dev"]',
        "AGENT_PLATFORM": "kubernetes",
        "AGENT_EKS_CLUSTER": "main",
        "AGENT_KUBERNETES_NAMESPACE": "flows",
        "AGENT_STRAYS": "ignore",
        "AGENT_CANCEL_GRACE_SECONDS": "0",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with Functions() as functions:
        yield functions


def launch(lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, **more: Any) -> tuple[str, str]:
    """A flow run that was launched, and the name of its pod."""
    run_id = prefect.add_flow_run(labels=["dev"], run_config={**RUN, "job_template": ONE_TRY, **more})
    lambdas.tick()
    assert prefect.flow_run(run_id)["state"] == "Submitted", prefect.logs(run_id)
    return run_id, kubernetes.pods()[-1]["metadata"]["name"]


def failure(prefect: Prefect1Server, run_id: str) -> str:
    """Why the run is Failed, which stands in its log too."""
    row = prefect.flow_run(run_id)
    assert row["state"] == "Failed"
    assert row["state_message"] in [line["message"] for line in prefect.logs(run_id) if line["level"] == "ERROR"]
    return str(row["state_message"])


# launched


def test_a_due_flow_run_becomes_a_job_and_submitted(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, eks: EksServer
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=RUN)
    report = lambdas.tick()
    (job,) = kubernetes.jobs("flows")
    row = prefect.flow_run(run_id)
    assert (report["launched"], report["errors"], row["state"]) == (1, [], "Submitted")
    name = job["metadata"]["name"]
    assert [line["message"] for line in prefect.logs(run_id)] == [f"Submitted for execution: Job {name}"]
    context = row["serialized_state"]["context"]
    assert (context["platform"], context["place"]) == ("kubernetes", "main/flows")
    assert job["metadata"]["annotations"]["prefect-agent/launch-key"] == context["key"]
    assert job["metadata"]["labels"]["prefect.io/flow_run_id"] == run_id
    assert [agent["type"] for agent in prefect.agents()] == ["KubernetesAgent"]
    assert eks.calls == ["/clusters/main"]


def test_a_tick_with_nothing_due_asks_neither_aws_nor_the_cluster(
    lambdas: Lambdas, kubernetes: KubernetesServer, eks: EksServer
) -> None:
    assert lambdas.tick()["errors"] == []
    assert (eks.calls, kubernetes.calls) == ([], [])


def test_a_token_that_is_refused_in_mid_tick_is_made_anew(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, eks: EksServer
) -> None:
    launch(lambdas, prefect, kubernetes)
    eks.expire_tokens()
    # A token made within the same second would be the same one.
    time.sleep(1.1)
    launch(lambdas, prefect, kubernetes)
    assert (len(kubernetes.jobs()), len(eks.tokens), eks.calls) == (2, 2, ["/clusters/main"])


def test_a_create_that_is_carried_out_and_cut_is_one_job(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    kubernetes.faults.add(when="create jobs", then="cut_after")
    launch(lambdas, prefect, kubernetes)
    assert len(kubernetes.jobs()) == 1


def test_one_bad_run_fails_with_the_reason_and_the_others_go_on(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    wrong = {"spec": {**ONE_TRY["spec"], "backofLimit": 1}}
    bad = prefect.add_flow_run(labels=["dev"], run_config={**RUN, "job_template": wrong})
    launch(lambdas, prefect, kubernetes)
    assert 'unknown field "spec.backofLimit"' in failure(prefect, bad)


# what became of it


def test_an_image_that_cannot_be_had_fails_the_run_in_the_kubelets_words(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, clock: TurnedClock
) -> None:
    run_id, pod = launch(lambdas, prefect, kubernetes)
    kubernetes.wait_for_image(pod, message='Back-off pulling image "flows:1": pull access denied')
    assert lambdas.tick()["stopped"] == {"failed": 1}
    assert "ImagePullBackOff: Back-off pulling image" in failure(prefect, run_id)
    clock.turn(2)
    assert kubernetes.pods() == []


def test_an_image_that_may_come_yet_is_waited_for(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, clock: TurnedClock
) -> None:
    clock.turn(60)
    run_id, pod = launch(lambdas, prefect, kubernetes)
    kubernetes.wait_for_image(pod)
    assert lambdas.tick()["stopped"] == {}
    assert prefect.flow_run(run_id)["state"] == "Submitted"


def test_a_reason_that_prefect_could_not_be_told_is_told_by_the_next_tick(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, clock: TurnedClock
) -> None:
    run_id, pod = launch(lambdas, prefect, kubernetes)
    kubernetes.wait_for_image(pod, message="pull access denied")
    prefect.faults.add(when=lambda request: bool(kubernetes.count("patch jobs")), then="status", times=None)
    assert "The sweep is not complete" in lambdas.tick()["errors"][0]
    assert prefect.flow_run(run_id)["state"] == "Submitted"
    prefect.faults.clear()
    clock.turn(2)
    assert kubernetes.pods() == []
    lambdas.freeze()
    assert lambdas.tick()["stopped"] == {"failed": 1}
    assert "pull access denied" in failure(prefect, run_id)


def test_a_flow_that_runs_out_of_memory_fails_with_what_to_do(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    run_id, pod = launch(lambdas, prefect, kubernetes)
    kubernetes.start_pod(pod)
    prefect.set_state(run_id, {"type": "Running"})
    kubernetes.finish_pod(pod, exit_code=137, reason="OOMKilled")
    assert lambdas.tick()["stopped"] == {"failed": 1}
    assert "OOMKilled" in failure(prefect, run_id)
    assert "memory_limit" in failure(prefect, run_id)


@pytest.mark.parametrize(("begins", "env"), [(False, {}), (True, {"AGENT_RESUBMIT": "running"})])
def test_a_flow_run_whose_pod_was_evicted_is_submitted_again(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, begins: bool, env: dict[str, str]
) -> None:
    run_id, pod = launch(lambdas, prefect, kubernetes, env=env)
    if begins:
        prefect.set_state(run_id, {"type": "Running"})
    kubernetes.evict_pod(pod)
    assert lambdas.tick()["stopped"] == {"resubmitted": 1}
    assert prefect.flow_run(run_id)["state"] == "Scheduled"
    assert "low on resource" in prefect.flow_run(run_id)["state_message"]


def test_the_job_of_a_cancelled_run_is_ended_and_the_run_confirmed(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, clock: TurnedClock
) -> None:
    run_id, pod = launch(lambdas, prefect, kubernetes)
    kubernetes.start_pod(pod)
    prefect.set_state(run_id, {"type": "Running"})
    prefect.cancel(run_id)
    lambdas.tick()
    clock.turn(2)
    assert kubernetes.pods() == []
    assert lambdas.tick()["stopped"] == {"cancelled": 1}
    assert prefect.flow_run(run_id)["state"] == "Cancelled"


# the agent's own fault


def is_misconfigured(lambdas: Lambdas, prefect: Prefect1Server) -> str:
    """What the one run of several says that failed by the agent's own fault, which health shows too."""
    run_ids = [prefect.add_flow_run(labels=["dev"], run_config=RUN) for _ in range(3)]
    report = lambdas.tick()
    (failed,) = [run_id for run_id in run_ids if prefect.flow_run(run_id)["state"] == "Failed"]
    assert report["errors"][0].startswith("This agent is misconfigured, no more is claimed: ")
    assert lambdas.get("/api/health") == (503, {"status": "unhealthy"})
    return failure(prefect, failed)


def test_a_namespace_that_is_not_there_is_the_agents_fault(
    lambdas: Lambdas, prefect: Prefect1Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_KUBERNETES_NAMESPACE", "gone")
    assert 'namespaces "gone" not found' in is_misconfigured(lambdas, prefect)


def test_a_role_that_may_not_make_jobs_is_the_agents_fault(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer
) -> None:
    kubernetes.forbid("create", "jobs")
    assert 'cannot create resource "jobs"' in is_misconfigured(lambdas, prefect)


def test_a_cluster_that_does_not_know_the_role_is_the_agents_fault(
    lambdas: Lambdas, prefect: Prefect1Server, eks: EksServer
) -> None:
    eks.refuses_signers = True
    assert "EKS access entry" in is_misconfigured(lambdas, prefect)


def test_a_cluster_that_is_not_there_is_the_agents_fault(
    lambdas: Lambdas, prefect: Prefect1Server, eks: EksServer
) -> None:
    eks.descriptions.clear()
    assert "AGENT_EKS_CLUSTER" in is_misconfigured(lambdas, prefect)


def test_another_authority_than_the_clusters_is_not_believed(
    lambdas: Lambdas, prefect: Prefect1Server, kubernetes: KubernetesServer, eks: EksServer
) -> None:
    with KubernetesServer() as another:
        authority = base64.b64encode(another.ca_pem.encode()).decode()
    eks.descriptions["main"]["certificateAuthority"]["data"] = authority
    assert "check address and CA" in is_misconfigured(lambdas, prefect)
    assert kubernetes.calls == []


# from a shell


@pytest.fixture
def shell(prefect: Prefect1Server, kubernetes: KubernetesServer, tmp_path: Path) -> Callable[..., str]:
    """Runs a command line that is led to the doubles by a kubeconfig, and answers what it prints."""
    authority = base64.b64encode(kubernetes.ca_pem.encode()).decode()
    config = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": kubernetes.url, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    environment = {
        "PATH": os.environ["PATH"],
        "PREFECT__BACKEND": "server",
        "PREFECT__CLOUD__AGENT__AUTH_TOKEN": "canary-8Q",
        "AGENT_KUBECONFIG": str(tmp_path / "config"),
        "AGENT_STRAYS": "ignore",
    }
    options = ["--api", prefect.url, "--label", "dev", "--namespace", "flows"]

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "chalicelib.cli", *words, *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout

    return run


def test_a_tick_from_a_shell_launches_by_a_kubeconfig(
    prefect: Prefect1Server, kubernetes: KubernetesServer, shell: Callable[..., str]
) -> None:
    prefect.add_flow_run(labels=["dev"], run_config=RUN)
    assert json.loads(shell("tick", "kubernetes"))["launched"] == 1
    assert len(kubernetes.jobs("flows")) == 1


def test_a_preview_shows_the_job_without_its_secrets(
    prefect: Prefect1Server, kubernetes: KubernetesServer, shell: Callable[..., str]
) -> None:
    prefect.add_flow_run(labels=["dev"], run_config={**RUN, "env": {"DB_PASSWORD": "canary-9Q"}})
    shown = shell("tick", "kubernetes", "--dry-run")
    job = json.loads(shown)[0]["launch"]["job"]
    assert (job["kind"], job["spec"]["template"]["spec"]["containers"][0]["image"]) == ("Job", "flows:1")
    assert "canary" not in shown
    assert kubernetes.calls == []
