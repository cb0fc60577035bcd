"""Agents as objects and as processes, on doubles: containers, a platform of one's own, and the address of a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from chalicelib import DockerAgent
from chalicelib.errors import PrefectUnreachable
from tests.doubles.docker import DockerDaemon
from tests.doubles.prefect1 import Prefect1Server

PROJECT = Path(__file__).parents[2]
LIMIT_SECONDS = 60
IMAGE = "flows:1"
RUN = {"type": "DockerRun", "image": IMAGE}


@pytest.fixture
def daemon() -> Iterator[DockerDaemon]:
    with DockerDaemon(images=[IMAGE]) as double:
        yield double


@pytest.fixture
def agent(
    prefect: Prefect1Server, daemon: DockerDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> DockerAgent:
    monkeypatch.setenv("HOME", str(tmp_path))
    return DockerAgent(labels=["dev"], name="laptop", api=prefect.url, base_url=daemon.url, max_polls=1)


def environment(prefect: Prefect1Server, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PREFECT__CLOUD__API": prefect.url, **more}


def logged(prefect: Prefect1Server, run_id: str) -> list[str]:
    return [line["message"] for line in prefect.logs(run_id)]


# Objects


def test_a_docker_agent_starts_a_container_and_says_which_in_the_log(
    agent: DockerAgent, prefect: Prefect1Server, daemon: DockerDaemon
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=RUN)
    foreign = prefect.add_flow_run(labels=["dev"], run_config={"type": "ECSRun"})
    report = agent.tick()
    (container,) = daemon.containers()
    assert report.as_dict()["launched"] == 1
    assert logged(prefect, run_id)[-1] == f"Submitted for execution: Container ID: {container['Id']}"
    assert prefect.flow_run(run_id)["state"] == "Submitted"
    assert "only `DockerRun` is supported" in prefect.flow_run(foreign)["state_message"]


def test_start_ends_after_as_many_polls_as_it_was_told(
    agent: DockerAgent, prefect: Prefect1Server, daemon: DockerDaemon
) -> None:
    prefect.add_flow_run(labels=["dev"], run_config=RUN)
    agent.start()
    assert len(daemon.containers()) == 1


def test_start_says_so_when_the_last_poll_failed(daemon: DockerDaemon, tmp_path: Path) -> None:
    with Prefect1Server() as server:
        url = server.url
    with pytest.raises(PrefectUnreachable, match="The last poll failed"):
        DockerAgent(api=url, base_url=daemon.url, max_polls=1).start()


def test_a_container_that_ends_without_a_word_fails_its_run_with_the_exit_code(
    agent: DockerAgent, prefect: Prefect1Server, daemon: DockerDaemon
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=RUN)
    agent.tick()
    prefect.set_state(run_id, {"type": "Running"})
    daemon.finish(daemon.containers()[0]["Id"], exit_code=137, out_of_memory=True)
    agent.tick()
    assert prefect.flow_run(run_id)["state"] == "Failed"
    assert "exit code 137 (it needs more memory)" in prefect.flow_run(run_id)["state_message"]


def test_the_container_of_a_cancelled_run_is_stopped(
    agent: DockerAgent, prefect: Prefect1Server, daemon: DockerDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_CANCEL_GRACE_SECONDS", "0")
    agent = DockerAgent(labels=["dev"], name="laptop", api=prefect.url, base_url=daemon.url)
    run_id = prefect.add_flow_run(labels=["dev"], run_config=RUN)
    agent.tick()
    prefect.set_state(run_id, {"type": "Running"})
    prefect.set_state(run_id, {"type": "Cancelling"})
    agent.tick()
    agent.tick()
    assert daemon.containers()[0]["State"]["ExitCode"] == 143
    assert prefect.flow_run(run_id)["state"] == "Cancelled"


def test_a_daemon_that_is_away_leaves_the_run_to_be_taken_later(
    agent: DockerAgent, prefect: Prefect1Server, daemon: DockerDaemon
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=RUN)
    daemon.faults.add("ping", status=503, message="the daemon is shutting down")
    report = agent.tick()
    assert (report.claimed, prefect.flow_run(run_id)["state"]) == (0, "Scheduled")
    assert "the daemon is shutting down" in prefect.flow_run(run_id)["state_message"]


# Processes


@contextmanager
def started(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=PROJECT, env=dict(environment), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(process: subprocess.Popen[str], condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it never came to what was waited for"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(url: str) -> int:
    try:
        return requests.get(url, timeout=5).status_code
    except requests.ConnectionError:
        return 0


def start_docker(daemon: DockerDaemon, address: str) -> list[str]:
    options = ["--label", "dev", "--base-url", daemon.url, "--agent-address", address]
    return [sys.executable, "-m", "chalicelib.cli", "start", "docker", *options]


def polls(prefect: Prefect1Server) -> int:
    return sum("get_runs_in_queue" in request.field_names for request in prefect.requests)


def test_a_process_tells_its_health_ticks_when_poked_and_frees_its_port(
    prefect: Prefect1Server, daemon: DockerDaemon
) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with started(start_docker(daemon, address), environment(prefect)) as process:
        wait_for(process, lambda: answers(f"{address}/api/health") == 200)
        wait_for(process, lambda: polls(prefect) >= 4)  # Now it waits for some seconds.
        run_id = prefect.add_flow_run(labels=["dev"], run_config=RUN)
        assert requests.post(f"{address}/api/poke", timeout=5).status_code == 202
        wait_for(process, daemon.containers)
        wait_for(process, lambda: logged(prefect, run_id))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert answers(f"{address}/api/health") == 0


def test_a_port_in_use_is_one_line_and_exit_code_2(prefect: Prefect1Server, daemon: DockerDaemon) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with started(start_docker(daemon, address), environment(prefect)) as process:
            out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert "choose another port" in err
    assert prefect.requests == []


def test_a_platform_of_ones_own_starts_flow_runs_once_and_leaves_the_rest_to_prefect(
    prefect: Prefect1Server, tmp_path: Path
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config={"type": "UniversalRun", "env": {"COLOUR": "blue"}})
    bad = prefect.add_flow_run(labels=["dev"], run_config={"type": "UniversalRun", "env": ["COLOUR"]})
    given = {
        "PREFECT__CLOUD__AGENT__LABELS": '["dev"]',
        "PREFECT__CLOUD__AGENT__MAX_POLLS": "2",
        "SPOOL": str(tmp_path),
    }
    command = [sys.executable, "examples/own_platform.py"]
    with started(command, environment(prefect, PYTHONPATH=str(PROJECT), **given)) as process:
        _, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0, err
    (path,) = tmp_path.iterdir()
    job = json.loads(path.read_text())
    assert job["command"] == ["/bin/sh", "-c", "prefect execute flow-run"]
    assert (job["environment"]["COLOUR"], job["environment"]["PREFECT__CONTEXT__FLOW_RUN_ID"]) == ("blue", run_id)
    assert logged(prefect, run_id)[-1] == f"Submitted for execution: Job {path.name}"
    assert (prefect.flow_run(run_id)["state"], prefect.flow_run(bad)["state"]) == ("Submitted", "Failed")
    assert "SpoolAgent" in json.dumps([request.variables for request in prefect.requests])


def test_a_platform_of_ones_own_that_cannot_now_gives_the_run_back(prefect: Prefect1Server, tmp_path: Path) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config={"type": "UniversalRun"})
    given = {
        "PREFECT__CLOUD__AGENT__LABELS": '["dev"]',
        "PREFECT__CLOUD__AGENT__MAX_POLLS": "1",
        "SPOOL": str(tmp_path / "missing"),
    }
    command = [sys.executable, "examples/own_platform.py"]
    with started(command, environment(prefect, PYTHONPATH=str(PROJECT), **given)) as process:
        process.communicate(timeout=LIMIT_SECONDS)
    row = prefect.flow_run(run_id)
    assert row["state"] == "Scheduled"
    assert "cannot be written: No such file or directory" in row["state_message"]
