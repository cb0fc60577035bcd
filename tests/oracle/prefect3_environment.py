"""Asks programs that run where the real Prefect 3 and its official workers are installed."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "in_prefect3_environment"
PATIENCE_SECONDS = 110


def python_with_prefect3() -> str:
    return os.environ.get("PREFECT3_PYTHON") or str(ROOT / ".venv-prefect3" / "bin" / "python")


def run_with_prefect3(program: str, text: str = "", variables: Mapping[str, str] | None = None) -> str:
    """What a program of `in_prefect3_environment` prints for `text`, in a process that sees nobody's configuration."""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [python_with_prefect3(), str(PROGRAMS / program)],
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            cwd=home,
            env={
                "HOME": home,
                "PATH": os.environ["PATH"],
                "PREFECT_HOME": home,
                "PREFECT_API_URL": "http://127.0.0.1:9/api",
                "DO_NOT_TRACK": "1",
                "AWS_ACCESS_KEY_ID": "nobody",
                "AWS_SECRET_ACCESS_KEY": "nothing",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                **(variables or {}),
            },
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@functools.cache
def _default_templates() -> str:
    return run_with_prefect3("default_templates.py")


def default_base_job_template(pool_type: str) -> dict[str, Any]:
    """The base job template that a new pool of this type gets: `ecs`, `kubernetes` or `process`; a fresh copy.

    Read from the official packages once a process.
    """
    template: dict[str, Any] = json.loads(_default_templates())[pool_type]
    return template
