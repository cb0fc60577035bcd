"""What `doctor` and `runs` say of work pools, asked of a real Prefect 3 server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from chalicelib.cli.doctor import run_doctor
from chalicelib.cli.health import run_health
from chalicelib.cli.runs import run_runs
from chalicelib.errors import PrefectRejected
from chalicelib.settings import Settings, load_settings
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect3.server import TEMPLATE, Prefect3Server

pytestmark = pytest.mark.server


class Doctor:
    """The command on one server, for a machine that has `prefect`."""

    def __init__(self, server: Prefect3Server, capsys: pytest.CaptureFixture[str]) -> None:
        self.server, self._capsys = server, capsys

    def settings(self, pool: str, **more: str) -> Settings:
        given = {"AGENT_WORK_POOLS": pool, "PREFECT_API_URL": self.server.url, "AGENT_PLATFORM": "local"}
        return load_settings({**given, "PREFECT__CLOUD__AGENT__NAME": "lambda", **more})

    def look(self, pool: str, **more: str) -> tuple[int, list[str]]:
        """The exit code, and the lines that are not `ok`."""
        self._capsys.readouterr()
        code = run_doctor(self.settings(pool, **more))
        return code, [line for line in self._capsys.readouterr().out.splitlines() if not line.startswith("ok")]

    def runs(self, pool: str) -> list[str]:
        self._capsys.readouterr()
        run_runs(self.settings(pool))
        return self._capsys.readouterr().out.splitlines()


@pytest.fixture
def doctor(
    server: Prefect3Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Doctor]:
    executable = tmp_path / "prefect"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    yield Doctor(server, capsys)


def template(**configuration: Any) -> dict[str, Any]:
    return {**TEMPLATE, "job_configuration": {**TEMPLATE["job_configuration"], **configuration}}


def template_with_default(env: Any) -> dict[str, Any]:
    """A template whose variable `env` is this unless somebody says otherwise."""
    variables = TEMPLATE["variables"]
    properties = {**variables["properties"], "env": {"type": "object", "default": env}}
    return {**TEMPLATE, "variables": {**variables, "properties": properties}}


def test_a_pool_in_order_is_found_to_be_so_and_nothing_looks_alive(doctor: Doctor) -> None:
    pool = doctor.server.create_pool()
    assert doctor.look(pool) == (0, [])
    assert doctor.server.workers(pool) == []


def test_a_pool_that_is_missing_or_that_nobody_launches_is_wrong(doctor: Doctor) -> None:
    missing = f"pool-{uuid4().hex[:8]}"
    code, (line,) = doctor.look(missing)
    assert (code, f"Work pool {missing}: not there: create it" in line) == (1, True)
    docker = doctor.server.create_pool("docker")
    code, (line,) = doctor.look(docker)
    assert (code, "nobody here launches type docker" in line) == (1, True)


def test_a_paused_pool_and_a_paused_or_missing_queue_are_told(doctor: Doctor) -> None:
    pool = doctor.server.create_pool(is_paused=True)
    code, (line,) = doctor.look(pool)
    assert (code, line.startswith("warn"), f"resume {pool}" in line) == (0, True, True)
    doctor.server.update_pool(pool, is_paused=False)
    doctor.server.create_queue(pool, "slow", is_paused=True)
    _, (line,) = doctor.look(pool)
    assert (line.startswith("warn"), "its queue slow is paused" in line) == (True, True)
    assert doctor.look(pool, AGENT_WORK_QUEUES="default") == (0, [])
    code, (line,) = doctor.look(pool, AGENT_WORK_QUEUES="fast")
    assert (code, "it has no queue fast" in line) == (1, True)


def test_blocks_and_variables_of_the_template_are_there_or_not_and_never_shown(doctor: Doctor) -> None:
    name = f"n{uuid4().hex[:8]}"
    env = {"A": f"{{{{ prefect.variables.{name} }}}}", "B": f"{{{{ prefect.blocks.login.{name} }}}}"}
    pool = doctor.server.create_pool(template=template_with_default(env))
    code, (line,) = doctor.look(pool)
    assert code == 1
    assert f"prefect.blocks.login.{name}, prefect.variables.{name}, not there" in line
    doctor.server.create_variable(name, "x")
    block_id = doctor.server.create_block("login", name, {"password": "hunter2"}, ["password"])
    assert doctor.look(pool) == (0, [])
    referring = doctor.server.create_pool(template=template_with_default({"$ref": {"block_document_id": block_id}}))
    assert doctor.look(referring) == (0, [])
    doctor.server.request("DELETE", f"/block_documents/{block_id}")
    code, (line,) = doctor.look(referring)
    assert (code, f"block_document_id:{block_id}, not there" in line) == (1, True)


def test_a_template_that_cannot_be_filled_in_is_wrong(doctor: Doctor) -> None:
    code, (line,) = doctor.look(doctor.server.create_pool(template=template(labels="none")))
    assert (code, "wrong" in line, "labels is" in line) == (1, True, True)


def test_another_worker_on_the_pool_is_told(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    pool = doctor.server.create_pool()
    doctor.server.request("POST", f"/work_pools/{pool}/workers/heartbeat", {"name": "official"})
    assert run_doctor(doctor.settings(pool)) == 0
    assert "official serves it too" in capsys.readouterr().out


def test_an_api_of_another_generation_is_wrong_both_ways(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    with Prefect1Server() as prefect:
        code, (line,) = doctor.look("pool", PREFECT_API_URL=prefect.url)
        assert (code, "PREFECT_API_URL" in line) == (1, True)
    first = load_settings({"PREFECT__CLOUD__API": doctor.server.url, "AGENT_PLATFORM": "local"})
    assert run_doctor(first) == 1
    assert "if this is Prefect 3, name its work pools (--work-pool)" in capsys.readouterr().out


def test_runs_of_the_pool_are_shown_without_a_sign_of_life(doctor: Doctor) -> None:
    pool = doctor.server.create_pool()
    assert doctor.runs(pool) == ["lambda has claimed nothing in the last hour"]
    deployment = doctor.server.create_deployment(pool)
    waiting, running, done = (doctor.server.create_run(deployment) for _ in range(3))
    for run_id in (running, done):
        doctor.server.set_state(run_id, "PENDING")
        doctor.server.update_run(run_id, infrastructure_pid=f"elsewhere:{len(run_id)}")
        doctor.server.set_state(run_id, "RUNNING")
    doctor.server.set_state(done, "COMPLETED")
    lines = doctor.runs(pool)
    assert [line.split("  ")[0] for line in lines] == [done, running]
    assert ("Completed since" in lines[0], "Running since" in lines[1]) == (True, True)
    assert "  Process elsewhere:36  " in lines[1]
    assert doctor.server.workers(pool) == []
    assert doctor.server.state(waiting)["type"] == "SCHEDULED"


def test_a_run_that_failed_by_a_fault_of_this_agents_own_is_shown(doctor: Doctor) -> None:
    pool = doctor.server.create_pool()
    own, others = (doctor.server.create_run(doctor.server.create_deployment(pool)) for _ in range(2))
    for run_id, name in ((own, "lambda"), (others, "another")):
        message = f'no such role {{"agent": "{name}"}}'
        doctor.server.set_state(run_id, "CRASHED", "AgentMisconfigured", force=True, message=message)
    (line,) = doctor.runs(pool)
    assert line.startswith(own)
    assert "AgentMisconfigured since" in line
    assert "nothing says that it was launched" in line


def test_runs_of_a_pool_that_is_not_there_are_an_error(doctor: Doctor) -> None:
    with pytest.raises(PrefectRejected, match="Work pool missing: not there"):
        doctor.runs("missing")


def test_health_is_that_of_this_agents_heartbeat(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    pool = doctor.server.create_pool()
    doctor.server.request("POST", f"/work_pools/{pool}/workers/heartbeat", {"name": "another"})
    assert run_health(doctor.settings(pool)) == 1
    assert "unhealthy: This agent has never polled" in capsys.readouterr().out
    assert [worker["name"] for worker in doctor.server.workers(pool)] == ["another"]
    doctor.server.request("POST", f"/work_pools/{pool}/workers/heartbeat", {"name": "lambda"})
    assert run_health(doctor.settings(pool)) == 0
    assert capsys.readouterr().out.startswith("ok: Polled ")


def test_a_server_that_asks_for_a_password_is_told(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    with Prefect3Server(auth_string="ann:hunter2") as server:
        pool = server.create_pool()
        locked = Doctor(server, capsys)
        assert locked.look(pool, PREFECT_API_AUTH_STRING="ann:hunter2") == (0, [])
        for wrong in ({}, {"PREFECT_API_AUTH_STRING": "ann:wrong"}):
            code, (line,) = locked.look(pool, **wrong)
            assert (code, "PREFECT_API_AUTH_STRING" in line, "ann:" in line) == (1, True, False)
