"""What is measured against: Prefect's double in this process, the platform's and the measured programs in their own.

Whoever measures looks seldom while something is measured, as this process answers for Prefect meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.hosted import Hosted
from tests.doubles.ecs import EcsServer
from tests.doubles.prefect1 import Clock, Prefect1Server

PROJECT = Path(__file__).parents[1]
PREFECT1 = Path(os.environ.get("PREFECT1_PYTHON") or PROJECT / ".venv-prefect1" / "bin" / "python")
CLUSTER, LABEL = "flows", "bench"
SUBNET = "subnet-0a1b2c3d"
NETWORK = {"networkConfiguration": {"awsvpcConfiguration": {"subnets": [SUBNET]}}}
PATIENCE_SECONDS = 90.0
"""How long anything here may take before the bench gives up."""


class TookTooLong(Exception):
    """What was measured did not come to its end in time."""


class Surroundings:
    """One Prefect API, a directory that is everybody's home, and the ways to run a program there."""

    platform: str
    """What agents are started for."""

    def __init__(self, prefect: Prefect1Server, directory: Path) -> None:
        self.prefect = prefect
        self.run_ids: list[str] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "PREFECT__BACKEND": "server",
            "PREFECT__CLOUD__API": prefect.url,
            "PREFECT__SERVER__TELEMETRY__ENABLED": "false",
        }

    @property
    def ours(self) -> list[str]:
        """The command that an operator types, as far as the options that both agents have."""
        return [str(Path(sys.executable).with_name("prefect-agent")), "start", self.platform, *self.our_options()]

    @property
    def our_tick(self) -> list[str]:
        """One tick in a process of its own."""
        return [str(Path(sys.executable).with_name("prefect-agent")), "tick", self.platform, *self.our_options()]

    @property
    def prefects(self) -> list[str]:
        """The same with the real agent."""
        return [str(PREFECT1.with_name("prefect")), "agent", self.platform, "start", *self.options()]

    def options(self) -> list[str]:
        """The options of the real agent."""
        return self.our_options()

    def our_options(self) -> list[str]:
        """The options of ours."""
        return ["--label", LABEL]

    def run_config(self, image: str) -> dict[str, Any]:
        """A run config that both agents understand."""
        raise NotImplementedError

    @contextmanager
    def running(self, command: Sequence[str], **more: str) -> Iterator[subprocess.Popen[bytes]]:
        """The command in a process that has ended afterwards, with `more` in its environment."""
        process = subprocess.Popen(
            command,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with process:
            try:
                yield process
            finally:
                end(process)

    def run(self, command: Sequence[str], **more: str) -> None:
        """The command, until it ends. Raises what `subprocess` raises when it fails or takes too long."""
        subprocess.run(
            command,
            env=self.environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )

    def requests(self) -> list[str]:
        """The last root field of each request to Prefect, in order."""
        return [request.field_names[-1] for request in self.prefect.requests]

    def signs_of_launch(self) -> int:
        """How many log lines have reached Prefect: one for each run that was launched or refused."""
        return Counter(name for request in self.prefect.requests for name in request.field_names)["write_run_logs"]

    def runs_with_sign(self) -> int:
        """How many runs the log says were launched."""
        return len(self.prefect.runs_with_logs().intersection(self.run_ids))

    def add_due_runs(self, count: int, images: int) -> list[str]:
        """So many due flow runs, in turn of so many images."""
        flow_id = self.prefect.add_flow("bench", storage={"type": "Module", "__version__": "1.4.1", "module": "flows"})
        self.run_ids = [
            self.prefect.add_flow_run(flow_id, run_config=self.run_config(f"flows:{number % images}"), labels=[LABEL])
            for number in range(count)
        ]
        return self.run_ids

    def forget(self) -> None:
        """Begin all counts anew."""
        self.prefect.forget_requests()


class EcsSurroundings(Surroundings):
    """Surroundings with one ECS, in a process of its own.

    Each agent is told its network in the way that it has for that: ours by a setting, the real one by a file.
    """

    platform = "ecs"

    def __init__(self, prefect: Prefect1Server, ecs: Hosted[EcsServer], directory: Path) -> None:
        super().__init__(prefect, directory)
        self.ecs = ecs
        self.arguments_file = directory / "run_task.yaml"
        self.arguments_file.write_text(json.dumps(NETWORK))
        self.environment |= {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL_ECS": ecs.url,
            "AGENT_SUBNETS": SUBNET,
        }

    def options(self) -> list[str]:
        """Those of ours, and the file."""
        return [*self.our_options(), "--run-task-kwargs", str(self.arguments_file)]

    def our_options(self) -> list[str]:
        """Those of ECS too."""
        return [*super().our_options(), "--cluster", CLUSTER]

    def run_config(self, image: str) -> dict[str, Any]:
        """An ECSRun."""
        return ecs_run(image)

    def forget(self) -> None:
        """Begin all counts anew."""
        super().forget()
        self.ecs.ask(EcsServer.forget_calls)


def ecs_run(image: str) -> dict[str, Any]:
    """A run config that both agents understand."""
    return {"type": "ECSRun", "__version__": "1.4.1", "image": image, "cpu": "256", "memory": "512", "labels": []}


@contextmanager
def surroundings(
    round_trip_seconds: float = 0.0, clock: Clock | None = None, field_seconds: float | None = None
) -> Iterator[EcsSurroundings]:
    """Fresh ones, stopped afterwards; `clock` is Prefect's.

    With `field_seconds` that is what Prefect takes for each root field of a mutation, and for a query, in the place of
    a round-trip time for each request.
    """
    with ExitStack() as stack:
        per_request = round_trip_seconds if field_seconds is None else 0.0
        prefect = stack.enter_context(Prefect1Server(clock, per_request, field_seconds or 0.0))
        ecs = stack.enter_context(Hosted(EcsServer, clusters=(CLUSTER,), round_trip_seconds=round_trip_seconds))
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        yield EcsSurroundings(prefect, ecs, Path(directory))


def wait_until(
    is_so: Callable[[], bool],
    process: subprocess.Popen[bytes] | None = None,
    pause_seconds: float = 0.005,
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Return when it is so. Raises TookTooLong, also as soon as the process that should bring it about has ended."""
    deadline = time.monotonic() + patience_seconds
    while not is_so():
        if process is not None and process.poll() is not None and not is_so():
            raise TookTooLong(f"It ended with {process.returncode} before it was done")
        if time.monotonic() > deadline:
            raise TookTooLong(f"It was not done after {patience_seconds:.0f} s")
        time.sleep(pause_seconds)


def end(process: subprocess.Popen[Any]) -> None:
    """End this one process, gently at first."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
