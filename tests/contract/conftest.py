"""The oracle: the real prefect 1.4.1, asked in a Python of its own because its dependencies exclude ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.prefect1 import Prefect1Server

PROJECT = Path(__file__).parents[2]
SCRIPTS = PROJECT / "tests" / "oracle" / "in_prefect1_environment"


class Prefect1:
    """Runs programs in prefect 1.4.1's environment against one server, with a home of their own."""

    def __init__(self, python: Path, url: str, home: Path) -> None:
        self.python = python
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PREFECT__HOME_DIR": str(home / ".prefect"),
            "PREFECT__BACKEND": "server",
            "PREFECT__CLOUD__API": url,
            "PREFECT__SERVER__TELEMETRY__ENABLED": "false",
        }

    def run(self, *command: str, text: str = "", **more: str) -> str:
        """What the command printed; `more` is added to its environment."""
        finished = subprocess.run(
            [str(self.python), *command],
            input=text,
            env={**self.environment, **more},
            # Prefect writes results below its working directory.
            cwd=self.environment["HOME"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished.stdout

    def script(self, name: str, *arguments: str, data: Any = None, **more: str) -> str:
        """What one of the project's scripts for this environment printed, given `data` as JSON."""
        return self.run(str(SCRIPTS / f"{name}.py"), *arguments, text=json.dumps(data), **more)

    def client(self, *calls: tuple[str, Mapping[str, Any]]) -> list[Any]:
        """What the real client returned for each call; see `use_client.py`. Errors are texts that start with a type."""
        answers = json.loads(self.script("use_client", data=calls))
        return [answer.get("result", answer.get("error")) for answer in answers]


@pytest.fixture
def server() -> Iterator[Prefect1Server]:
    with Prefect1Server() as running:
        yield running


@pytest.fixture
def prefect1(server: Prefect1Server, tmp_path: Path) -> Prefect1:
    asked_for = os.environ.get("PREFECT1_PYTHON")
    python = Path(asked_for or PROJECT / ".venv-prefect1" / "bin" / "python")
    if not python.exists() and not asked_for:
        pytest.skip(f"no prefect 1.4.1 environment at {python}; PREFECT1_PYTHON names another one")
    return Prefect1(python, server.url, tmp_path)
