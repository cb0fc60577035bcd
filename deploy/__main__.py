"""Deploy a stage of the agent, look at what would change, or take it down."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.cli.commands import main as ask
from deploy.account import Account, DeployError, explain
from deploy.deployed import Memory
from deploy.stage import PARTS, Stage, read_stage
from deploy.steps import Journey

LOOKS = ("doctor", "runs", "health")
COMMANDS = {
    "up": "deploy a stage; again, to change it or to go on where it broke off",
    "plan": "show what up would change",
    "down": "delete a stage and all that is its own",
    "package": "write one SAM template and the zip, for a pipeline; the stage must exist",
    **{name: f"`prefect-agent {name}` with the settings of a stage" for name in LOOKS},
}
OPTIONS = {
    "--set": {"metavar": "NAME=VALUE", "help": "a setting of the agent"},
    "--parameter": {"metavar": "NAME=VALUE", "help": "a parameter of a template of infra/"},
    "--part": {"choices": PARTS, "help": "a template of infra/ besides core"},
}
"""What is said once and kept in the stage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 when it is done, 1 when somebody said no, 2 when it cannot be."""
    options = _read_options(arguments)
    account, journey = Account(), None
    try:
        # What can be told without an account is told first.
        journey = Journey(_find_stage(options, account), account)
        account.identify()
        return _run(options, journey)
    except (DeployError, ClientError, BotoCoreError) as error:
        where = f" at: {journey.at}" if journey else ""
        print(f"deploy: stopped{where}. {explain(error)}", file=sys.stderr)
        if journey:
            print("deploy: mend that and run the same command again; it goes on from there", file=sys.stderr)
        return 2


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, meaning in COMMANDS.items():
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.add_argument("--stage", required=True)
        command.add_argument("--yes", action="store_true", help="do not ask")
        command.add_argument("--architecture", choices=("arm64", "x86_64"), help="of the functions")
        for option, more in OPTIONS.items():
            command.add_argument(option, action="append", default=[], **more)  # type: ignore[arg-type]
    return parser.parse_args(arguments)


def _find_stage(options: argparse.Namespace, account: Account) -> Stage:
    project = Path.cwd()
    stage = read_stage(project, options.stage)
    if stage is None:
        remembered = Memory(account, options.stage).recall().get("stage")
        if remembered is None and not options.set and options.command != "down":
            advice = f"make deploy STAGE={options.stage} ARGS='--set PREFECT__CLOUD__API=https://...'"
            raise DeployError(f"There is no stage {options.stage}. Make it: {advice}")
        stage = Stage(project, options.stage, remembered or {})
    stage.environment.update(_pairs(options.set))
    stage.parameters.update(_pairs(options.parameter))
    if options.part:
        stage.infrastructure["parts"] = options.part
    if options.architecture:
        stage.document["lambda_architecture"] = options.architecture
    return stage


def _pairs(given: Sequence[str]) -> dict[str, str]:
    if bare := [text for text in given if "=" not in text]:
        raise DeployError(f"{bare[0]!r} has no value: write it NAME=VALUE")
    return dict(text.split("=", 1) for text in given)


def _run(options: argparse.Namespace, journey: Journey) -> int:
    if options.command == "down" and not options.yes:
        question = f"Delete the stage {options.stage} with its queues, logs and alarms? Write its name: "
        print(question, end="", flush=True)
        if sys.stdin.readline().strip() != options.stage:
            print("Nothing is deleted")
            return 1
    if options.command in LOOKS:
        # The functions take ECS for the usual platform, a terminal this machine.
        os.environ.update({"AGENT_PLATFORM": "ecs", **journey.stage.environment})
        return ask([options.command])
    {"up": journey.up, "plan": journey.plan, "down": journey.down, "package": journey.package}[options.command]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
