"""What `doctor` finds in a Kubernetes cluster, asked of the double over TLS."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalicelib.cli.doctor_kubernetes import RIGHTS, check_kubernetes
from chalicelib.cli.findings import Finding, examine
from chalicelib.cli.install import TEMPLATE
from chalicelib.launchers.aws import AwsClients
from chalicelib.settings import load_settings
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.kubernetes.transport import Answer

SECRET = "/api/v1/namespaces/flows/secrets/"
KEY_ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect-Ab12Cd"


class ClusterWithSecrets(KubernetesServer):
    """A cluster whose namespace `flows` has `secrets`: the texts of each by name; None for no right to see any."""

    secrets: dict[str, dict[str, str]] | None = None

    def answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """As any cluster; of Secrets itself."""
        if not target.startswith(SECRET):
            return super().answer(method, target, headers, content)
        name = target.removeprefix(SECRET)
        if self.secrets is None:
            return _refusal(403, "Forbidden", f'secrets "{name}" is forbidden: User "u" cannot get resource "secrets"')
        if name not in self.secrets:
            return _refusal(404, "NotFound", f'secrets "{name}" not found')
        data = {key: base64.b64encode(text.encode()).decode() for key, text in self.secrets[name].items()}
        return Answer(200, {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}, "data": data}, {})


def _refusal(code: int, reason: str, message: str) -> Answer:
    return Answer(code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}, {})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterWithSecrets]:
    server = ClusterWithSecrets(namespaces=("flows",))
    with server:
        write_kubeconfig(server, tmp_path / "config")
        yield server


def look(tmp_path: Path, **environment: Any) -> list[Finding]:
    given = {"AGENT_KUBECONFIG": str(tmp_path / "config"), "AGENT_KUBERNETES_NAMESPACE": "flows", **environment}
    return list(examine("Kubernetes", lambda: check_kubernetes(load_settings(given), AwsClients())))


def not_fine(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


def test_the_rights_that_are_looked_at_are_those_of_the_role_that_install_prints() -> None:
    documents = yaml.safe_load_all(TEMPLATE.read_text())
    (role,) = [document for document in documents if document["kind"] == "Role"]
    given = {f"{verb} {what}" for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}
    assert given == set(RIGHTS)


def test_a_cluster_in_order_has_only_lines_that_are_ok(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    findings = look(tmp_path)
    assert [finding.level for finding in findings] == ["ok", "ok", "ok"]
    assert "create jobs, delete jobs, list jobs, patch jobs, list pods" in findings[1].text
    assert {call.verb for call in cluster.calls if call.resource != "selfsubjectaccessreviews"} == {"get"}


def test_a_missing_right_is_wrong_and_named(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    cluster.forbid("patch", "jobs", "flows")
    cluster.forbid("list", "pods", "flows")
    (finding,) = not_fine(look(tmp_path))
    assert finding.level == "wrong"
    assert "not allowed in namespace flows: patch jobs, list pods: allow it" in finding.text


def test_a_namespace_that_is_missing_or_ends_is_wrong(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    (missing,) = not_fine(look(tmp_path, AGENT_KUBERNETES_NAMESPACE="nowhere"))
    assert (missing.level, "nowhere is not there: create it" in missing.text) == ("wrong", True)
    cluster.terminate_namespace("flows")
    (ending,) = not_fine(look(tmp_path))
    assert (ending.level, "flows is Terminating" in ending.text) == ("wrong", True)


def test_a_namespace_that_may_not_be_seen_is_not_checked(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    cluster.forbid("get", "namespaces")
    assert not_fine(look(tmp_path)) == [Finding("not checked", "Namespace: needs get namespaces")]


def test_the_secret_of_the_api_key_is_there_or_not_and_never_shown(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    named = {"AGENT_API_KEY_SECRET": "prefect/api-key", "PREFECT__CLOUD__API_KEY": KEY_ARN}
    cluster.secrets = {"prefect": {"api-key": "hunter2"}}
    findings = look(tmp_path, **named)
    assert not_fine(findings) == []
    assert "hunter2" not in json.dumps(findings)
    assert base64.b64encode(b"hunter2").decode() not in json.dumps(findings)
    for there in ({"prefect": {"other": "x"}}, {"prefect": {"api-key": ""}}, {}):
        cluster.secrets = there
        (finding,) = not_fine(look(tmp_path, **named))
        assert (finding.level, "put the API key there" in finding.text) == ("wrong", True)
    cluster.secrets = None
    assert not_fine(look(tmp_path, **named)) == [Finding("not checked", "Secret: needs get secrets")]


def test_a_key_in_aws_alone_does_not_reach_the_jobs(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    (finding,) = not_fine(look(tmp_path, PREFECT__CLOUD__API_KEY=KEY_ARN))
    assert (finding.level, "set AGENT_API_KEY_SECRET" in finding.text) == ("wrong", True)
    allowed = look(tmp_path, PREFECT__CLOUD__API_KEY=KEY_ARN, AGENT_ALLOW_PLAIN_API_KEY="true")
    assert not_fine(allowed) == []


def test_a_sign_in_that_fails_is_one_line(cluster: ClusterWithSecrets, tmp_path: Path) -> None:
    cluster.remove_token("secret-token")
    (refused,) = look(tmp_path)
    assert (refused.level, "401" in refused.text) == ("wrong", True)
    (missing,) = look(tmp_path, AGENT_KUBECONFIG=str(tmp_path / "nothing"))
    assert (missing.level, "No Kubernetes cluster can be signed in to" in missing.text) == ("wrong", True)
