"""`prefect-agent` as a process of its own: what it launches, prints and answers its caller."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.server import CLOUD_KEY
from tests.integration.pairs import GOOD, check_launched

PROJECT = Path(__file__).parents[2]
LIMIT_SECONDS = 60
BAD = {"type": "DockerRun"}


class LateClock:
    """The real time, some seconds ago: a server with this clock dates its records back."""

    def __init__(self, behind_seconds: float) -> None:
        self.behind = timedelta(seconds=behind_seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) - self.behind


class CommandLine:
    """Starts `prefect-agent` in an environment that leads to one pair of doubles; ends what still runs."""

    def __init__(self, prefect_url: str, ecs: EcsServer, moto_url: str) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL": moto_url,
            "AWS_ENDPOINT_URL_ECS": ecs.url,
            "PREFECT__CLOUD__API": prefect_url,
        }
        self.options = ["--label", "dev", "--cluster", "flows", "--name", "laptop"]
        self._started: list[subprocess.Popen[str]] = []

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `more` is added to its environment."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=LIMIT_SECONDS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Begin a command."""
        process = subprocess.Popen(
            [sys.executable, "-m", "chalicelib.cli", *arguments[:2], *self.options, *arguments[2:]],
            cwd=PROJECT,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End what was started and has not ended, and close its pipes."""
        for process in self._started:
            process.kill()
            process.communicate(timeout=LIMIT_SECONDS)


Installed = Callable[[str, EcsServer], CommandLine]


@pytest.fixture
def installed(moto_url: str) -> Iterator[Installed]:
    """Answers the command line for a Prefect API's URL and an ECS double."""
    with ExitStack() as stack:

        def install(prefect_url: str, ecs: EcsServer) -> CommandLine:
            command_line = CommandLine(prefect_url, ecs, moto_url)
            stack.callback(command_line.close)
            return command_line

        yield install


@pytest.fixture
def prefect_agent(installed: Installed, prefect: Prefect1Server, ecs: EcsServer) -> CommandLine:
    return installed(prefect.url, ecs)


def wait_for(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """Return when the condition holds while the process runs; fail when it ends before, or that takes far too long."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it never came to what was waited for"
        time.sleep(0.02)


def polls(prefect: Prefect1Server) -> int:
    return sum("get_runs_in_queue" in request.field_names for request in prefect.requests)


def test_one_tick_launches_what_is_due_and_prints_its_report_as_one_line(
    prefect_agent: CommandLine, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    good = prefect.add_flow_run(labels=["dev"], run_config=GOOD)
    bad = prefect.add_flow_run(labels=["dev"], run_config=BAD)
    other = prefect.add_flow_run(labels=["prod"], run_config=GOOD)
    ended = prefect_agent.run("tick", "ecs")
    (line,) = ended.stdout.splitlines()
    report = json.loads(line)
    assert ended.returncode == 0
    assert (report["found"], report["launched"], report["impossible"], report["errors"]) == (2, 1, 1, [])
    check_launched(prefect, ecs, good)
    assert [prefect.flow_run(run_id)["state"] for run_id in (bad, other)] == ["Failed", "Scheduled"]


def test_start_ends_after_as_many_polls_as_it_was_told(
    prefect_agent: CommandLine, prefect: Prefect1Server, ecs: EcsServer
) -> None:
    run_id = prefect.add_flow_run(labels=["dev"], run_config=GOOD)
    ended = prefect_agent.run("start", "ecs", "--max-polls", "2")
    assert ended.returncode == 0
    assert 'Agent "laptop", labels dev: waiting for flow runs' in ended.stderr
    check_launched(prefect, ecs, run_id)


def test_a_dry_run_shows_the_whole_request_without_the_key_and_changes_nothing(
    installed: Installed, ecs: EcsServer
) -> None:
    with Prefect1Server(cloud=True) as cloud:
        run_id = cloud.add_flow_run(labels=["dev"], run_config={**GOOD, "env": {"DB_PASSWORD": "hunter2", "A": "b"}})
        bad = cloud.add_flow_run(labels=["dev"], run_config=BAD)
        prefect_agent = installed(cloud.url, ecs)
        ended = prefect_agent.run("tick", "ecs", "--dry-run", "--key", CLOUD_KEY, "--log-level", "DEBUG")
        shown = {each["flow_run_id"]: each for each in json.loads(ended.stdout)}
        launch = shown[run_id]["launch"]
        (flow,) = launch["run_task"]["overrides"]["containerOverrides"]
        environment = {entry["name"]: entry["value"] for entry in flow["environment"]}
        assert (ended.returncode, set(shown)) == (0, {run_id, bad})
        assert launch["definition"]["containerDefinitions"][0]["image"] == "flows:good"
        assert launch["run_task"]["networkConfiguration"]["awsvpcConfiguration"]["subnets"]
        assert environment["PREFECT__CONTEXT__FLOW_RUN_ID"] == run_id
        assert (environment["A"], environment["DB_PASSWORD"]) == ("b", "***")
        assert environment["PREFECT__CLOUD__API_KEY"] == "***"
        assert "DockerRun" in shown[bad]["problem"]
        assert CLOUD_KEY not in ended.stdout + ended.stderr
        assert "hunter2" not in ended.stdout + ended.stderr
        assert [cloud.flow_run(each)["version"] for each in (run_id, bad)] == [1, 1]
    assert {"RunTask", "RegisterTaskDefinition"} & {call.action for call in ecs.calls} == set()


def test_ctrl_c_ends_a_waiting_agent_cleanly(prefect_agent: CommandLine, prefect: Prefect1Server) -> None:
    process = prefect_agent.start("start", "ecs")
    wait_for(process, lambda: polls(prefect) >= 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_SECONDS)
    assert (process.returncode, out) == (0, "")
    assert "SIGINT: ending after this tick" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["start", "tick"])
def test_ctrl_c_in_the_middle_of_a_launch_lets_it_be_recorded(
    prefect_agent: CommandLine, prefect: Prefect1Server, ecs: EcsServer, command: str
) -> None:
    ecs.faults.add("RunTask", then="delay", seconds=1.0)
    run_id = prefect.add_flow_run(labels=["dev"], run_config=GOOD)
    process = prefect_agent.start(command, "ecs")
    wait_for(process, lambda: ecs.count("RunTask"))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 0
    assert "Traceback" not in err
    check_launched(prefect, ecs, run_id)


@pytest.mark.parametrize("command", [["tick", "ecs"], ["start", "ecs", "--log-level", "ERROR"]], ids=["tick", "start"])
def test_a_wrong_key_ends_it_with_one_line(installed: Installed, ecs: EcsServer, command: list[str]) -> None:
    with Prefect1Server(cloud=True) as cloud:
        run_id = cloud.add_flow_run(labels=["dev"], run_config=GOOD)
        ended = installed(cloud.url, ecs).run(*command, "--key", "wrong-key")
        assert (ended.returncode, ended.stdout) == (1, "")
        line = ended.stderr.splitlines()[-1]
        assert "refuses the API key" in line
        assert "wrong-key" not in ended.stderr
        assert cloud.flow_run(run_id)["state"] == "Scheduled"


@pytest.mark.parametrize("command", [["tick", "ecs"], ["start", "ecs", "--max-polls", "1"]], ids=["tick", "start"])
def test_an_api_that_is_away_is_exit_code_1(installed: Installed, ecs: EcsServer, command: list[str]) -> None:
    with Prefect1Server() as server:
        url = server.url
    ended = installed(url, ecs).run(*command)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert url in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_three_mistakes_are_three_lines_and_exit_code_2(prefect_agent: CommandLine, prefect: Prefect1Server) -> None:
    ended = prefect_agent.run(
        "tick", "ecs", "--launch-type", "LAMBDA", AGENT_CADENCE_SECONDS="soon", AGENT_CLUSTRE="flows"
    )
    lines = sorted(ended.stderr.splitlines())
    assert (ended.returncode, ended.stdout, len(lines)) == (2, "", 3)
    assert [line.split(":")[1].strip() for line in lines] == [
        "--launch-type",
        "AGENT_CADENCE_SECONDS",
        "AGENT_CLUSTRE",
    ]
    assert prefect.requests == []


def test_a_template_of_the_agents_own_that_is_broken_is_exit_code_2(
    prefect_agent: CommandLine, prefect: Prefect1Server, tmp_path: Path
) -> None:
    template = tmp_path / "definition.yaml"
    template.write_text("containerDefinitions: {name: flow}\n")
    ended = prefect_agent.run("tick", "ecs", "--task-definition", str(template))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "--task-definition: containerDefinitions is an object, not a list" in ended.stderr
    assert prefect.requests == []


RUNS: Mapping[str, tuple[list[str], Mapping[str, Any]]] = {
    "first": (["dev"], GOOD),
    "second": (["dev"], {**GOOD, "cpu": "512", "memory": "1024", "env": {"COLOUR": "blue"}}),
    "impossible": (["dev"], BAD),
    "not ours": (["prod"], GOOD),
    "too long": (["dev"], {**GOOD, "env": {"BIG": "x" * 9000}}),
}


def outcome(installed: Installed, in_one_process: bool) -> Any:
    """What became of RUNS on doubles of their own, without what differs each time: ids, ports, times."""
    with Prefect1Server() as prefect, EcsServer(clusters=("flows",)) as ecs:
        prefect_agent, run_ids = installed(prefect.url, ecs), {}
        for name, (labels, run_config) in RUNS.items():
            run_ids[name] = prefect.add_flow_run(labels=labels, run_config=run_config, name=name)
            if not in_one_process:
                assert prefect_agent.run("tick", "ecs").returncode == 0
        if in_one_process:
            assert prefect_agent.run("start", "ecs", "--max-polls", "3").returncode == 0
        runs = {name: outcome_of(prefect, ecs, run_id) for name, run_id in run_ids.items()}
        text = json.dumps([runs, [row["family"] for row in ecs.definitions()]], sort_keys=True)
        text = text.replace(prefect.url, "<api>")
    return json.loads(re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", "<id>", text))


def outcome_of(prefect: Prefect1Server, ecs: EcsServer, run_id: str) -> Any:
    states = [(state["state"], state["message"]) for state in prefect.states(run_id)]
    logs = [(line["level"], line["message"], line["info"]) for line in prefect.logs(run_id)]
    tasks = [task for task in ecs.tasks() if task["startedBy"] == f"prefect/{run_id}"]
    shown = [{name: task[name] for name in ("taskDefinitionArn", "overrides", "tags", "cpu")} for task in tasks]
    return {"states": states, "logs": logs, "tasks": shown}


def test_one_process_for_all_ticks_and_one_for_each_come_to_the_same(installed: Installed) -> None:
    together, apart = (outcome(installed, in_one_process) for in_one_process in (True, False))
    ends = {name: run["states"][-1][0] for name, run in together[0].items()}
    assert ends == {
        "first": "Submitted",
        "second": "Submitted",
        "impossible": "Failed",
        "not ours": "Scheduled",
        "too long": "Failed",
    }
    assert together == apart


@pytest.mark.parametrize("moment", ["DescribeTaskDefinition", "RegisterTaskDefinition", "RunTask"])
def test_a_tick_that_is_killed_after_its_claim_is_made_up_for_by_exactly_one_task(
    installed: Installed, moment: str
) -> None:
    with (
        Prefect1Server(clock=LateClock(behind_seconds=100)) as prefect,
        EcsServer(clusters=("flows",)) as ecs,
    ):
        prefect_agent = installed(prefect.url, ecs)
        ecs.faults.add(moment, then="delay", seconds=30.0)
        run_id = prefect.add_flow_run(labels=["dev"], run_config=GOOD)
        process = prefect_agent.start("tick", "ecs")
        wait_for(process, lambda: ecs.count(moment))
        process.kill()
        process.communicate(timeout=LIMIT_SECONDS)
        killed_with = (prefect.flow_run(run_id)["state"], prefect.logs(run_id))
        reports = [json.loads(prefect_agent.run("tick", "ecs").stdout) for _ in range(3)]
    # The doubles have ended, so what the killed process had asked for was carried out too, after all else.
    assert killed_with == ("Submitted", [])
    assert [report["recovered"] for report in reports] == [1, 0, 0]
    check_launched(prefect, ecs, run_id)
