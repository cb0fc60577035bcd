"""The commands of `prefect-agent`."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from chalicelib.cli.config_file import read_config_file
from chalicelib.cli.options import CommandLine, check_platform, read_command_line
from chalicelib.cli.polling import Ticking, keep_ticking, stop_on_signals
from chalicelib.clock import SystemClock
from chalicelib.errors import AgentError, SettingsError
from chalicelib.ports import Clock
from chalicelib.settings import Given, Settings, load_settings

LOGGER = logging.getLogger(__name__)

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
    return settings


def _run(line: CommandLine, settings: Settings) -> int:
    if line.command == "install":
        from chalicelib.cli.install import install

        install(line.platform, line.own, settings)
        return FINE
    if line.command not in ("start", "tick"):
        return _look(line.command, settings)
    # Bad input is told before the time that this import takes.
    from chalicelib.bootstrap import build_agent

    show_logs(settings.log_level)
    agent = build_agent(settings)
    if line.own.get("dry_run"):
        from chalicelib.cli.preview import render_previews

        print(render_previews(agent.preview(_deadline(settings)), settings))
        return FINE
    return start(agent, settings) if line.command == "start" else tick(agent, settings)


def _look(command: str, settings: Settings) -> int:
    """What only looks, and changes nothing. What it finds it prints: a log line of the agent's would say it twice."""
    show_logs("CRITICAL")
    if command == "doctor":
        from chalicelib.cli.doctor import run_doctor

        return run_doctor(settings)
    if command == "runs":
        from chalicelib.cli.runs import run_runs

        return run_runs(settings)
    from chalicelib.cli.health import run_health

    return run_health(settings)


def start(agent: Ticking, settings: Settings) -> int:
    """Keep ticking until a signal, or the limit of polls, and answer the exit code; serves the address of `settings`.

    Raises SettingsError, such as when nothing can listen at that address.
    """
    clock = SystemClock()
    with stop_on_signals() as bell, _at_address(agent, settings, clock, bell.poke) as ticking:
        kind, served = ("work pools", settings.work_pools) if settings.work_pools else ("labels", settings.labels)
        LOGGER.info('Agent "%s", %s %s: waiting for flow runs', settings.name, kind, ", ".join(served) or "none")
        ended_well = keep_ticking(ticking, clock, settings.max_polls, bell.wait, settings.cadence_seconds)
    return FINE if ended_well else FAILED


def _at_address(
    agent: Ticking, settings: Settings, clock: Clock, poke: Callable[[], None]
) -> AbstractContextManager[Ticking]:
    if settings.agent_address is None:
        return nullcontext(agent)
    from chalicelib.cli.address import serve_address  # the server's modules cost a start 10 ms

    return serve_address(agent, settings, settings.agent_address, clock, poke)


def tick(agent: Ticking, settings: Settings) -> int:
    """Tick once, print the report and answer the exit code."""
    with stop_on_signals():
        report = agent.tick(_deadline(settings), recovers=True)
    print(json.dumps(report.as_dict()))
    return FAILED if report.agent_fault else FINE


def _deadline(settings: Settings) -> datetime:
    return SystemClock().now() + timedelta(seconds=settings.cadence_seconds)


def show_logs(level: str) -> None:
    """Send this project's logs from `level` on to stderr, and of the libraries' only the warnings.

    The libraries' own debugging logs hold whole requests, with the API key in them.
    """
    logging.basicConfig(format="[%(asctime)s] %(levelname)s - %(name)s | %(message)s", level=logging.WARNING)
    logging.getLogger("chalicelib").setLevel(level)
