"""Agents as objects: what importing costs, what the arguments mean, and what is told when they are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import chalicelib
from chalicelib import DockerAgent, ECSAgent, KubernetesAgent, LocalAgent, PlatformAgent
from chalicelib.errors import SettingsError

ROOT = Path(__file__).parents[2]
FILE = """
[cloud]
api = "http://from-file:4200"
[cloud.agent]
name = "from-file"
labels = ["from-file"]
max_polls = 7
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without anybody's config file, and an environment without anybody's settings."""
    for name in os.environ:
        if name.startswith(("PREFECT", "AGENT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def problems(kind: type[PlatformAgent], **arguments: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        kind(**arguments)
    return caught.value.problems


# Importing


def modules_after(statement: str) -> set[str]:
    code = f"import json, sys; before = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - before]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_nothing_else() -> None:
    modules = modules_after("import chalicelib")
    assert {name for name in modules if name.startswith("chalicelib")} == {"chalicelib"}
    assert modules <= {"chalicelib", "typing", "typing.io", "typing.re", "_typing", "collections.abc"}


def test_importing_an_agent_imports_no_client_of_any_platform() -> None:
    modules = modules_after("from chalicelib import DockerAgent, ECSAgent, KubernetesAgent, LocalAgent")
    assert "chalicelib.agents" in modules
    assert not modules & {"boto3", "botocore", "requests", "docker", "lightkube", "yaml", "chalice", "psutil"}


def test_the_lambda_imports_neither_docker_nor_anything_of_the_process_form() -> None:
    modules = modules_after("import app")
    assert "chalicelib.bootstrap" in modules
    assert not modules & {"docker", "chalicelib.agents", "chalicelib.cli", "chalicelib.launchers.docker"}
    assert "docker" not in (ROOT / "requirements.txt").read_text()


def test_every_name_that_the_package_offers_is_there_and_no_other() -> None:
    assert {getattr(chalicelib, name).__name__ for name in chalicelib.__all__} == set(chalicelib.__all__)
    with pytest.raises(AttributeError, match="no attribute 'VertexAgent'"):
        _ = chalicelib.VertexAgent


# Arguments


@pytest.mark.parametrize(
    ("kind", "platform"),
    [(ECSAgent, "ecs"), (KubernetesAgent, "kubernetes"), (LocalAgent, "local"), (DockerAgent, "docker")],
)
def test_each_agent_is_one_of_its_platform(kind: type[PlatformAgent], platform: str) -> None:
    settings = kind(labels=["dev", "staging"], hostname_label=False).settings
    assert (settings.platform, settings.labels) == (platform, ("dev", "staging"))


def test_the_arguments_that_all_agents_of_prefect_have_mean_the_same() -> None:
    settings = ECSAgent(
        agent_config_id=None,
        name="n",
        labels=["b", "a"],
        env_vars={"A": "1"},
        max_polls=3,
        agent_address="http://localhost:8080",
        no_cloud_logs=True,
    ).settings
    assert (settings.name, settings.labels, settings.env_vars) == ("n", ("a", "b"), {"A": "1"})
    assert (settings.max_polls, settings.agent_address) == (3, "http://localhost:8080")
    assert settings.send_flow_run_logs is False
    assert ECSAgent(no_cloud_logs=False).settings.send_flow_run_logs is True


def test_the_arguments_of_each_platform_are_those_of_prefects_agents() -> None:
    ecs = ECSAgent(
        cluster="c", launch_type="EC2", task_definition_path="t.yaml", run_task_kwargs_path="r.yaml"
    ).settings
    assert (ecs.cluster, ecs.launch_type) == ("c", "EC2")
    assert (ecs.task_definition_path, ecs.run_task_kwargs_path) == ("t.yaml", "r.yaml")
    kubernetes = KubernetesAgent(
        namespace="n", service_account_name="s", image_pull_secrets=["hub"], job_template_path="j.yaml"
    ).settings
    assert (kubernetes.namespace, kubernetes.service_account_name) == ("n", "s")
    assert (kubernetes.image_pull_secrets, kubernetes.job_template_path) == (("hub",), "j.yaml")
    docker = DockerAgent(
        base_url="tcp://h:2375", no_pull=True, volumes=["/a:/b"], networks=["one"], docker_client_timeout=5
    ).settings
    assert (docker.docker_base_url, docker.docker_pull, docker.docker_timeout_seconds) == ("tcp://h:2375", False, 5)
    assert (docker.docker_volumes, docker.docker_networks) == (("/a:/b",), ("one",))
    local = LocalAgent(import_paths=["/a"], show_flow_logs=True, hostname_label=False).settings
    assert (local.import_paths, local.show_flow_logs, local.hostname_label) == (("/a",), True, False)


def test_an_argument_beats_the_environment_which_beats_the_file_which_beats_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".prefect").mkdir()
    (home / ".prefect" / "config.toml").write_text(FILE)
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LABELS", '["from-environment"]')
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__NAME", "from-environment")
    settings = LocalAgent(labels=["argument"], hostname_label=False).settings
    assert (settings.labels, settings.name) == (("argument",), "from-environment")
    assert (settings.api_url, settings.max_polls, settings.log_level) == ("http://from-file:4200", 7, "INFO")


def test_an_unknown_argument_is_an_error_with_the_nearest_name() -> None:
    assert problems(ECSAgent, clustr="x", lables=["dev"]) == (
        "clustr: no such setting; did you mean cluster?",
        "lables: no such setting; did you mean labels?",
    )


def test_wrong_values_are_told_by_the_names_of_the_arguments() -> None:
    wrong = problems(DockerAgent, labels=["a,b"], volumes=["a:b:c:d"], max_polls="many")
    assert [line.split(":")[0] for line in wrong] == ["labels", "max_polls", "volumes"]


@pytest.mark.parametrize(
    ("kind", "name", "advice"),
    [
        (ECSAgent, "region_name", "AWS_REGION"),
        (ECSAgent, "aws_access_key_id", "AWS_ACCESS_KEY_ID"),
        (KubernetesAgent, "volumes", "job_template_path"),
        (KubernetesAgent, "delete_finished_jobs", "job_ttl_seconds"),
        (DockerAgent, "reg_allow_list", "registries"),
        (LocalAgent, "agent_config_id", "by its own"),
    ],
)
def test_what_prefects_agents_take_and_these_do_not_says_what_to_do(
    kind: type[PlatformAgent], name: str, advice: str
) -> None:
    (problem,) = problems(kind, **{name: "x"})
    assert problem.startswith(f"{name}: ")
    assert advice in problem


def test_an_agent_of_one_platform_serves_no_work_pools_and_no_other_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PlatformAgent(work_pools=["nightly"]).settings.work_pools == ("nightly",)
    assert problems(DockerAgent, platform="ecs") == ("platform: this class starts flow runs on docker: leave it out",)
    monkeypatch.setenv("AGENT_WORK_POOLS", "nightly")
    (problem,) = problems(ECSAgent)
    assert problem.startswith("work_pools: the type of a work pool is its platform")
