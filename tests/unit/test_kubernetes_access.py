"""The ways to sign in to a cluster: EKS with AWS credentials, a kubeconfig, the service account of a pod."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchUnknown, SettingsError
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.eks import TOKEN_SECONDS, EksSignIn
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from tests.doubles.clock import TurnedClock
from tests.doubles.eks import EksServer
from tests.doubles.kubernetes import KubernetesServer

JOBS = "/apis/batch/v1/namespaces/default/jobs"


@pytest.fixture
def server() -> Iterator[KubernetesServer]:
    with KubernetesServer() as server:
        yield server


@pytest.fixture
def other_ca() -> Iterator[str]:
    with KubernetesServer() as another:
        yield base64.b64encode(another.ca_pem.encode()).decode()


@pytest.fixture
def eks(server: KubernetesServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[EksServer]:
    with EksServer(server) as eks:
        variables = {"AWS_REGION": eks.region, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        for name, value in {**variables, "AWS_ENDPOINT_URL_EKS": eks.url}.items():
            monkeypatch.setenv(name, value)
        yield eks


@pytest.fixture
def clients(eks: EksServer) -> Iterator[AwsClients]:
    clients = AwsClients()
    yield clients
    clients.close()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def api(clients: AwsClients, clock: TurnedClock) -> Iterator[KubernetesApi]:
    api = KubernetesApi(EksSignIn("flows", clients, clock))
    yield api
    api.close()


def list_jobs(api: KubernetesApi) -> Any:
    return api.ask("GET", JOBS, "Listing Jobs")["items"]


# EKS


def test_a_cluster_is_described_once_and_its_token_serves_many_requests(api: KubernetesApi, eks: EksServer) -> None:
    assert [list_jobs(api) for _ in range(3)] == [[], [], []]
    assert eks.calls == ["/clusters/flows"]
    assert len(eks.tokens) == 1
    assert api.cluster == "flows"


def test_a_token_is_made_anew_before_it_is_too_old(api: KubernetesApi, eks: EksServer, clock: TurnedClock) -> None:
    list_jobs(api)
    # A signature says the second in which it was made, by the clock on the wall.
    time.sleep(1.1)
    list_jobs(api)
    assert len(eks.tokens) == 1
    clock.turn(TOKEN_SECONDS + 1)
    list_jobs(api)
    assert len(eks.tokens) == 2
    assert TOKEN_SECONDS < 15 * 60


def test_a_token_that_is_refused_is_replaced_once(api: KubernetesApi, server: KubernetesServer, eks: EksServer) -> None:
    server.faults.add(when="list jobs", then="status", status=401, body=json.dumps({"kind": "Status"}))
    assert list_jobs(api) == []
    assert server.count("list jobs") == 2


def test_an_agent_that_the_cluster_does_not_know_is_misconfigured(
    api: KubernetesApi, server: KubernetesServer, eks: EksServer
) -> None:
    eks.refuses_signers = True
    with pytest.raises(LaunchForbidden, match="EKS access entry"):
        list_jobs(api)
    assert server.count("list jobs") == 2


def test_a_cluster_that_is_not_there_is_named(clients: AwsClients, clock: TurnedClock) -> None:
    with pytest.raises(LaunchForbidden, match=r"DescribeCluster of none: .*AGENT_EKS_CLUSTER"):
        KubernetesApi(EksSignIn("none", clients, clock)).connect()


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        ((403, "AccessDeniedException", "not authorized to perform: eks:DescribeCluster"), LaunchForbidden),
        ((503, "ServiceUnavailableException", "later"), LaunchDeferred),
        ((429, "ThrottlingException", "Rate exceeded"), LaunchDeferred),
    ],
)
def test_what_eks_answers_instead_is_told_as_what_it_is(
    api: KubernetesApi, eks: EksServer, refusal: tuple[int, str, str], kind: type[Exception]
) -> None:
    eks.refusal = refusal
    with pytest.raises(kind, match="DescribeCluster of flows"):
        api.connect()
    eks.refusal = None
    assert list_jobs(api) == []


def test_a_cluster_that_is_being_made_is_waited_for(api: KubernetesApi, eks: EksServer) -> None:
    eks.descriptions["flows"] = {"name": "flows", "status": "CREATING"}
    with pytest.raises(LaunchDeferred, match="its status is CREATING"):
        api.connect()


def test_a_cluster_of_another_authority_is_not_spoken_to(
    api: KubernetesApi, eks: EksServer, server: KubernetesServer, other_ca: str
) -> None:
    eks.descriptions["flows"]["certificateAuthority"]["data"] = other_ca
    with pytest.raises(LaunchForbidden, match="check address and CA"):
        list_jobs(api)
    assert server.calls == []


def test_a_ca_that_is_none_is_the_agents_fault(api: KubernetesApi, eks: EksServer) -> None:
    eks.descriptions["flows"]["certificateAuthority"]["data"] = base64.b64encode(b"nothing").decode()
    with pytest.raises(LaunchForbidden, match="The CA of cluster flows is no certificate"):
        list_jobs(api)


# a kubeconfig


def kubeconfig_of(server: KubernetesServer, **user: Any) -> dict[str, Any]:
    authority = base64.b64encode(server.ca_pem.encode()).decode()
    return {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": user or {"token": "secret-token"}}],
        "contexts": [
            {"name": "here", "context": {"cluster": "c", "user": "u"}},
            {"name": "nobody", "context": {"cluster": "c"}},
        ],
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config"


def sign_in(path: Path, config: Any, context: str | None = None) -> KubernetesApi:
    path.write_text(json.dumps(config))
    return KubernetesApi(KubeconfigSignIn(str(path), context))


def test_a_kubeconfig_signs_in_and_its_host_tells_the_cluster(server: KubernetesServer, path: Path) -> None:
    api = sign_in(path, kubeconfig_of(server))
    assert list_jobs(api) == []
    assert api.cluster == server.url.removeprefix("https://")
    api.close()


def test_a_kubeconfigs_plug_in_makes_the_token(server: KubernetesServer, path: Path, tmp_path: Path) -> None:
    plug_in = tmp_path / "plug-in"
    plug_in.write_text('#!/bin/sh\necho \'{"status": {"token": "secret-token"}}\'\n')
    plug_in.chmod(plug_in.stat().st_mode | stat.S_IXUSR)
    version = "client.authentication.k8s.io/v1beta1"
    api = sign_in(path, kubeconfig_of(server, exec={"apiVersion": version, "command": str(plug_in)}))
    assert list_jobs(api) == []
    api.close()


def test_a_plug_in_that_is_not_there_is_the_agents_fault(server: KubernetesServer, path: Path) -> None:
    version = "client.authentication.k8s.io/v1beta1"
    api = sign_in(path, kubeconfig_of(server, exec={"apiVersion": version, "command": "/no/such/plug-in"}))
    with pytest.raises(LaunchForbidden, match="/no/such/plug-in"):
        list_jobs(api)
    api.close()


def test_a_kubeconfig_that_verifies_nothing_is_refused(server: KubernetesServer, path: Path) -> None:
    config = kubeconfig_of(server)
    config["clusters"][0]["cluster"] = {"server": server.url, "insecure-skip-tls-verify": True}
    with pytest.raises(SettingsError, match="insecure-skip-tls-verify is set"):
        sign_in(path, config).connect()


@pytest.mark.parametrize(
    ("config", "context", "why"),
    [
        ({}, None, "no kubeconfig"),
        ([], None, "no kubeconfig"),
        ({"clusters": "canary-8Q", "contexts": [], "users": []}, None, "no kubeconfig"),
        ({"clusters": [], "contexts": [], "users": []}, None, "No current context"),
        ({"clusters": [], "contexts": [], "users": []}, "there", "Context 'there' not found"),
        (None, "nobody", "names no user"),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_is_a_setting_to_mend(
    server: KubernetesServer, path: Path, config: Any, context: str | None, why: str
) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        sign_in(path, kubeconfig_of(server) if config is None else config, context).connect()
    assert "AGENT_KUBECONFIG" in str(caught.value)
    assert "canary-8Q" not in str(caught.value)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none not found"):
        KubernetesApi(KubeconfigSignIn(str(tmp_path / "none"))).connect()


def test_without_any_way_to_sign_in_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"No Kubernetes cluster can be signed in to: .*AGENT_EKS_CLUSTER"):
        KubernetesApi(KubeconfigSignIn()).connect()


def test_a_pod_signs_in_as_its_service_account_and_the_ca_tells_the_cluster(
    server: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"token": "secret-token", "namespace": "default", "ca.crt": server.ca_pem}.items():
        (tmp_path / name).write_text(text)
    host, port = server.url.removeprefix("https://").split(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    api = KubernetesApi(KubeconfigSignIn(account=str(tmp_path)))
    assert list_jobs(api) == []
    first = api.cluster
    assert first.startswith("in-cluster-")
    api.close()
    with KubernetesServer() as another:
        (tmp_path / "ca.crt").write_text(another.ca_pem)
    assert KubernetesApi(KubeconfigSignIn(account=str(tmp_path))).cluster != first


# what answers


def test_an_answer_that_is_not_kubernetes_proves_nothing(server: KubernetesServer, path: Path) -> None:
    api = sign_in(path, kubeconfig_of(server))
    server.faults.add(when="list jobs", then="status", status=200, body="<html>Welcome</html>")
    with pytest.raises(LaunchUnknown, match="not Kubernetes"):
        list_jobs(api)
    api.close()


def test_while_the_cluster_is_away_nothing_is_sent(server: KubernetesServer, path: Path) -> None:
    api = sign_in(path, kubeconfig_of(server))
    server.close()
    with pytest.raises(LaunchDeferred, match="cannot be reached"):
        list_jobs(api)
    api.close()
