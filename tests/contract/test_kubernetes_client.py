"""The Kubernetes double, spoken to by clients made for the real API: the official one, lightkube and kubectl."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import lightkube
import pytest
import urllib3
from kubernetes import client as official
from kubernetes import config as official_config
from kubernetes.client.exceptions import ApiException
from lightkube.config.kubeconfig import KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models import batch_v1, core_v1, meta_v1
from lightkube.resources.batch_v1 import Job
from lightkube.resources.core_v1 import Namespace, Pod
from lightkube.types import CascadeType

from tests.doubles.kubernetes import KubernetesServer


def kubeconfig_of(server: KubernetesServer, token: str = "secret-token", ca_pem: str = "") -> dict[str, Any]:
    authority = base64.b64encode((ca_pem or server.ca_pem).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": server.url, "certificate-authority-data": authority}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
    }


def job_document(name: str) -> dict[str, Any]:
    container = {"name": "flow", "image": "flows:1", "env": [{"name": "A", "value": "1"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": {"prefect.io/flow_run_id": name}},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with KubernetesServer() as server:
        yield server


@pytest.fixture
def foreign_ca_pem() -> Iterator[str]:
    with KubernetesServer() as another:
        yield another.ca_pem


class Official:
    """The official client; its types allow for None wherever the API may leave something out, so they are Any here."""

    def __init__(self, server: KubernetesServer, **config: str) -> None:
        new_client: Any = official_config.new_client_from_config_dict
        self.api: Any = new_client(kubeconfig_of(server, **config))
        self.batch: Any = official.BatchV1Api(self.api)
        self.core: Any = official.CoreV1Api(self.api)

    def close(self) -> None:
        self.api.rest_client.pool_manager.clear()
        self.api.close()


@pytest.fixture
def kubernetes(server: KubernetesServer) -> Iterator[Official]:
    client = Official(server)
    yield client
    client.close()


# the official client


def test_the_official_client_creates_reads_and_deletes_a_job(server: KubernetesServer, kubernetes: Official) -> None:
    pod = official.V1PodSpec(
        restart_policy="Never", containers=[official.V1Container(name="flow", image="flows:1", args=["run"])]
    )
    spec = official.V1JobSpec(template=official.V1PodTemplateSpec(spec=pod), ttl_seconds_after_finished=60)
    body = official.V1Job(metadata=official.V1ObjectMeta(name="run", labels={"a": "1"}), spec=spec)
    created = kubernetes.batch.create_namespaced_job("default", body, field_validation="Strict")
    assert (created.metadata.name, created.spec.backoff_limit) == ("run", 6)
    assert created.metadata.creation_timestamp.tzinfo is not None

    read = kubernetes.batch.read_namespaced_job("run", "default")
    assert (read.metadata.uid, read.status.active) == (created.metadata.uid, 1)
    status = kubernetes.batch.delete_namespaced_job("run", "default", propagation_policy="Background")
    assert status["status"] == "Success"
    assert server.jobs() == [] and server.pods() == []


def test_the_official_client_pages_through_a_list(kubernetes: Official) -> None:
    for name in "abcde":
        kubernetes.batch.create_namespaced_job("default", job_document(name))
    names, token = [], None
    while token != "":
        page = kubernetes.batch.list_namespaced_job("default", limit=2, **({"_continue": token} if token else {}))
        names.append([job.metadata.name for job in page.items])
        token = page.metadata._continue or ""
    assert names == [["a", "b"], ["c", "d"], ["e"]]
    chosen = kubernetes.batch.list_job_for_all_namespaces(label_selector="prefect.io/flow_run_id in (a, e)")
    assert [job.metadata.name for job in chosen.items] == ["a", "e"]


def test_the_official_client_meets_an_expired_list(server: KubernetesServer, kubernetes: Official) -> None:
    for name in "ab":
        kubernetes.batch.create_namespaced_job("default", job_document(name))
    token = kubernetes.batch.list_namespaced_job("default", limit=1).metadata._continue
    server.expire_continue_tokens()
    with pytest.raises(ApiException) as caught:
        kubernetes.batch.list_namespaced_job("default", limit=1, _continue=token)
    assert (caught.value.status, json.loads(caught.value.body or "")["reason"]) == (410, "Expired")


def test_the_official_client_follows_a_pod_to_its_end(server: KubernetesServer, kubernetes: Official) -> None:
    kubernetes.batch.create_namespaced_job("default", job_document("run"))
    (pod,) = kubernetes.core.list_namespaced_pod("default", label_selector="job-name=run").items
    name = pod.metadata.name
    server.wait_for_image(name, message="manifest unknown")
    waiting = kubernetes.core.read_namespaced_pod(name, "default").status.container_statuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("ImagePullBackOff", "manifest unknown")

    server.start_pod(name)
    server.write_log(name, "hello\n")
    server.finish_pod(name, exit_code=137, reason="OOMKilled")
    assert kubernetes.core.read_namespaced_pod_log(name, "default", container="flow", tail_lines=5) == "hello\n"
    ended = kubernetes.core.read_namespaced_pod(name, "default")
    terminated = ended.status.container_statuses[0].state.terminated
    assert (ended.status.phase, terminated.exit_code, terminated.reason) == ("Failed", 137, "OOMKilled")
    conditions = kubernetes.batch.read_namespaced_job_status("run", "default").status.conditions
    assert [(row.type, row.reason) for row in conditions][-1] == ("Failed", "BackoffLimitExceeded")
    events = kubernetes.core.list_namespaced_event("default", field_selector=f"involvedObject.uid={pod.metadata.uid}")
    assert {"Scheduled", "Pulling", "Failed", "BackOff", "Started"} <= {event.reason for event in events.items}


def test_the_official_client_reads_refusals(server: KubernetesServer, kubernetes: Official) -> None:
    kubernetes.batch.create_namespaced_job("default", job_document("run"))
    found = []
    for name in ("run", "x" * 64):
        with pytest.raises(ApiException) as caught:
            kubernetes.batch.create_namespaced_job("default", job_document(name))
        found.append((caught.value.status, json.loads(caught.value.body or "")["reason"]))
    assert found == [(409, "AlreadyExists"), (422, "Invalid")]


def test_the_official_client_asks_what_it_may_do(server: KubernetesServer, kubernetes: Official) -> None:
    server.forbid("create", "jobs")
    attributes = official.V1ResourceAttributes(verb="create", group="batch", resource="jobs", namespace="default")
    spec = official.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    review = official.V1SelfSubjectAccessReview(spec=spec)
    authorization: Any = official.AuthorizationV1Api(kubernetes.api)
    answer = authorization.create_self_subject_access_review(review)
    assert answer.status.allowed is False
    assert official.VersionApi(kubernetes.api).get_code().major == "1"
    assert [row.metadata.name for row in kubernetes.core.list_namespace().items] == ["default"]


def test_the_official_client_refuses_another_authority(server: KubernetesServer, foreign_ca_pem: str) -> None:
    client = Official(server, ca_pem=foreign_ca_pem)
    client.api.rest_client.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(0)
    with pytest.raises(urllib3.exceptions.MaxRetryError) as caught:
        client.batch.list_namespaced_job("default")
    client.close()
    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value)
    assert server.calls == []


def test_the_official_client_is_refused_with_another_token(server: KubernetesServer) -> None:
    client = Official(server, token="another")
    with pytest.raises(ApiException) as caught:
        client.batch.list_namespaced_job("default")
    client.close()
    assert caught.value.status == 401


# lightkube


def lightkube_job(name: str) -> Job:
    job = Job.from_dict(job_document(name))
    assert isinstance(job, Job)
    return job


def test_lightkube_creates_lists_and_deletes_a_job(server: KubernetesServer) -> None:
    pod = core_v1.PodSpec(restartPolicy="Never", containers=[core_v1.Container(name="flow", image="flows:1")])
    job = Job(
        metadata=meta_v1.ObjectMeta(name="run", labels={"a": "1"}),
        spec=batch_v1.JobSpec(template=core_v1.PodTemplateSpec(spec=pod)),
    )
    with lightkube.Client(config=KubeConfig.from_dict(kubeconfig_of(server))) as client:
        created = client.create(job)
        assert created.spec is not None and created.spec.backoffLimit == 6
        found = [row.metadata.name for row in client.list(Job, labels={"a": "1"}, chunk_size=1) if row.metadata]
        assert found == ["run"]
        assert [row.metadata.name for row in client.list(Namespace) if row.metadata] == ["default"]
        server.start_pod(server.pods("run")[0]["metadata"]["name"])
        (running,) = client.list(Pod, fields={"status.phase": "Running"})
        assert running.metadata is not None and running.metadata.name is not None
        server.write_log(running.metadata.name, "hello\n")
        assert list(client.log(running.metadata.name)) == ["hello\n"]
        client.delete(Job, "run", cascade=CascadeType.BACKGROUND)
    assert server.jobs() == [] and server.pods() == []


def test_lightkube_pages_through_a_list(server: KubernetesServer) -> None:
    with lightkube.Client(config=KubeConfig.from_dict(kubeconfig_of(server))) as client:
        for name in "abc":
            client.create(lightkube_job(name))
        server.forget_calls()
        assert [row.metadata.name for row in client.list(Job, chunk_size=2) if row.metadata] == ["a", "b", "c"]
    assert server.count("list jobs") == 2


def test_lightkube_reads_refusals(server: KubernetesServer) -> None:
    with lightkube.Client(config=KubeConfig.from_dict(kubeconfig_of(server, token="another"))) as client:
        with pytest.raises(ApiError) as unauthorized:
            client.create(lightkube_job("run"))
        server.add_token("another")
        with pytest.raises(ApiError) as missing:
            client.get(Job, "run")
    assert unauthorized.value.status.code == 401
    assert (missing.value.status.reason, missing.value.status.message) == ("NotFound", 'jobs.batch "run" not found')


def test_lightkube_refuses_another_authority(server: KubernetesServer, foreign_ca_pem: str) -> None:
    config = KubeConfig.from_dict(kubeconfig_of(server, ca_pem=foreign_ca_pem))
    with (
        lightkube.Client(config=config) as client,
        pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        list(client.list(Job))
    assert server.calls == []


# kubectl


def test_kubectl_creates_shows_and_deletes_a_job(server: KubernetesServer, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl on the PATH")
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(json.dumps(kubeconfig_of(server)))

    def run(*arguments: str, text: str = "") -> str:
        finished = subprocess.run(
            [kubectl, "--kubeconfig", str(kubeconfig), *arguments],
            input=text,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    manifest = json.dumps(job_document("run"))
    assert run("create", "--validate=false", "-o", "name", "-f", "-", text=manifest) == "job.batch/run\n"
    pod = server.pods("run")[0]["metadata"]["name"]
    server.start_pod(pod)
    server.write_log(pod, "hello\n")
    assert run("get", "pods", "-l", "job-name=run", "-o", "jsonpath={.items[*].status.phase}") == "Running"
    assert run("logs", pod) == "hello\n"
    assert run("delete", "job", "run", "--wait=false") == 'job.batch "run" deleted\n'
    assert server.jobs() == [] and server.pods() == []
