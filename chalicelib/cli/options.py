"""The command line: its words, its options (made from the table of settings) and its help."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, NoReturn

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Setting, did_you_mean

PLATFORMS = ("local", "docker", "ecs", "kubernetes")

_WORDS = ("start", "tick", "install", "doctor", "runs", "health")
COMMANDS = dict.fromkeys(_WORDS, PLATFORMS) | {"install": ("kubernetes", "aws")}
"""What can be typed: the commands, and what may follow each of them."""

_KEPT = "no Job is deleted before its time; AGENT_JOB_TTL_SECONDS says how long it is kept (job_ttl_seconds)"
_IN_TEMPLATE = "put it into a job template (--job-template, job_template_path)"
_AS_BOTO3 = "AWS credentials are read as boto3 reads them: set AWS_ACCESS_KEY_ID and the like, or AWS_PROFILE"

REFUSED = {
    "agent_config_id": "agent configurations of Prefect Cloud are not read; give each setting by its own option",
    "hostname_label": "that is so without an option; --no-hostname-label says no",
    "latest": "name the image of the agent with --image",
    "region_name": "the region is read as boto3 reads it: set AWS_REGION, or AWS_PROFILE",
    "botocore_config": "boto3 is configured by its own variables and ~/.aws/config",
    "reg_allow_list": "let the Docker daemon itself decide which registries it pulls from",
    "project": "this agent does not start flow runs on Vertex",
    "service_account": "this agent does not start flow runs on Vertex; for Kubernetes it is --service-account-name",
    **dict.fromkeys(("disable_job_deletion", "delete_finished_jobs"), _KEPT),
    **dict.fromkeys(("mem_request", "mem_limit", "cpu_request", "cpu_limit", "volumes", "volume_mounts"), _IN_TEMPLATE),
    **dict.fromkeys(("aws_access_key_id", "aws_secret_access_key", "aws_session_token"), _AS_BOTO3),
}
"""What Prefect 1.4.1's agents take and this one does not, as an option or an argument, and what to do instead."""

_DESCRIPTION = """\
Starts the flow runs that Prefect says are due.

commands:
  start [PLATFORM]    keep polling and launching in this process until Ctrl-C, or until --max-polls
  tick [PLATFORM]     poll and launch once, in a process of its own, and print the report as one JSON line
  install kubernetes  print what a Kubernetes cluster needs for this agent, for `kubectl apply -f -`
  install aws         print the settings of the Lambda on AWS, a stage of .chalice/config.json, for `make deploy`
  doctor [PLATFORM]   look at everything that this agent needs, and say for each finding what to do
  runs                show what this agent has claimed lately, where that is, and its state
  health              say whether this agent polls, as Prefect has it on record

platforms:
  local               processes of this machine, the one that is meant when none is named
  docker              containers of a Docker daemon
  ecs                 tasks of Amazon ECS
  kubernetes          Jobs of a Kubernetes cluster
With --work-pool (Prefect 3) no platform is named: the type of each pool decides.
"""

_EPILOG = """\
An option beats its environment variable, which beats ~/.prefect/config.toml; docs/settings.md lists them all.

examples:
  prefect-agent start --label dev --import-path ~/flows
  prefect-agent start docker --volume /data:/data:ro --network prefect-server --agent-address http://localhost:8080
  PREFECT__CLOUD__API_KEY=arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect-Ab12Cd \\
    prefect-agent start ecs --execution-role-arn arn:aws:iam::111122223333:role/flows
  prefect-agent start kubernetes --namespace flows --service-account-name flows --job-template job.yaml
  prefect-agent start --work-pool nightly --api http://127.0.0.1:4200/api
  prefect-agent tick ecs --label dev --dry-run
  prefect-agent doctor ecs --label dev --cluster flows
  prefect-agent install --token T --namespace metrics --rbac --label dev | kubectl apply -f -
  prefect-agent install aws --cluster flows --label dev --output stage

exit codes:
  0    all is well; Ctrl-C ends `start` this way too, after the tick at hand (a second Ctrl-C ends it at once)
  1    Prefect or the platform is away, the key is refused, the tick failed, or something was found to be wrong
  2    wrong usage or settings, one line for each problem
  130  Ctrl-C before the first tick, or the second Ctrl-C
"""


class OwnOption(NamedTuple):
    """An option that is no setting; `belongs_to` are the words that it may follow."""

    belongs_to: str
    help: str
    is_switch: bool = True


OWN_OPTIONS = {
    "dry_run": OwnOption("start and tick", "show the launch requests of what is due, secrets redacted; launch none"),
    "rbac": OwnOption("install kubernetes", "a service account with a Role of what the agent does in its namespace"),
    "access_only": OwnOption("install kubernetes", "only the Role, for the Lambda's group (infra/eks-access.yaml)"),
    "image": OwnOption("install kubernetes", "image of the agent [prefect-agent:latest, of infra/Dockerfile]", False),
    "output": OwnOption("install", "directory to write files into, instead of printing them", False),
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
    if rest:
        parser.error(_unknown(rest))
    if command in PLATFORMS:
        parser.error("the command comes first, such as in: prefect-agent start ecs")
    if command not in COMMANDS:
        parser.error(f"no such command; there are {', '.join(COMMANDS)}")
    if platform not in ("", *COMMANDS[command]):
        parser.error(f"{command} knows no such word; it may be followed by {', '.join(COMMANDS[command])}")
    if problem := _contradiction(command, platform, flags, own):
        parser.error(problem)
    if command == "install" and any(word[:2] == "-n" for word in arguments):
        parser.error("-n is the namespace for Prefect's own install, the name elsewhere: write --namespace or --name")
    return CommandLine(command, platform, flags, own)


def _contradiction(command: str, platform: str, flags: Collection[str], own: Collection[str]) -> str:
    """What of two things that were typed cannot both be meant; "" when all can."""
    typed = f"{command} {platform or COMMANDS[command][0]}"
    for name in own:
        if not typed.startswith(tuple(OWN_OPTIONS[name].belongs_to.split(" and "))):
            return f"--{name.replace('_', '-')} belongs to {OWN_OPTIONS[name].belongs_to}: leave it out"
    if {"rbac", "access_only"} <= set(own):
        return "--rbac is for the agent in the cluster, --access-only for the Lambda: give one of them"
    if platform and "work_pools" in flags and command != "install":
        return f"{platform}: the type of a work pool is its platform: leave this word out"
    return ""


def _unknown(words: Sequence[str]) -> str:
    # What follows a misspelt --key is a key: only the option's name is repeated.
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    if not options:
        return "there is a word that belongs to no option"
    if refused := REFUSED.get(options[0].lstrip("-").replace("-", "_")):
        return f"{options[0]}: {refused}"
    own = (f"--{name.replace('_', '-')}" for name in OWN_OPTIONS)
    known = [*own, *(flag for setting in SETTINGS for flag in setting.flags)]
    return f"{options[0]} is not an option; {did_you_mean(options[0], known)}"


def check_platform(line: CommandLine, platform: str) -> None:
    """Raises SettingsError for options of another platform than the one that is meant, such as one that was forgotten.

    For an agent of one platform only: one of work pools may need the options of all.
    """
    if line.command in ("install", "health"):
        return
    problems = []
    for row in (row for row in SETTINGS if row.field in line.flags):
        owners = ("local", "docker") if row.field == "show_flow_logs" else (row.topic.lower(),)
        if set(owners) <= set(PLATFORMS) and platform not in owners:
            advice = f"write `prefect-agent {line.command} {owners[0]}`, or leave it out"
            problems.append(f"{row.flags[0]}: belongs to {owners[0]}, and the platform here is {platform}: {advice}")
    if problems:
        raise SettingsError(problems)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is a SettingsError, so that all bad input is told alike."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError([f"{message} (prefect-agent -h shows the commands and options)"])


def _parser(version: str) -> argparse.ArgumentParser:
    # The words and values stay as typed: they are judged later, so that no complaint repeats what may be a key.
    parser = _Parser(
        prog="prefect-agent",
        usage="prefect-agent COMMAND [PLATFORM] [OPTIONS]",
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
