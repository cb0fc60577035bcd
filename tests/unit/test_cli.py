"""What people type: help, bad input, and the commands themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest

from chalicelib.cli.commands import start, tick
from chalicelib.cli.options import COMMANDS, PLATFORMS, REFUSED, check_platform, read_command_line
from chalicelib.errors import PrefectUnreachable, SettingsError
from chalicelib.outcomes import Answer, TickReport
from chalicelib.settings import SETTINGS, load_settings

ROOT = Path(__file__).parents[2]
CANARY = "pnu_8Qcanary"


def prefect_agent(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # No home of anybody's, whose config file would be read.
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "chalicelib.cli", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


# Help


@pytest.mark.parametrize(
    "arguments", [[], ["-h"], ["fly", "-h"], ["start", "--help"], ["tick", "ecs", "--wrong", "-h"]]
)
def test_the_bare_command_and_help_show_every_command_and_option_with_examples(arguments: list[str]) -> None:
    done = prefect_agent(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n  {command} " in done.stdout for command in (*COMMANDS, *PLATFORMS))
    assert all(flag in done.stdout for setting in SETTINGS for flag in setting.flags)
    assert {"--dry-run", "--output"} <= set(done.stdout.split())
    assert "examples:\n  prefect-agent start --label dev" in done.stdout
    assert "exit codes:" in done.stdout


def test_the_version_is_that_of_the_installed_package() -> None:
    done = prefect_agent("--version")
    assert (done.returncode, done.stdout) == (0, f"prefect-agent {version('prefect-agent-lambda')}\n")


# Options


def test_every_option_of_prefects_ecs_agent_is_understood() -> None:
    typed = (
        "start ecs --api http://host:4200 --key k --tenant-id 6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52 --name n "
        "--label b --label a --env A=1 --env B=x=y --max-polls 2 --log-level debug --no-cloud-logs --cluster c "
        "--launch-type ec2 --task-role-arn arn:aws:iam::111122223333:role/t "
        "--execution-role-arn arn:aws:iam::111122223333:role/e --task-definition t.yaml --run-task-kwargs r.yaml"
    )
    line = read_command_line(typed.split())
    settings = load_settings({}, line.flags)
    assert (line.command, line.platform, line.own) == ("start", "ecs", {})
    assert (settings.labels, settings.env_vars) == (("a", "b"), {"A": "1", "B": "x=y"})
    assert (settings.max_polls, settings.log_level, settings.send_flow_run_logs) == (2, "DEBUG", False)
    assert (settings.cluster, settings.launch_type, settings.name) == ("c", "EC2", "n")
    assert (settings.task_definition_path, settings.run_task_kwargs_path) == ("t.yaml", "r.yaml")


def test_every_option_of_prefects_kubernetes_agent_is_understood() -> None:
    typed = (
        "start kubernetes --namespace flows --job-template job.yaml --service-account-name runner "
        "--image-pull-secrets one,two --label a --env A=1 --max-polls 2 --no-cloud-logs"
    )
    line = read_command_line(typed.split())
    settings = load_settings({"AGENT_PLATFORM": "ecs"}, {**line.flags, "platform": line.platform})
    assert (line.command, settings.platform, settings.namespace) == ("start", "kubernetes", "flows")
    assert (settings.job_template_path, settings.service_account_name) == ("job.yaml", "runner")
    assert (settings.image_pull_secrets, settings.labels) == (("one", "two"), ("a",))


def test_every_option_of_prefects_docker_agent_is_understood() -> None:
    typed = (
        "start docker --base-url tcp://h:2375 --no-pull --show-flow-logs --volume /b:/c --volume /a --network one "
        "--docker-client-timeout 5 --agent-address http://localhost:8080 --label a --env A=1 --name n --max-polls 1"
    )
    line = read_command_line(typed.split())
    settings = load_settings({}, {**line.flags, "platform": line.platform})
    assert (settings.platform, settings.docker_base_url, settings.docker_pull) == ("docker", "tcp://h:2375", False)
    assert (settings.docker_volumes, settings.docker_networks) == (("/a", "/b:/c"), ("one",))
    assert (settings.docker_timeout_seconds, settings.show_flow_logs) == (5, True)
    assert settings.agent_address == "http://localhost:8080"


def test_every_option_of_prefects_local_agent_is_understood() -> None:
    typed = "start local --import-path /b -p /a -f --no-hostname-label --label a --env A=1 --agent-address http://:8080"
    line = read_command_line(typed.split())
    settings = load_settings({}, {**line.flags, "platform": line.platform})
    assert (settings.platform, settings.import_paths, settings.labels) == ("local", ("/b", "/a"), ("a",))
    assert (settings.show_flow_logs, settings.hostname_label) == (True, False)


def test_a_platform_that_nobody_names_is_left_to_the_environment_and_else_to_this_machine() -> None:
    assert read_command_line(["start", "--label", "dev"]).platform == ""
    dry_run = ("tick", "--dry-run", "--max-polls", "x")
    assert "--max-polls" in prefect_agent(*dry_run, AGENT_PLATFORM="docker").stderr
    assert prefect_agent(*dry_run, AGENT_PLATFORM="nomad").stderr.count("\n") == 2


def test_short_options_mean_the_same_as_long_ones() -> None:
    pairs = [("-a", "--api"), ("-k", "--key"), ("-t", "--token"), ("-n", "--name"), ("-l", "--label"), ("-e", "--env")]
    for short, long in pairs:
        line = read_command_line(["tick", "ecs", short, "x"])
        assert line.flags
        assert line == read_command_line(["tick", "ecs", long, "x"])


def test_an_option_that_is_not_given_leaves_the_environment_alone() -> None:
    assert read_command_line(["tick", "ecs", "--dry-run"]).flags == {}


# Bad input


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("fly", "no such command; there are start, tick, install, doctor, runs, health"),
        ("fly ecs", "no such command; there are start"),
        ("ecs start", "the command comes first, such as in: prefect-agent start ecs"),
        ("start nomad", "start knows no such word; it may be followed by local, docker, ecs, kubernetes"),
        ("install ecs", "install knows no such word; it may be followed by kubernetes, aws"),
        ("install -n metrics", "write --namespace or --name"),
        ("start docker --network a/b", '--network: "a/b" is not a network\'s name'),
        ("start docker --volume a:b:c:d", '--volume: "a:b:c:d" is not a volume'),
        ("start docker --base-url here", '--base-url: "here" is not a URL such as unix://'),
        ("start --agent-address localhost:8080", "is not an address with a port such as http://localhost:8080"),
        ("start --agent-config-id x", "--agent-config-id: agent configurations of Prefect Cloud are not read"),
        ("start kubernetes --disable-job-deletion", "AGENT_JOB_TTL_SECONDS says how long it is kept"),
        ("install kubernetes --mem-request 1", "--mem-request: put it into a job template"),
        ("start local --hostname-label", "--no-hostname-label says no"),
        ("start local --output x", "--output belongs to install"),
        (f"start {CANARY}", "start knows no such word"),
        (f"start --kee {CANARY} ecs", "--kee is not an option; did you mean --key?"),
        (f"--kee {CANARY} start ecs", "--kee is not an option; did you mean --key?"),
        ("start ecs --lable dev", "--lable is not an option; did you mean --label?"),
        ("start ecs --clust x", "--clust is not an option; did you mean --cluster?"),
        ("start ecs --label", "argument --label/-l: expected one argument"),
        ("start ecs --label a,b", '--label: "a,b" is not a label: a text without a comma'),
        ("tick ecs --env A", "--env: has no `=` in assignment 1; write NAME=VALUE"),
        ("tick ecs --max-polls many", '--max-polls: "many" is not a whole number'),
        (f"start ecs --kee {CANARY}", "--kee is not an option; did you mean --key?"),
        (f"start ecs --kee={CANARY}", "--kee is not an option; did you mean --key?"),
        (f"start ecs {CANARY}", "there is a word that belongs to no option"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(typed: str, expected: str) -> None:
    done = prefect_agent(*typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("prefect-agent: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert CANARY not in done.stderr


def test_three_mistakes_at_once_are_three_lines_and_no_traceback() -> None:
    done = prefect_agent("tick", "ecs", "--label", "a,b", AGENT_CLUSTR="x", PREFECT__CLOUD__API="nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(line.split(":")[1].strip() for line in done.stderr.splitlines()) == [
        "--label",
        "AGENT_CLUSTR",
        "PREFECT__CLOUD__API",
    ]


def test_bad_input_is_told_before_anything_heavy_is_imported() -> None:
    code = (
        "import sys; from chalicelib.cli.commands import main; code = main(['start', 'ecs', '--max-polls', 'x']);"
        "print(code, {'boto3', 'botocore', 'requests', 'yaml', 'chalice', 'chalicelib.bootstrap'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "2 set()\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PREFECT__BACKEND": "cloud"}, "Prefect Cloud needs an API key; set PREFECT__CLOUD__API_KEY"),
        ({"PREFECT__USER_CONFIG_PATH": "/nonexistent/config.toml"}, "there is no file /nonexistent/config.toml"),
        ({"PREFECT__USER_CONFIG_PATH": "/dev"}, "/dev: cannot be read"),
        ({"AGENT_EKS_CLUSTER": "main", "AGENT_KUBECONFIG": "/config"}, "without a kubeconfig"),
        ({"AGENT_PLATFROM": "ecs"}, "AGENT_PLATFROM: no such setting; did you mean AGENT_PLATFORM?"),
    ],
)
def test_a_bad_environment_is_one_line_that_says_what_to_do(environment: dict[str, str], expected: str) -> None:
    done = prefect_agent("start", "ecs", **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert expected in done.stderr


@pytest.mark.parametrize(
    ("typed", "environment", "expected"),
    [
        ("start ecs --task-definition missing.yaml", {}, "--task-definition: the template missing.yaml cannot be used"),
        ("tick ecs --run-task-kwargs missing.yaml", {}, "--run-task-kwargs: the template missing.yaml cannot be used"),
        ("doctor kubernetes --job-template docs", {}, "--job-template: the template docs cannot be used"),
        (
            "runs ecs",
            {"AGENT_TASK_DEFINITION": "LICENSE"},
            "AGENT_TASK_DEFINITION: the template LICENSE cannot be used",
        ),
    ],
)
def test_a_template_that_cannot_be_used_is_told_by_the_option_or_variable_that_names_it_and_what_to_do(
    typed: str, environment: dict[str, str], expected: str
) -> None:
    done = prefect_agent(*typed.split(), **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"prefect-agent: {expected}: ")
    assert done.stderr.endswith(": correct the path or the file, or leave it out\n")


def test_each_of_two_missing_templates_is_a_line() -> None:
    done = prefect_agent("start", "ecs", "--task-definition", "a.yaml", "--run-task-kwargs", "b.yaml")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["--task-definition", "--run-task-kwargs"]


def test_a_template_of_another_platform_that_the_environment_names_is_not_looked_at() -> None:
    done = prefect_agent("health", "--api", "http://127.0.0.1:1", AGENT_TASK_DEFINITION="missing.yaml")
    assert (done.returncode, done.stderr) == (1, "")
    local = prefect_agent("tick", "--api", "http://127.0.0.1:1", AGENT_TASK_DEFINITION="missing.yaml")
    assert (local.returncode, "missing.yaml" in local.stderr) == (1, False)


def test_what_prefects_agents_take_and_this_one_does_not_is_no_option_of_ours() -> None:
    options = {flag.lstrip("-").replace("-", "_") for setting in SETTINGS for flag in setting.flags}
    assert not options & set(REFUSED)


# The commands


class ScriptedAgent:
    """An agent whose ticks answer by a script, and that remembers their deadlines."""

    def __init__(self, *answers: TickReport | Exception) -> None:
        self.answers = list(answers)
        self.deadlines: list[datetime] = []

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        self.deadlines.append(deadline)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(("errors", "code"), [([], 0), (["one"], 1)])
def test_tick_prints_its_report_as_one_json_line_and_fails_where_that_has_errors(
    capsys: pytest.CaptureFixture[str], errors: list[str], code: int
) -> None:
    report = TickReport(claimed=2, answers=Counter({Answer.LAUNCHED: 2}), errors=errors)
    assert tick(ScriptedAgent(report), load_settings({})) == code
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == report.as_dict()


def test_tick_gives_its_agent_one_cadence_of_time() -> None:
    agent = ScriptedAgent(TickReport())
    before = datetime.now(UTC)
    tick(agent, load_settings({"AGENT_CADENCE_SECONDS": "30"}))
    assert before + timedelta(seconds=30) <= agent.deadlines[0] <= datetime.now(UTC) + timedelta(seconds=30)


def test_tick_fails_when_prefect_is_away() -> None:
    with pytest.raises(PrefectUnreachable):
        tick(ScriptedAgent(PrefectUnreachable("away")), load_settings({}))


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([TickReport(), TickReport()], 0),
        ([PrefectUnreachable("away"), TickReport()], 0),
        ([TickReport(), PrefectUnreachable("away")], 1),
        ([TickReport(errors=["away"]), TickReport()], 0),
        ([TickReport(), TickReport(errors=["away"])], 1),
    ],
)
def test_start_ticks_max_polls_times_and_answers_for_the_last(
    answers: list[TickReport | Exception], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = ScriptedAgent(*answers)
    assert start(agent, load_settings({}, {"max_polls": 2})) == expected
    assert len(agent.deadlines) == 2
    assert capsys.readouterr().out == ""


def test_start_ends_on_settings_that_turn_out_wrong() -> None:
    agent = ScriptedAgent(SettingsError(["AGENT_CLUSTER: no such cluster"]))
    with pytest.raises(SettingsError, match="no such cluster"):
        start(agent, load_settings({}))


# Contradictions


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("start ecs --work-pool nightly", "ecs: the type of a work pool is its platform"),
        (
            "start --cluster flows",
            "--cluster: belongs to ecs, and the platform here is local: write `prefect-agent start ecs`",
        ),
        ("tick docker --namespace flows", "--namespace: belongs to kubernetes"),
        ("doctor ecs --show-flow-logs", "--show-flow-logs: belongs to local"),
        ("install aws --rbac", "--rbac belongs to install kubernetes"),
        ("install --rbac --access-only", "give one of them"),
    ],
)
def test_what_contradicts_itself_is_one_line_that_says_what_to_do(typed: str, problem: str) -> None:
    done = prefect_agent(*typed.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert problem in done.stderr


def test_options_of_several_platforms_are_fine_where_work_pools_may_need_them_all() -> None:
    line = read_command_line(["install", "kubernetes", "--work-pool", "nightly", "--cluster", "flows"])
    assert (line.platform, line.flags["work_pools"]) == ("kubernetes", ["nightly"])
    typed = (
        "tick",
        "--work-pool",
        "nightly",
        "--cluster",
        "flows",
        "--namespace",
        "flows",
        "--api",
        "http://127.0.0.1:1",
    )
    assert prefect_agent(*typed).returncode == 1


def test_both_platforms_that_show_flow_logs_take_the_option() -> None:
    for platform in ("local", "docker"):
        check_platform(read_command_line(["start", platform, "--show-flow-logs"]), platform)
    with pytest.raises(SettingsError):
        check_platform(read_command_line(["start", "ecs", "--show-flow-logs"]), "ecs")


# What only looks


def test_health_says_what_is_wrong_once() -> None:
    done = prefect_agent("health", "--api", "http://127.0.0.1:1")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (1, "", 1)
    assert done.stdout.startswith("unhealthy: http://127.0.0.1:1")
