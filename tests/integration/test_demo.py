"""The demo as somebody runs it, and its judgement of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from demo.outcome import Health, Launch, Row, problems_of_parts, problems_of_rows
from demo.parts import API_KEY, Parts
from demo.scene import BETWEEN_TICKS, IN_THE_TICK, Kind, Scheduled
from demo.table import WIDTH, in_colour, plain, render_rows
from tests.doubles.ecs import EcsServer
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.prefect1 import Prefect1Server

PROJECT = Path(__file__).parents[2]
TASK = "arn:aws:ecs:us-east-1:123456789012:task/flows/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
SUBMITTED = Kind("ECSRun", "Submitted", True, "as {run_id}")
CANCELLED = Kind("cancelled", "Cancelled", True, is_cancelled=True)
WELL = Health(200, {"status": "ok"}, {"status": "ok", "reason": "Polled 0 s ago"})

FALSE_SCENE = """
import sys
from dataclasses import replace
from demo.__main__ import main
from demo.scene import IN_THE_TICK
chosen = [kind for kind in IN_THE_TICK if kind.must_stop or "k8s" in kind.labels]
scene = [replace(kind, state="Running", has_task=False, says="nothing such") for kind in chosen]
sys.exit(main(sys.argv[1:], tuple(scene)))
"""
"""The demo, which is told to expect what cannot come of the runs on Kubernetes and of those whose tasks stop."""


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)


def test_the_demo_shows_what_became_of_each_flow_run_and_ends_well(tmp_path: Path) -> None:
    finished = run_python("-m", "demo", str(tmp_path))
    shown = finished.stdout
    assert (finished.returncode, finished.stderr) == (0, ""), shown
    lines = shown.splitlines()
    for kind in (*IN_THE_TICK, *BETWEEN_TICKS):
        (line,) = [line for line in lines if line.startswith(kind.name + "  ")]
        assert kind.state in line
        is_job = kind.has_task and "k8s" in kind.labels
        assert (" Job prefect-job-" in line, " flows/" in line) == (is_job, kind.has_task and not is_job)
        assert (" stopped " in line) is kind.must_stop
    assert "18 flow runs, for which 11 tasks and 2 Jobs were started; what followed when 3 of these" in shown
    assert "12 RunTask, 4 RegisterTaskDefinition, 1 StopTask, 2 Jobs created" in shown
    assert "Health: GET /api/health answers 200 ok" in shown
    assert "visible in no task or Job" in shown
    assert "check the image's name, the execution role's rights" in " ".join(shown.split())
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in shown
    assert API_KEY not in shown
    log = [json.loads(line) for line in (tmp_path / "lambda.jsonl").read_text().splitlines()]
    ticks = [line for line in log if line.get("message") == "Tick"]
    assert [tick["agent"] for tick in ticks] == ["demo", "demo", "demo", "demo-k8s"]
    # On a busy machine the run that is due in some seconds is left to the second tick.
    assert sum(tick["launched"] for tick in ticks) == 13


def test_a_demo_in_which_something_else_comes_of_a_run_says_so_and_ends_badly(tmp_path: Path) -> None:
    finished = run_python("-c", FALSE_SCENE, str(tmp_path))
    assert (finished.returncode, finished.stderr) == (1, ""), finished.stdout
    # Behind the last line stands how long it took.
    lines = finished.stdout.rpartition(" (")[0].splitlines()
    chosen = [kind for kind in IN_THE_TICK if kind.must_stop or "k8s" in kind.labels]
    assert len(chosen) == 5
    assert [line for line in lines if line.startswith("NOT as it should be: ")] == [
        f"NOT as it should be: {kind.name}: {problem}"
        for kind in chosen
        for problem in (
            f"it is {kind.state}, and should be Running",
            "it has 1 tasks, and should have 0",
            "its message does not say 'nothing such'",
        )
    ]


def test_a_run_as_the_scene_says_is_no_problem() -> None:
    rows = [
        Row(Scheduled(SUBMITTED, "r1"), "Submitted", (Launch(TASK),), "Submitted as r1-1"),
        Row(Scheduled(CANCELLED, "r2"), "Cancelled", (Launch(TASK, has_stopped=True),), "Flow run is cancelled"),
    ]
    assert problems_of_rows(rows) == []


def test_the_demo_names_each_thing_that_is_not_as_it_should_be() -> None:
    row = Row(Scheduled(SUBMITTED, "r1"), "Failed", (Launch(TASK), Launch("Job prefect-job-r1-1")), "Out of luck")
    assert problems_of_rows([row]) == [
        "ECSRun: it is Failed, and should be Submitted",
        "ECSRun: it has 2 tasks, and should have 1",
        "ECSRun: its message does not say 'as r1'",
    ]


def test_a_task_that_outlives_its_run_or_dies_before_it_is_a_problem() -> None:
    rows = [
        Row(Scheduled(CANCELLED, "r1"), "Cancelled", (Launch(TASK),), "Flow run is cancelled"),
        Row(Scheduled(SUBMITTED, "r2"), "Submitted", (Launch(TASK, has_stopped=True),), "Submitted as r2-1"),
    ]
    assert problems_of_rows(rows) == [
        "cancelled: its task runs on, and should not",
        "ECSRun: its task has stopped, and should not",
    ]


@pytest.fixture
def parts() -> Iterator[Parts]:
    with Prefect1Server() as prefect, EcsServer() as ecs, KubernetesServer() as kubernetes:
        yield Parts(prefect, ecs, kubernetes, "http://queue.example", "arn:aws:secretsmanager:x", {})


def test_a_key_in_sight_and_ill_health_are_problems(parts: Parts) -> None:
    ill = Health(503, {"status": "unhealthy"}, {"status": "unhealthy", "reason": "It never polled"})
    assert problems_of_parts(parts, [], WELL, "no key here") == []
    assert problems_of_parts(parts, [], ill, f"key={API_KEY}") == [
        "the API key is visible in the Lambda's log",
        "health answered 503: It never polled",
    ]


def test_a_key_that_stands_in_a_job_is_a_problem(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(parts.kubernetes.ca_pem)
    env = [{"name": "PREFECT__CLOUD__API_KEY", "value": API_KEY}]
    pod = {"containers": [{"name": "flow", "image": "flows:1", "env": env}], "restartPolicy": "Never"}
    answer = requests.post(
        f"{parts.kubernetes.url}/apis/batch/v1/namespaces/default/jobs",
        json={"metadata": {"name": "j"}, "spec": {"template": {"spec": pod}}},
        headers={"authorization": "Bearer secret-token"},
        verify=str(tmp_path / "ca.pem"),
        timeout=10,
    )
    assert answer.status_code == 201
    assert problems_of_parts(parts, [], WELL, "") == [
        "the API key is visible in a Job",
        "the API key is visible in a call of Kubernetes",
        "a task or Job gets its API key from no secret",
    ]


def test_the_table_is_coloured_on_a_terminal_only() -> None:
    rows = [Row(Scheduled(SUBMITTED, "r1"), "Submitted", (Launch(TASK),), "Submitted as r1-1")]
    coloured = render_rows(rows, in_colour)
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "") == render_rows(rows, plain)
    assert "\x1b[32mSubmitted\x1b[0m" in coloured


def test_a_long_message_stays_within_the_table() -> None:
    rows = [Row(Scheduled(SUBMITTED, "r1"), "Failed", (), "a reason that goes on " * 40)]
    lines = render_rows(rows, plain).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1].endswith("[...]")
