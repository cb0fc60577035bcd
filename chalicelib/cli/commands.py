"""The commands of `prefect-agent`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from chalicelib.cli.options import CommandLine, read_command_line
from chalicelib.clock import SystemClock
from chalicelib.errors import PrefectError, SettingsError
from chalicelib.outcomes import TickReport
from chalicelib.settings import Settings, load_settings

# What only one command needs is imported inside of it: the time to the first poll counts.

FINE, FAILED, WRONG_USAGE = 0, 1, 2
INTERRUPTED = 128 + 2  # as a shell says of a process that SIGINT ended


class Ticking(Protocol):
    """The part of the agent that `start` and `tick` use."""

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        """Serve what is due; first what an earlier tick left half done, if it `recovers`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and answer its exit code; the entry point of the console script."""
    try:
        return run(sys.argv[1:] if arguments is None else arguments, os.environ)
    except SettingsError as error:
        return _complain(error.problems, WRONG_USAGE)
    except PrefectError as error:
        return _complain([str(error)], FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Do what `arguments` ask for, with the settings of `environment`; raises AgentError."""
    line = read_command_line(arguments)
    if not line.command:
        print(line.text, end="")
        return FINE
    return _run_agent(line, load_settings(environment, line.flags))


def _run_agent(line: CommandLine, settings: Settings) -> int:
    from chalicelib.bootstrap import build_agent

    _show_logs(settings.log_level)
    agent = build_agent(settings)
    if line.dry_run:
        from chalicelib.cli.preview import render_previews

        print(render_previews(agent.preview(_deadline(settings)), settings))
        return FINE
    return start(agent, settings) if line.command == "start" else tick(agent, settings)


def start(agent: Ticking, settings: Settings) -> int:
    """Keep ticking until a signal, or the limit of polls, and answer the exit code."""
    import logging

    from chalicelib.cli.polling import keep_ticking, recovering, stop_on_signals

    labels = ", ".join(settings.labels) or "none"
    logging.getLogger(__name__).info('Agent "%s", labels %s: waiting for flow runs', settings.name, labels)
    with stop_on_signals() as stop:
        clock = SystemClock()
        tick = recovering(agent.tick, clock)
        succeeded = keep_ticking(tick, clock, settings.max_polls, stop, settings.cadence_seconds)
        return FINE if succeeded or stop.requested else FAILED


def tick(agent: Ticking, settings: Settings) -> int:
    """Tick once, print the report and answer the exit code."""
    from chalicelib.cli.polling import stop_on_signals

    with stop_on_signals():
        report = agent.tick(_deadline(settings), recovers=True)
    print(json.dumps(report.as_dict()))
    return FINE


def _deadline(settings: Settings) -> datetime:
    return SystemClock().now() + timedelta(seconds=settings.cadence_seconds)


def _show_logs(level: str) -> None:
    """Send this project's logs from `level` on to stderr, and of the libraries' only the warnings.

    The libraries' own debugging logs hold whole requests, with the API key in them.
    """
    import logging

    logging.basicConfig(format="[%(asctime)s] %(levelname)s - %(name)s | %(message)s", level=logging.WARNING)
    logging.getLogger("chalicelib").setLevel(level)


def _complain(problems: Iterable[str], code: int) -> int:
    for problem in problems:
        print(f"prefect-agent: {problem}", file=sys.stderr)
    return code
