"""Flow runs of the real prefect 1.4.1 in processes of this machine, started by our local agent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.agent import Agent
from chalicelib.bootstrap import build_agent
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.local_process import LocalDefaults, ProcessLaunch, build_local_run
from chalicelib.clock import SystemClock
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun
from chalicelib.launchers.local import LocalLauncher
from chalicelib.outcomes import Answer
from chalicelib.settings import load_settings
from tests.contract.beside import wait_until
from tests.contract.conftest import SCRIPTS, Prefect1
from tests.doubles.prefect1 import Prefect1Server

pytestmark = pytest.mark.oracle


@pytest.fixture
def agent(prefect1: Prefect1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """As `prefect-agent start local` makes it, with a PATH on which the prefect of 1.4.1 comes first."""
    monkeypatch.setenv("PATH", f"{prefect1.python.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    own = {name: value for name, value in prefect1.environment.items() if name != "PATH"}
    flags = {"platform": "local", "labels": ["lab"], "env_vars": own, "import_paths": [str(SCRIPTS)]}
    agent = build_agent(load_settings({"PREFECT__CLOUD__API": own["PREFECT__CLOUD__API"]}, flags))
    assert isinstance(agent.launcher, LocalLauncher)
    return Agent(agent.prefect, replace(agent.launcher, directory=tmp_path), agent.clock)


def register(prefect1: Prefect1, directory: Path, number: int, storage: str) -> str:
    """A run of the flow of two tasks, stored so; it fails unless the number is 21."""
    return str(json.loads(prefect1.script("adding_flow", str(directory), str(number), storage))["run"])


def run_to_its_end(agent: Agent, server: Prefect1Server, run_id: str) -> Mapping[str, Any]:
    report = agent.tick(SystemClock().now() + timedelta(seconds=10))
    assert (report.answers[Answer.LAUNCHED], report.errors) == (1, [])
    wait_until(lambda: agent.launcher.find_alive(run_id) is None)
    return server.flow_run(run_id)


@pytest.mark.parametrize("storage", ["script", "pickle", "module"])
def test_a_flow_run_goes_to_success_wherever_its_flow_is_stored(
    agent: Agent, prefect1: Prefect1, server: Prefect1Server, tmp_path: Path, storage: str
) -> None:
    run_id = register(prefect1, tmp_path, 21, storage)
    run = run_to_its_end(agent, server, run_id)
    assert (run["state"], run["state_message"]) == ("Success", "All reference tasks succeeded.")
    assert [state["state"] for state in server.states(run_id)] == ["Scheduled", "Submitted", "Running", "Success"]
    messages = [entry["message"] for entry in server.logs(run_id)]
    assert any(message.startswith("Submitted for execution: Process ") for message in messages)
    assert any("doubling 21" in message for message in messages)


def test_a_flow_run_that_fails_goes_to_failed(
    agent: Agent, prefect1: Prefect1, server: Prefect1Server, tmp_path: Path
) -> None:
    run_id = register(prefect1, tmp_path, 1, "script")
    assert run_to_its_end(agent, server, run_id)["state"] == "Failed"


# what the real local agent makes of the same run

Case = tuple[dict[str, Any], dict[str, Any] | None]
"""The arguments of an agent, and the run config of a run."""

RUN_CONFIGS: list[dict[str, Any] | None] = [
    None,
    {"type": "UniversalRun", "env": {"A": "run", "PYTHONPATH": "/run"}, "labels": []},
    {"type": "LocalRun", "env": None, "working_dir": None, "labels": []},
    {"type": "LocalRun", "env": {"A": "run", "PREFECT__LOGGING__LEVEL": "ERROR"}, "working_dir": "/flows"},
    {"type": "LocalRun", "env": {"PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "false"}, "working_dir": "/flows"},
    {"type": "LocalRun", "env": {"PREFECT__CONTEXT__FLOW_RUN_ID": "another", "PREFECT__CLOUD__API": "another"}},
    {"type": "DockerRun", "env": {}},
]
AGENTS: list[dict[str, Any]] = [
    {"labels": ["dev"], "env_vars": {"A": "agent", "B": "agent"}, "import_paths": ["/z", "/a"]},
    {"labels": [], "env_vars": {"PYTHONPATH": "/agent"}, "import_paths": [], "no_cloud_logs": True},
]
ONLY_OURS = {"PREFECT__CLOUD__AUTH_TOKEN", "PREFECT__LOGGING__LOG_TO_CLOUD"}
"""What processes of older Prefects read."""
EMPTY = {"PREFECT__CLOUD__API_KEY": "", "PREFECT__CLOUD__TENANT_ID": ""}
"""What is unset there without a key, and means the same."""


def ask_the_real_agent(prefect1: Prefect1, cases: list[Case], variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """The environment and the directory that it gives each run, or the error."""
    flow = {"id": "flow-1", "core_version": "1.4.1", "environment": None}
    data = [
        {
            "agent": {**agent, "hostname_label": False},
            "flow_run": {"id": "run-1", "run_config": config and {"__version__": "1.4.1", **config}, "flow": flow},
        }
        for agent, config in cases
    ]
    answers: list[dict[str, Any]] = json.loads(prefect1.script("build_local_environment", data=data, **variables))
    return answers


def build_ours(case: Case, url: str, directory: Path, python_path: str) -> ProcessLaunch:
    agent, run_config = case
    run = FlowRun("run-1", "run", 1, SystemClock().now(), Flow("flow-1", "f", core_version="1.4.1"), {}, run_config)
    labels, sends = tuple(agent["labels"]), not agent.get("no_cloud_logs", False)
    container = ContainerSettings(api_url=url, labels=labels, env_vars=agent["env_vars"], send_logs=sends)
    return build_local_run(run, LocalDefaults(container, str(directory), python_path, agent["import_paths"]))


@pytest.mark.parametrize("python_path", ["", "/inherited"])
def test_a_process_is_told_what_the_real_local_agent_tells_it(
    prefect1: Prefect1, server: Prefect1Server, tmp_path: Path, python_path: str
) -> None:
    cases = [(agent, run_config) for agent in AGENTS for run_config in RUN_CONFIGS]
    # The agent logs where it answers.
    inherited = {"PREFECT__CLOUD__AGENT__LEVEL": "CRITICAL", "PYTHONPATH": python_path}
    answers = ask_the_real_agent(prefect1, cases, inherited)
    for case, answer in zip(cases, answers, strict=True):
        if "error" in answer:
            with pytest.raises(UnsupportedRun):
                build_ours(case, server.url, tmp_path, python_path)
            continue
        ours = build_ours(case, server.url, tmp_path, python_path)
        told = {**prefect1.environment, **inherited, **ours.environment}
        theirs = {name: value for name, value in answer["environment"].items() if name != "LC_CTYPE"}
        assert {name: told[name] for name in told if name not in ONLY_OURS} == {**EMPTY, **theirs}
        assert ours.working_directory == (answer["directory"] or str(tmp_path))
    assert sum("error" in answer for answer in answers) == len(AGENTS)
