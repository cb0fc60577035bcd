"""The commands of `prefect-agent`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from chalicelib.cli.config_file import read_config_file
from chalicelib.cli.options import CommandLine, check_platform, read_command_line
from chalicelib.cli.polling import Bell, Ticking, keep_ticking, stop_on_signals
from chalicelib.clock import SystemClock
from chalicelib.errors import AgentError, SettingsError
from chalicelib.ports import Clock
from chalicelib.settings import SETTINGS, Given, Settings, load_settings

LOGGER = logging.getLogger(__name__)

TEMPLATES = ("task_definition_path", "run_task_kwargs_path", "job_template_path")
FINE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130  # 128 + 2 is a shell's word for an end by SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and answer its exit code; the entry point of the console script."""
    try:
        line = read_command_line(sys.argv[1:] if arguments is None else arguments)
        return _run(line, _settings(line))
    except SettingsError as error:
        problems, code = error.problems, WRONG_USAGE
    except AgentError as error:
        problems, code = (str(error),), FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    for problem in problems:
        print(f"prefect-agent: {problem}", file=sys.stderr)
    return code


def _settings(line: CommandLine) -> Settings:
    """What was typed, over the environment, over Prefect's config file; where nobody names a platform it is local."""
    named = {"install": {"": "kubernetes", "aws": ""}}.get(line.command, {}).get(line.platform, line.platform)
    usual = {"platform": Given("ecs" if line.platform == "aws" else "local", "platform")}
    file = read_config_file(os.environ, line.flags)
    settings = load_settings(os.environ, {**line.flags, "platform": named}, file, usual)
    if not settings.work_pools:
        check_platform(line, settings.platform)
        if line.command not in ("install", "health"):
            _check_templates(line, settings)
    return settings


def _check_templates(line: CommandLine, settings: Settings) -> None:
    """Raises SettingsError for files that are no templates, each by the option or variable that names it."""
    problems = []
    for row in (row for row in SETTINGS if row.field in TEMPLATES and row.topic.lower() == settings.platform):
        # What is in S3 is read once, with the agent's own client.
        if (path := getattr(settings, row.field)) and not path.startswith("s3://"):
            from chalicelib.launchers.aws import AwsClients
            from chalicelib.launchers.templates import read_own_template

            try:
                read_own_template(path, AwsClients().s3)
            except SettingsError as error:
                where = row.flags[0] if row.field in line.flags else row.env
                problems.append(f"{where}: {error}: correct the path or the file, or leave it out")
    if problems:
        raise SettingsError(problems)


def _run(line: CommandLine, settings: Settings) -> int:
    if line.command == "install":
        from chalicelib.cli.install import install

        install(line.platform, line.own, settings)
        return FINE
    # What only looks prints what it finds: a log line of the agent's would say it twice.
    show_logs(settings.log_level if line.command in ("start", "tick") else "CRITICAL")
    if line.command == "doctor":
        from chalicelib.cli.doctor import run_doctor

        return run_doctor(settings)
    if line.command == "runs":
        from chalicelib.cli.runs import run_runs

        return run_runs(settings)
    if line.command == "health":
        from chalicelib.cli.health import run_health

        return run_health(settings)
    # Bad input is told before the time that this import takes.
    from chalicelib.bootstrap import build_agent

    agent = build_agent(settings)
    if line.own.get("dry_run"):
        from chalicelib.cli.preview import render_previews

        print(render_previews(agent.preview(_deadline(settings)), settings))
        return FINE
    return start(agent, settings) if line.command == "start" else tick(agent, settings)


def start(agent: Ticking, settings: Settings) -> int:
    """Keep ticking until a signal, or the limit of polls, and answer the exit code; serves the address of `settings`.

    Raises SettingsError, such as when nothing can listen at that address.
    """
    clock = SystemClock()
    with stop_on_signals() as bell, _at_address(agent, settings, clock, bell) as ticking:
        kind, served = ("work pools", settings.work_pools) if settings.work_pools else ("labels", settings.labels)
        LOGGER.info('Agent "%s", %s %s: waiting for flow runs', settings.name, kind, ", ".join(served) or "none")
        ended_well = keep_ticking(ticking, clock, settings.max_polls, bell.wait, settings.cadence_seconds)
    return FINE if ended_well else FAILED


def _at_address(agent: Ticking, settings: Settings, clock: Clock, bell: Bell) -> AbstractContextManager[Ticking]:
    if settings.agent_address is None:
        return nullcontext(agent)
    from chalicelib.cli.address import serve_address  # the server's modules cost a start 10 ms

    return serve_address(agent, settings, clock, bell.poke)


def tick(agent: Ticking, settings: Settings) -> int:
    """Tick once, print the report and answer the exit code."""
    with stop_on_signals():
        report = agent.tick(_deadline(settings), recovers=True)
    print(json.dumps(report.as_dict()))
    return FAILED if report.errors else FINE


def _deadline(settings: Settings) -> datetime:
    return SystemClock().now() + timedelta(seconds=settings.cadence_seconds)


def show_logs(level: str) -> None:
    """Send this project's logs from `level` on to stderr, and of the libraries' only the warnings.

    The libraries' own debugging logs hold whole requests, with the API key in them.
    """
    logging.basicConfig(format="[%(asctime)s] %(levelname)s - %(name)s | %(message)s", level=logging.WARNING)
    logging.getLogger("chalicelib").setLevel(level)
