"""The demo as somebody runs it, and its judgement of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from demo.outcome import Health, Row, problems_of_parts, problems_of_rows
from demo.parts import API_KEY, Parts
from demo.scene import BETWEEN_TICKS, IN_THE_TICK, Kind, Scheduled
from demo.table import WIDTH, in_colour, plain, render_rows
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server

PROJECT = Path(__file__).parents[2]
TASK = "arn:aws:ecs:us-east-1:123456789012:task/flows/0a1b2c3d4e5f60718293a4b5c6d7e8f9"
SUBMITTED = Kind("ECSRun", "Submitted", True, "as {run_id}")
WELL = Health(200, {"status": "ok"}, {"status": "ok", "reason": "Polled 0 s ago"})


def test_the_demo_shows_what_became_of_each_flow_run_and_ends_well(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "demo", str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    shown = finished.stdout
    assert (finished.returncode, finished.stderr) == (0, ""), shown
    lines = shown.splitlines()
    for kind in (*IN_THE_TICK, *BETWEEN_TICKS):
        (line,) = [line for line in lines if line.startswith(kind.name + "  ")]
        assert kind.state in line
        assert (" flows/" in line) is kind.has_task
    assert "Health: GET /api/health answers 200 ok" in shown
    assert "9 RunTask, 3 RegisterTaskDefinition" in shown
    assert "visible in no task" in shown
    assert max(map(len, lines)) <= WIDTH
    assert "\x1b" not in shown
    assert API_KEY not in shown
    log = [json.loads(line) for line in (tmp_path / "lambda.jsonl").read_text().splitlines()]
    ticks = [line for line in log if line.get("message") == "Tick"]
    # On a busy machine the run that is due in some seconds is left to the second tick.
    assert (len(ticks), sum(tick["launched"] for tick in ticks)) == (2, 8)


def test_a_run_as_the_scene_says_is_no_problem() -> None:
    assert problems_of_rows([Row(Scheduled(SUBMITTED, "r1"), "Submitted", (TASK,), "Submitted as r1-1")]) == []


def test_the_demo_names_each_thing_that_is_not_as_it_should_be() -> None:
    row = Row(Scheduled(SUBMITTED, "r1"), "Failed", (TASK, TASK), "Out of luck")
    assert problems_of_rows([row]) == [
        "ECSRun: it is Failed, and should be Submitted",
        "ECSRun: it has 2 tasks, and should have 1",
        "ECSRun: its message does not say 'as r1'",
    ]


def test_a_key_in_sight_and_ill_health_are_problems() -> None:
    ill = Health(503, {"status": "unhealthy"}, {"status": "unhealthy", "reason": "It never polled"})
    with Prefect1Server() as prefect, EcsServer() as ecs:
        parts = Parts(prefect, ecs, "http://queue.example", {"PREFECT__CLOUD__API_KEY": "arn:aws:secretsmanager:x"})
        assert problems_of_parts(parts, WELL, "no key here") == []
        assert problems_of_parts(parts, ill, f"key={API_KEY}") == [
            "the API key is visible in the Lambda's log",
            "health answered 503: It never polled",
        ]


def test_the_table_is_coloured_on_a_terminal_only() -> None:
    rows = [Row(Scheduled(SUBMITTED, "r1"), "Submitted", (TASK,), "Submitted as r1-1")]
    coloured = render_rows(rows, in_colour)
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "") == render_rows(rows, plain)
    assert "\x1b[32mSubmitted\x1b[0m" in coloured


def test_a_long_message_stays_within_the_table() -> None:
    rows = [Row(Scheduled(SUBMITTED, "r1"), "Failed", (), "a reason that goes on " * 40)]
    lines = render_rows(rows, plain).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[-1].endswith("[...]")
