"""What a tick's line has of it, and that the alarms, the dashboard and the handbook speak of the same metrics."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalicelib.flow_runs import Claim, Flow, FlowRun
from chalicelib.outcomes import Answer, Outcome, TickReport
from chalicelib.telemetry import METRICS, NAMESPACE, LambdaLog, metric_values
from tests.roles import read_template
from tests.unit.test_agent import World

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMIT = 10
"""Ten metrics cost 3 USD a month where all have values at all hours."""


def ready_run(name: str, late_seconds: float) -> FlowRun:
    return FlowRun(name, name, 1, NOW - timedelta(seconds=late_seconds), Flow("flow", "a flow"))


def busy_report() -> TickReport:
    report = TickReport(claimed=4, recovered=1)
    runs = [ready_run(str(number), late_seconds=40.0) for number in range(5)]
    report.add_tried(runs[:4])
    claim = Claim(runs[0], "key", NOW)
    report.add([Outcome(runs[0], Answer.LAUNCHED, "Task arn", claim, late_seconds=2.345)])
    for run, answer in zip(runs[1:], list(Answer)[1:], strict=True):
        report.add([Outcome(run, answer, "because")])
    report.add_backlog(runs[4:], NOW)
    return report


def tick_line(report: TickReport, capsys: pytest.CaptureFixture[str], level: str = "INFO") -> dict[str, Any]:
    log = LambdaLog("lambda", level)
    log.begin_tick("tick-1")
    log.report_tick(report, 0.25)
    (line,) = capsys.readouterr().out.splitlines()
    document: dict[str, Any] = json.loads(line)
    return document


def test_there_are_ten_metrics_at_most_and_a_busy_tick_has_values_of_them_all() -> None:
    values = metric_values(busy_report(), 0.25)
    assert len(METRICS) <= LIMIT
    assert values.keys() == METRICS.keys()
    assert values == {
        "Found": [4],
        "Claimed": [4],
        "Launched": [1],
        "Failed": [2],
        "GivenBack": [1],
        "Unknown": [1],
        "Recovered": [1],
        "BacklogAge": [40.0],
        "LaunchLateness": [2.3],
        "TickDuration": [0.25],
    }


def test_an_idle_tick_has_values_of_two_metrics_one_of_which_says_that_it_polled() -> None:
    assert metric_values(TickReport(), 0.25) == {"Found": [0], "TickDuration": [0.25]}


def test_the_line_of_a_tick_is_a_log_line_and_cloudwatchs_metric_format(capsys: pytest.CaptureFixture[str]) -> None:
    line = tick_line(busy_report(), capsys)
    assert (line["message"], line["tick_id"], line["level"], line["launched"]) == ("Tick", "tick-1", "INFO", 1)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"], line["service"]) == (NAMESPACE, [["service"]], "lambda")
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == METRICS
    assert all(line[name] == metric_values(busy_report(), 0.25)[name] for name in METRICS)


def test_no_level_of_the_log_leaves_the_metrics_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert tick_line(TickReport(), capsys, "ERROR")["Found"] == [0]


def test_the_lateness_of_every_launch_of_a_large_tick_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    log = LambdaLog("lambda", "INFO")
    log.report_tick(TickReport(late_seconds=[float(number) for number in range(250)]), 0.25)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(value for line in lines for value in line["LaunchLateness"]) == list(range(250))
    assert [line["Found"] for line in lines if "Found" in line] == [[0]]


def test_a_backlog_is_as_old_as_its_oldest_run_and_what_is_not_due_yet_is_none() -> None:
    report = TickReport()
    report.add_backlog([ready_run("a", 5.0), ready_run("b", 70.0), ready_run("c", -3.0)], NOW)
    assert report.backlog_age_seconds == 70.0
    report.add_backlog([ready_run("c", -3.0)], NOW)
    assert report.backlog_age_seconds == 0.0


def first_cells(page: str, section: str) -> set[str]:
    """What stands in backticks in the first column of a section's table."""
    rows = page.partition(f"## {section}\n")[2].partition("\n## ")[0].splitlines()
    return {name for row in rows if row.startswith("| `") for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}


def test_the_handbook_tells_of_every_metric_and_of_every_alarm() -> None:
    handbook = (ROOT / "docs" / "operations.md").read_text()
    alarms = [each["Properties"] for each in read_template().values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    assert first_cells(handbook, "Metrics") == METRICS.keys()
    assert first_cells(handbook, "Alarms") == {
        alarm["AlarmName"].removeprefix("prefect-agent-${Stage}-") for alarm in alarms
    }


def test_a_run_that_a_tick_must_leave_is_its_backlog_and_what_was_launched_is_not() -> None:
    world = World()
    world.add("old", "older", in_seconds=-100)
    world.add("new", in_seconds=-1)
    world.platform.room_for = 1
    world.platform.on_launch = lambda run_id: world.clock.turn(8.0)
    left = world.agent.tick(world.clock.now() + timedelta(seconds=10))
    assert (left.answers[Answer.LAUNCHED], left.backlog_age_seconds) == (1, 108.0)
    assert left.late_seconds == [108.0]
    world.platform.on_launch = lambda run_id: None
    drained = world.agent.tick(world.clock.now() + timedelta(seconds=10))
    assert (drained.answers[Answer.LAUNCHED], drained.backlog_age_seconds) == (2, 0.0)
