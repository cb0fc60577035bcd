"""What a flow run is as a process, of either generation of Prefect."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.local_process import LocalDefaults, ProcessLaunch, build_local_run, build_pool_process
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Document, Flow, FlowRun, WorkPoolJob

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CONTAINER = ContainerSettings(
    api_url="http://prefect", labels=("dev",), env_vars={"A": "agent", "B": "agent"}, api_key="key", log_level="DEBUG"
)
DEFAULTS = LocalDefaults(CONTAINER, "/here", python_path="/inherited", import_paths=("/z", "/a"))
TEMPLATE: Document = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "stream_output": "{{ stream_output }}",
        "working_dir": "{{ working_dir }}",
    },
    "variables": {"properties": {"stream_output": {"type": "boolean", "default": True}}},
}


def local_run(run_config: Document | None = None, storage: Document | None = None, version: str = "1.4.1") -> FlowRun:
    flow = Flow("flow-1", "flow", core_version=version, storage=storage or {"type": "Local"})
    return FlowRun("run-1", "run", 1, NOW, flow, run_config=run_config)


def built(run_config: Document | None = None, **more: Any) -> ProcessLaunch:
    return build_local_run(local_run(run_config, **more), DEFAULTS)


def test_a_run_without_a_run_config_starts_where_the_agent_stands() -> None:
    launch = built()
    assert (launch.run_id, list(launch.command)) == ("run-1", ["prefect", "execute", "flow-run"])
    assert (launch.working_directory, launch.shows_output) == ("/here", False)
    assert launch.environment["PREFECT__CONTEXT__FLOW_RUN_ID"] == "run-1"
    assert launch.environment["PREFECT__CLOUD__API"] == "http://prefect"
    assert launch.environment["PREFECT__CLOUD__AGENT__LABELS"] == "['dev']"
    assert launch.environment["PREFECT__LOGGING__LEVEL"] == "DEBUG"


def test_modules_are_looked_for_where_it_works_then_as_the_agent_does_then_in_the_import_paths_in_their_order() -> None:
    paths = os.pathsep.join(("/here", "/inherited", "/z", "/a"))
    assert built().environment["PYTHONPATH"] == paths
    assert build_local_run(local_run(), LocalDefaults(CONTAINER, "/here")).environment["PYTHONPATH"] == "/here"


def test_a_local_run_says_where_it_works_and_what_is_in_its_environment() -> None:
    launch = built({"type": "LocalRun", "working_dir": "/flows", "env": {"B": "run", "C": "run"}, "labels": ["dev"]})
    assert launch.working_directory == "/flows"
    assert launch.environment["PYTHONPATH"].startswith("/flows" + os.pathsep)
    assert {name: launch.environment[name] for name in "ABC"} == {"A": "agent", "B": "run", "C": "run"}


def test_a_universal_run_has_only_an_environment() -> None:
    launch = built({"type": "UniversalRun", "working_dir": "/flows", "env": {"B": "run", "PYTHONPATH": "/mine"}})
    assert launch.working_directory == "/here"
    assert (launch.environment["B"], launch.environment["PYTHONPATH"]) == ("run", "/mine")


@pytest.mark.parametrize(
    ("run_config", "reason"),
    [
        ({"type": "DockerRun"}, "only `LocalRun`"),
        ({"type": "LocalRun", "working_dir": 7}, "working_dir is a number, not text"),
        ({"type": "LocalRun", "env": {"A": 1}}, "env: A is a number"),
    ],
)
def test_a_run_config_of_another_kind_or_form_is_refused(run_config: Document, reason: str) -> None:
    with pytest.raises(UnsupportedRun, match=reason):
        built(run_config)


def test_docker_storage_is_refused() -> None:
    with pytest.raises(UnsupportedRun, match="register the flow with another one"):
        built(storage={"type": "Docker", "image_name": "flows", "image_tag": "1"})


def test_a_flow_of_an_old_prefect_is_started_by_its_own_command() -> None:
    assert list(built(version="0.12.0").command) == ["prefect", "execute", "cloud-flow"]


def test_no_secret_is_shown_with_a_launch() -> None:
    assert "key" not in repr(built())


# process pools


def pool_process(**job_variables: Any) -> ProcessLaunch:
    pool = {"name": "laptop", "type": "process", "base_job_template": TEMPLATE}
    job = WorkPoolJob(pool, {"id": "run-1", "job_variables": job_variables}, {"id": "deployment-1", "name": "nightly"})
    run = FlowRun("run-1", "run", 1, NOW, Flow("flow-1", "flow"), job=job)
    return build_pool_process(run, WorkPoolContainer("http://prefect/api", api_key="key", agent_name="laptop-agent"))


def test_a_run_of_a_process_pool_is_executed_by_prefect_in_a_directory_of_its_own() -> None:
    launch = pool_process()
    assert list(launch.command) == ["prefect", "flow-run", "execute"]
    assert (launch.working_directory, launch.shows_output) == (None, True)
    assert launch.environment["PREFECT__FLOW_RUN_ID"] == "run-1"
    assert launch.environment["PREFECT_API_URL"] == "http://prefect/api"
    assert launch.environment["PREFECT_API_KEY"] == "key"


def test_its_job_variables_say_what_runs_where_with_what() -> None:
    launch = pool_process(
        command="python -m 'my flow'", working_dir="/flows", stream_output=False, env={"A": "1", "B": None}
    )
    assert list(launch.command) == ["python", "-m", "my flow"]
    assert (launch.working_directory, launch.shows_output) == ("/flows", False)
    assert launch.environment["A"] == "1"
    assert "B" not in launch.environment


@pytest.mark.parametrize(
    ("variables", "reason"),
    [({"command": "python 'x"}, "check the quotes"), ({"working_dir": ["/flows"]}, "working_dir")],
)
def test_a_job_configuration_of_another_form_is_refused(variables: Document, reason: str) -> None:
    with pytest.raises(UnsupportedRun, match=reason):
        pool_process(**variables)
