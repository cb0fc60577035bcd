"""The command line: its words, its options (made from the table of settings) and its help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, NoReturn

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Setting, did_you_mean

COMMANDS = ("start ecs", "tick ecs", "start kubernetes", "tick kubernetes", "install kubernetes")

_DESCRIPTION = """\
Starts the flow runs that Prefect says are due.

commands:
  start ecs           keep polling and launching in this process until Ctrl-C, or until --max-polls
  start kubernetes    the same, with Jobs
  tick ecs            poll and launch once, in a process of its own, and print the report as one JSON line
  tick kubernetes     the same, with Jobs
  install kubernetes  print what a Kubernetes cluster needs for this agent, for `kubectl apply -f -`
"""

_EPILOG = """\
An option beats its environment variable; docs/settings.md lists them all, and variables without an option.

examples:
  prefect-agent start ecs --api http://prefect.internal:4200 --label dev --label staging --env REGION=eu-west-1
  PREFECT__CLOUD__API_KEY=arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect-Ab12Cd \\
    prefect-agent start ecs --execution-role-arn arn:aws:iam::111122223333:role/flows
  prefect-agent start kubernetes --namespace flows --service-account-name flows --job-template job.yaml
  prefect-agent tick ecs --label dev --dry-run
  prefect-agent install kubernetes --token T --namespace metrics --rbac --label dev | kubectl apply -f -

exit codes:
  0    all is well; Ctrl-C ends `start` this way too, after the tick at hand (a second Ctrl-C ends it at once)
  1    Prefect is away, refuses the key, or the tick failed
  2    wrong usage or settings, one line for each problem
  130  Ctrl-C before the first tick, or the second Ctrl-C
"""


class OwnOption(NamedTuple):
    """An option that is no setting."""

    commands: tuple[str, ...]
    help: str
    is_switch: bool = True


OWN_OPTIONS = {
    "dry_run": OwnOption(
        ("start", "tick"), "show the launch requests of what is due now, secrets redacted; claim and launch nothing"
    ),
    "rbac": OwnOption(("install",), "a service account with a Role of what the agent does, in its namespace alone"),
    "access_only": OwnOption(("install",), "only the Role, for the Lambda's Kubernetes group (infra/eks-access.yaml)"),
    "image": OwnOption(("install",), "image of the agent [prefect-agent:latest, made by infra/Dockerfile]", False),
}


@dataclass(frozen=True)
class CommandLine:
    """What somebody typed; `flags` are values by setting, as typed, `own` what only some commands have."""

    command: str
    platform: str
    flags: dict[str, Any] = field(repr=False)
    own: dict[str, Any] = field(default_factory=dict)


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """The meaning of `arguments`; raises SettingsError, or SystemExit when it has printed the help or the version."""
    parser = _parser(_version() if "--version" in arguments else "")
    found, rest = parser.parse_known_args(arguments or ["--help"])
    flags = vars(found)
    command, platform = flags.pop("command"), flags.pop("platform")
    own = {name: flags.pop(name) for name in OWN_OPTIONS if name in flags}
    line = CommandLine(command, platform or ("kubernetes" if command == "install" else ""), flags, own)
    if rest:
        parser.error(_unknown(rest))
    if f"{line.command} {line.platform}" not in COMMANDS:
        what = "no such command" if line.platform else "a command and a platform are needed"
        parser.error(f"{what}; this agent starts flow runs on ECS and Kubernetes only: write {', '.join(COMMANDS)}")
    for name in own:
        if line.command not in OWN_OPTIONS[name].commands:
            parser.error(f"--{name.replace('_', '-')} belongs to {' and '.join(OWN_OPTIONS[name].commands)}")
    return line


def _unknown(words: Sequence[str]) -> str:
    # What follows a misspelt --key is a key: only the option's name is repeated.
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    if not options:
        return "there is a word that belongs to no option"
    known = [flag for setting in SETTINGS for flag in setting.flags]
    known += [f"--{name.replace('_', '-')}" for name in OWN_OPTIONS]
    return f"{options[0]} is not an option; {did_you_mean(options[0], known)}"


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is a SettingsError, so that all bad input is told alike."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError([f"{message} (prefect-agent -h shows the commands and options)"])


def _parser(version: str) -> argparse.ArgumentParser:
    # The words and values stay as typed: they are judged later, so that no complaint repeats what may be a key.
    parser = _Parser(
        prog="prefect-agent",
        usage="prefect-agent COMMAND PLATFORM [OPTIONS]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("command", metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("platform", metavar="PLATFORM", nargs="?", default="", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"prefect-agent {version}", help="print the version")
    for name, option in OWN_OPTIONS.items():
        action: dict[str, Any] = {"action": "store_true"} if option.is_switch else {"metavar": name.upper()}
        parser.add_argument(f"--{name.replace('_', '-')}", help=option.help, **action)
    for topic, settings in groupby((setting for setting in SETTINGS if setting.flags), lambda setting: setting.topic):
        group = parser.add_argument_group(topic)
        for setting in settings:
            group.add_argument(*setting.flags, **_option(setting))
    return parser


def _option(setting: Setting) -> dict[str, Any]:
    how: dict[str, Any] = {"dest": setting.field, "help": f"{setting.help} [{setting.env}]"}
    if isinstance(setting.default, bool):
        return {**how, "action": "store_const", "const": not setting.default}
    action = "append" if isinstance(setting.default, tuple | dict) else "store"
    return {**how, "action": action, "metavar": setting.flags[0].lstrip("-").upper()}


def _version() -> str:
    from importlib.metadata import distributions

    return next((found.version for found in distributions(name="prefect-agent-lambda")), "(not installed)")
