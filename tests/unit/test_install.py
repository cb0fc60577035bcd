"""What `prefect-agent install` prints is what Kubernetes takes, and no more than the agent needs."""

from __future__ import annotations

import json
from pathlib import Path
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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home directory without anybody's config file."""
    monkeypatch.setenv("HOME", str(tmp_path))


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
        (["install", "ecs"], "it may be followed by kubernetes, aws"),
        (["install", "aws", "--key", TOKEN], "create a secret and give its ARN"),
        (["install", "--output", "/dev/null"], "--output: /dev/null/agent.yaml cannot be written"),
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


# Health in the cluster


@pytest.mark.parametrize(
    ("arguments", "port"),
    [([], 8080), (["--agent-address", "http://:9090"], 9090), (["--agent-address", "http://localhost:7070"], 7070)],
)
def test_the_kubelet_asks_for_health_where_the_agent_serves_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], port: int
) -> None:
    container = container_of(install(capsys, *arguments))
    assert container["livenessProbe"]["httpGet"] == {"path": "/api/health", "port": port}
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    # Of all addresses, as the kubelet does not come from the pod itself.
    assert env["PREFECT__CLOUD__AGENT__AGENT_ADDRESS"] == f"http://:{port}"


def test_an_agent_of_work_pools_gets_its_settings_by_prefect_3s_names(capsys: pytest.CaptureFixture[str]) -> None:
    documents = install(capsys, "--work-pool", "nightly", "--api", "http://prefect:4200/api", "--key", TOKEN)
    env = {entry["name"]: entry for entry in container_of(documents)["env"]}
    assert env["AGENT_WORK_POOLS"]["value"] == "nightly"
    assert env["PREFECT_API_URL"]["value"] == "http://prefect:4200/api"
    assert env["PREFECT_API_KEY"]["valueFrom"]["secretKeyRef"]["key"] == "api-key"
    assert not {"PREFECT__CLOUD__API", "PREFECT__CLOUD__API_KEY"} & set(env)


# Files, and AWS


def test_output_writes_what_would_be_printed_for_its_owner_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "agent.yaml"
    path.parent.mkdir()
    path.touch(mode=0o644)
    assert main(["install", "--token", TOKEN, "--output", str(path.parent)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert main(["install", "--token", TOKEN]) == 0
    assert capsys.readouterr().out == path.read_text()
    assert path.stat().st_mode & 0o077 == 0


ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect-Ab12Cd"
ROLE = "arn:aws:iam::111122223333:role/execution"


def stage(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["install", "aws", *arguments]) == 0
    printed = capsys.readouterr()
    assert "make deploy STAGE=dev" in printed.err
    return dict(json.loads(printed.out))


def test_for_aws_there_is_a_stage_with_the_settings_and_the_users_own_cluster_and_roles(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = stage(
        capsys, "--cluster", "flows", "--label", "dev", "--key", ARN, "--execution-role-arn", ROLE, "--env", "A=1"
    )
    settings = load_settings(made["environment_variables"])
    assert (settings.platform, settings.cluster, settings.labels) == ("ecs", "flows", ("dev",))
    assert (settings.secret_reference, settings.execution_role_arn, settings.env_vars) == (ARN, ROLE, {"A": "1"})
    assert made["infrastructure"]["parts"] == ["core"]
    assert made["infrastructure"]["parameters"] == {
        "ClusterArns": "arn:aws:ecs:<region>:<account>:cluster/flows",
        "PassableRoleArns": ROLE,
    }


def test_for_aws_without_a_cluster_the_deployment_makes_one(capsys: pytest.CaptureFixture[str]) -> None:
    made = stage(capsys, "--api", "https://prefect.example.com")
    assert set(made) == {"environment_variables"}
    assert made["environment_variables"]["PREFECT__CLOUD__API"] == "https://prefect.example.com"


def test_the_parameters_are_those_that_the_stack_has(capsys: pytest.CaptureFixture[str]) -> None:
    stack = (Path(__file__).parents[2] / "infra" / "core.yaml").read_text()
    parameters = stage(capsys, "--cluster", "flows")["infrastructure"]["parameters"]
    assert all(f"\n  {name}:\n    Type:" in stack for name in parameters)


def test_a_stage_goes_into_a_file_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["install", "aws", "--label", "dev", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'stage.json'}\n"
    assert json.loads((tmp_path / "stage.json").read_text()) == stage(capsys, "--label", "dev")
