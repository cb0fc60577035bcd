"""A Lambda container as its caller holds it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from bench.surroundings import CLUSTER, LABEL, PATIENCE_SECONDS, PROJECT, Surroundings, TookTooLong, end


class LambdaContainer:
    """A process that runs the handlers of `app.py` on demand; see `bench.lambda_process`. A context manager.

    `more` is added to what a stage's functions find in their environment.
    """

    def __init__(self, place: Surroundings, **more: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.lambda_process"],
            cwd=PROJECT,
            env=stage_environment(place) | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._watchdog = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        self._watchdog.start()

    def __enter__(self) -> LambdaContainer:
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.cancel()
        with self._process:
            end(self._process)

    def invoke(self, handler: str) -> dict[str, Any]:
        """What the handler returned, with `peak_mb` and `has_aws_clients`. Raises TookTooLong when the process died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise TookTooLong("The container has no pipes")
        stdin.write(handler + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise TookTooLong(f"The container ended in {handler}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def stage_environment(place: Surroundings) -> dict[str, str]:
    """What a stage's functions find in their environment, the queues apart."""
    return place.environment | {
        "PREFECT__CLOUD__AGENT__NAME": "lambda",
        "PREFECT__CLOUD__AGENT__LABELS": f'["{LABEL}"]',
        "AGENT_CLUSTER": CLUSTER,
        "AGENT_SUBNETS": "subnet-0a1b2c3d",
        "AGENT_SECURITY_GROUPS": "sg-0a1b2c3d",
        "AGENT_EXECUTION_ROLE_ARN": "arn:aws:iam::123456789012:role/execution",
        "AGENT_TASK_ROLE_ARN": "arn:aws:iam::123456789012:role/task",
    }
