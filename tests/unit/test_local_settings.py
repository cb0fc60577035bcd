"""The settings of the local platform, and the launcher that they make."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.bootstrap import build_agent
from chalicelib.builders.local_process import ProcessLaunch
from chalicelib.cli.preview import render_previews
from chalicelib.errors import SettingsError
from chalicelib.flow_runs import Flow, FlowRun, Place
from chalicelib.outcomes import Build
from chalicelib.settings import load_settings

ROOT = Path(__file__).parents[2]
LOCAL = {"platform": "local"}


def test_the_hostname_is_one_more_label_of_a_local_agent_alone() -> None:
    own = socket.gethostname()
    assert load_settings({}, LOCAL).labels == (own,)
    assert load_settings({}, {**LOCAL, "labels": ["dev", own]}).labels == tuple(sorted(["dev", own]))
    assert load_settings({"AGENT_HOSTNAME_LABEL": "false"}, LOCAL).labels == ()
    assert load_settings({}, {"platform": "docker"}).labels == ()


def test_work_pools_have_no_labels_on_any_platform() -> None:
    assert load_settings({}, {**LOCAL, "work_pools": ["laptop"]}).labels == ()


def test_import_paths_stay_in_their_order() -> None:
    assert load_settings({"AGENT_IMPORT_PATHS": "/z, /a,/z"}, LOCAL).import_paths == ("/z", "/a")
    assert load_settings({}, {**LOCAL, "import_paths": ["/z", "/a"]}).import_paths == ("/z", "/a")


def built(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, directory: Path) -> ProcessLaunch:
    """What an agent of these settings, which was started in this directory, starts for a run."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PYTHONPATH", "/inherited")
    agent = build_agent(load_settings(environment, LOCAL))
    assert agent.launcher.place == Place("local", socket.gethostname())
    run = FlowRun("run-1", "run", 1, datetime.now(UTC), Flow("flow-1", "flow", core_version="1.4.1"))
    request = agent.launcher.build(run)
    assert isinstance(request, ProcessLaunch)
    return request


def test_the_settings_reach_the_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {"AGENT_IMPORT_PATHS": "/mine", "AGENT_SHOW_FLOW_LOGS": "true", "PREFECT__CLOUD__API_KEY": "pcu_s3cret"}
    request = built(settings, monkeypatch, tmp_path)
    assert (request.working_directory, request.shows_output) == (str(tmp_path), True)
    assert request.environment["PYTHONPATH"] == os.pathsep.join((str(tmp_path), "/inherited", "/mine"))
    assert request.environment["PREFECT__CLOUD__API_KEY"] == "pcu_s3cret"
    assert request.environment["PREFECT__CLOUD__AGENT__LABELS"] == f"['{socket.gethostname()}']"


def test_a_preview_shows_a_process_without_its_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {"PREFECT__CLOUD__API_KEY": "pcu_s3cret"}
    request = built(settings, monkeypatch, tmp_path)
    run = FlowRun("run-1", "run", 1, datetime.now(UTC), Flow("flow-1", "flow"))
    shown = render_previews([Build(run, request=request)], load_settings(settings, LOCAL))
    assert '"execute"' in shown
    assert "pcu_s3cret" not in shown


def test_without_psutil_it_is_said_what_to_install() -> None:
    program = """
import sys
sys.modules["psutil"] = None
from chalicelib.bootstrap import build_agent
from chalicelib.settings import load_settings
build_agent(load_settings({}, {"platform": "local"}))
"""
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False).stderr
    assert SettingsError.__name__ in told
    assert "pip install 'prefect-agent-lambda[local]'" in told


def test_an_agent_of_another_platform_never_loads_psutil() -> None:
    program = """
import sys
from chalicelib.bootstrap import build_agent
from chalicelib.settings import load_settings
build_agent(load_settings({}, {"platform": "ecs"}))
print("psutil" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"
