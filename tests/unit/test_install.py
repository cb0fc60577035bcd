"""What `prefect-agent install` prints is what Kubernetes takes, and no more than the agent needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from chalicelib.cli.commands import main
from chalicelib.cli.install import environment_of, render_install
from chalicelib.settings import SETTINGS, load_settings
from tests.oracle.kubernetes_schema import OLDEST, schema_problem

TOKEN = "pnu_8Qcanary"


def install(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """The printed documents by kind."""
    assert main(["install", *arguments]) == 0
    return {document["kind"]: document for document in yaml.safe_load_all(capsys.readouterr().out)}


def container_of(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("arguments", [[], ["--rbac"], ["--token", TOKEN, "--env", "A=1"], ["--access-only"]])
@pytest.mark.parametrize("version", [OLDEST, ""])
def test_everything_that_is_printed_passes_kubernetes_own_schemas(
    capsys: pytest.CaptureFixture[str], arguments: list[str], version: str
) -> None:
    documents = install(capsys, "kubernetes", "--namespace", "metrics", "--image-pull-secrets", "hub", *arguments)
    assert documents
    for document in documents.values():
        assert (schema_problem(document, version) if version else schema_problem(document)) == ""
        assert document["metadata"]["namespace"] == "metrics"


def test_kubernetes_is_what_is_installed_when_no_platform_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert install(capsys) == install(capsys, "kubernetes")


def test_the_token_stands_in_the_secret_alone_and_agent_and_flow_runs_get_it_from_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    documents = install(capsys, "--token", TOKEN, "--label", "dev", "--env", f"PASSWORD={TOKEN}")
    assert documents["Secret"]["stringData"] == {"api-key": TOKEN, "env-vars": json.dumps({"PASSWORD": TOKEN})}
    assert TOKEN not in json.dumps([document for kind, document in documents.items() if kind != "Secret"])
    env = {entry["name"]: entry for entry in container_of(documents)["env"]}
    name = documents["Secret"]["metadata"]["name"]
    assert env["PREFECT__CLOUD__AGENT__AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": name, "key": "api-key"}
    assert env["AGENT_API_KEY_SECRET"]["value"] == f"{name}/api-key"
    assert json.loads(env["PREFECT__CLOUD__AGENT__LABELS"]["value"]) == ["dev"]


def test_without_a_key_there_is_no_secret_and_without_rbac_no_account(capsys: pytest.CaptureFixture[str]) -> None:
    documents = install(capsys)
    assert list(documents) == ["Deployment"]
    assert "serviceAccountName" not in documents["Deployment"]["spec"]["template"]["spec"]


def test_the_role_is_of_one_namespace_and_bound_to_the_agent_or_to_the_group_of_the_lambda(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inside, outside = install(capsys, "--rbac"), install(capsys, "--access-only")
    account = inside["ServiceAccount"]["metadata"]["name"]
    assert inside["RoleBinding"]["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": "default"}]
    assert inside["Deployment"]["spec"]["template"]["spec"]["serviceAccountName"] == account
    assert [subject["kind"] for subject in outside["RoleBinding"]["subjects"]] == ["Group"]
    assert set(outside) == {"Role", "RoleBinding"}
    assert "*" not in json.dumps(inside["Role"]["rules"])


def test_the_agent_in_the_cluster_gets_every_setting_that_was_given() -> None:
    given = {
        "platform": "kubernetes",
        "api_url": "http://prefect:4200",
        "name": "nightly",
        "labels": ["b", "a c"],
        "namespace": "metrics",
        "service_account_name": "flows",
        "image_pull_secrets": ["hub", "mirror"],
        "cadence_seconds": "20",
        "send_flow_run_logs": "false",
        "launches_per_second": "2.5",
    }
    settings = load_settings({}, given)
    again = load_settings(environment_of(settings))
    assert again == settings
    assert {setting.env for setting in SETTINGS if setting.field in given} <= set(environment_of(settings))


def test_a_key_by_reference_is_no_secret() -> None:
    arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect-Ab12Cd"
    text = render_install(load_settings({"PREFECT__CLOUD__API_KEY": arn}), "agent:1", False, False)
    (deployment,) = yaml.safe_load_all(text)
    assert {"name": "PREFECT__CLOUD__API_KEY", "value": arn} in container_of({"Deployment": deployment})["env"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["start", "kubernetes", "--rbac"], "--rbac belongs to install"),
        (["install", "--dry-run"], "--dry-run belongs to start and tick"),
        (["install", "ecs"], "no such command"),
        (["install", "--job-template", "job.yaml"], "this file is not in the cluster"),
        (["install", "--namespace", "No Such"], "is not a namespace"),
    ],
)
def test_an_option_of_another_command_or_a_bad_value_is_one_line_that_says_so(
    capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert problem in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)


def test_a_kubeconfig_of_this_machine_does_not_go_into_the_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    documents = install(capsys, "--kubeconfig", "/home/me/.kube/config", "--context", "mine")
    assert not {"AGENT_KUBECONFIG", "AGENT_KUBECONFIG_CONTEXT"} & {
        each["name"] for each in container_of(documents)["env"]
    }
