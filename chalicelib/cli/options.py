"""The command line: its words, its options (made from the table of settings) and its help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from chalicelib.errors import SettingsError
from chalicelib.settings import SETTINGS, Setting, did_you_mean

PLATFORMS = ("ecs",)
COMMANDS = {
    "start": "keep polling and launching in this process until Ctrl-C, or until --max-polls",
    "tick": "poll and launch once, in a process of its own, and print the report as one JSON line",
}
_HELP_WORDS = ("-h", "--help")

_EXAMPLES = {
    "start": """\
examples:
  prefect-agent start ecs --label dev --label staging --cluster flows
  prefect-agent start ecs --api http://prefect.internal:4200 --env REGION=eu-west-1 --log-level DEBUG
  PREFECT__CLOUD__API_KEY=arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect-Ab12Cd \\
    prefect-agent start ecs --execution-role-arn arn:aws:iam::111122223333:role/flows
""",
    "tick": """\
examples:
  prefect-agent tick ecs --label dev
  prefect-agent tick ecs --label dev --dry-run
""",
}

_EXIT_CODES = """\
exit codes:
  0    all is well; Ctrl-C ends `start` this way too, after the tick at hand (a second Ctrl-C ends it at once)
  1    Prefect is away, refuses the key, or the tick failed
  2    wrong usage or settings, one line for each problem
  130  Ctrl-C before the first tick, or the second Ctrl-C
"""

_NAMES_OF_VARIABLES = """\
Every option can be set by an environment variable too; docs/settings.md lists them, and those without an option.
An option beats the environment.
"""

OVERVIEW = f"""\
usage: prefect-agent COMMAND PLATFORM [OPTIONS]

Starts the flow runs that Prefect says are due.

commands:
{"".join(f"  {command} ecs{'':{8 - len(command)}}{meaning}" + chr(10) for command, meaning in COMMANDS.items())}
options:
  -h, --help   print help, also after a command
  --version    print the version

{_EXAMPLES["start"]}  prefect-agent tick ecs --label dev --dry-run

{_EXIT_CODES}"""


@dataclass(frozen=True)
class CommandLine:
    """What somebody typed. Without a command it asks for `text` to be printed; `flags` are values by setting."""

    command: str = ""
    platform: str = ""
    flags: dict[str, Any] = field(default_factory=dict, repr=False)
    dry_run: bool = False
    text: str = ""


def read_command_line(arguments: Sequence[str]) -> CommandLine:
    """The meaning of `arguments`, those after the program's name; SettingsError for what cannot be understood."""
    if arguments and arguments[0] == "--version":
        return CommandLine(text=f"prefect-agent {_version()}\n")
    command = arguments[0] if arguments else ""
    if any(word in arguments for word in _HELP_WORDS) or not arguments:
        return CommandLine(text=_parser(command, PLATFORMS[0]).format_help() if command in COMMANDS else OVERVIEW)
    if command not in COMMANDS:
        raise SettingsError([f'"{command}" is not a command; write prefect-agent start ecs, or -h for help'])
    platform = _platform(command, arguments[1:2])
    flags = _parse(_parser(command, platform), arguments[2:])
    dry_run = flags.pop("dry_run", False)
    return CommandLine(command, platform, flags, dry_run)


def _parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    found, rest = parser.parse_known_args(arguments)
    if rest:
        # What follows a misspelt --key is a key: only the option's name is repeated.
        options = [word.partition("=")[0] for word in rest if word.startswith("--")]
        parser.error(_unknown(options[0]) if options else "there is a word that belongs to no option")
    return {name: value for name, value in vars(found).items() if value is not None}


def _unknown(option: str) -> str:
    known = [flag for setting in SETTINGS for flag in setting.flags] + ["--dry-run"]
    return f"{option} is not an option; {did_you_mean(option, known, 'see the help')}"


def _platform(command: str, words: Sequence[str]) -> str:
    if words and words[0] in PLATFORMS:
        return words[0]
    asked = f'"{words[0]}" is not available' if words and not words[0].startswith("-") else "no platform is given"
    raise SettingsError([f"{asked}; this version launches on ecs only: write prefect-agent {command} ecs"])


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is a SettingsError, so that all bad input is told alike."""

    def error(self, message: str) -> NoReturn:
        raise SettingsError([f"{message} ({self.prog} -h lists the options)"])


def _parser(command: str, platform: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"prefect-agent {command} {platform}",
        description=f"{COMMANDS[command][0].upper()}{COMMANDS[command][1:]}.\n\n{_NAMES_OF_VARIABLES}",
        epilog=f"{_EXAMPLES[command]}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=f"prefect-agent {command} {platform} [OPTIONS]",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(*_HELP_WORDS, action="help", help="print this help")
    for setting in SETTINGS:
        if setting.flags and setting.is_for(platform):
            _add_option(parser, setting)
    if command == "tick":
        meaning = "show the whole launch requests of what is due, secrets redacted; claim and launch nothing"
        parser.add_argument("--dry-run", action="store_true", help=meaning)
    return parser


def _add_option(parser: argparse.ArgumentParser, setting: Setting) -> None:
    """Values stay as typed: the settings' own parsers judge them, all at once."""
    how: dict[str, Any] = {"dest": setting.field, "default": None, "help": f"{setting.help} [{setting.env}]"}
    if setting.flag_value is not None:
        how |= {"action": "store_const", "const": setting.flag_value}
    else:
        how |= {"action": "append" if setting.repeatable else "store", "metavar": setting.metavar}
    parser.add_argument(*setting.flags, **how)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("prefect-agent-lambda")
    except PackageNotFoundError:
        return "(not installed)"
