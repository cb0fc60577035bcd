"""The zip that ships, as Lambda runs it: two functions of a stage, under AWS's own runtime client."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.agents import PATIENCE_SECONDS, Done, Meter, check_patience
from bench.container import stage_environment
from bench.lambda_process import event_for
from bench.queues import wakeup_queue
from bench.results import REAL_ZIP
from bench.surroundings import PROJECT, EcsSurroundings, TookTooLong
from deploy.package import MACHINES, build_package, copy_app
from tests.deploy.lambda_runtime import Container, runtime_directory, unpack

BUILT_IN = PROJECT / "build" / ".bench"
"""Beside the stages'; zips that were built before are kept there, whoever built them."""


@dataclass(frozen=True)
class ZippedAgent:
    """An agent of the bench: `directory` has the unpacked zip and the runtime, `stage` what its stacks give."""

    directory: Path
    stage: Mapping[str, str]
    name: str = REAL_ZIP

    def start(self, place: EcsSurroundings, meter: Meter, **more: str) -> None:
        """One woken tick in a new container, whose start is that of the containers that serve."""
        self.serve(place, meter, lambda: meter.processes > 0, **more)

    def serve(self, place: EcsSurroundings, meter: Meter, is_done: Done, **more: str) -> None:
        """Woken ticks in one new container, as many as it takes, each right after the other. Raises TookTooLong."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.container(place, "wake", more) as container:
            while not is_done():
                check_patience(deadline)
                wake(container)
                meter.look(container.process_id)

    def container(self, place: EcsSurroundings, function: str, more: Mapping[str, str]) -> Container:
        """A new container of one of the functions, `tick` or `wake`."""
        environment = {**stage_environment(place), **self.stage, **more}
        task, runtime = self.directory / "task", self.directory / "runtime"
        return Container(task, runtime, f"app.{function}", environment, self.directory / f"{function}.log")


def wake(container: Container) -> None:
    """Let a container of `wake` tick. Raises TookTooLong when that does not end well."""
    ended = container.invoke(event_for("wake"))
    if ended.kind != "response":
        raise TookTooLong(f"The function wake of the zip: {ended.kind} {ended.payload}")


@contextmanager
def zipped_agent() -> Iterator[ZippedAgent]:
    """The zip of the project as it stands, for this machine, unpacked, with a queue for its wake-ups.

    Raises DeployError when a pinned wheel cannot be had.
    """
    copy_app(PROJECT, BUILT_IN)
    architecture = next(name for name, machine in MACHINES.items() if machine == platform.machine())
    package = build_package(BUILT_IN, architecture, with_kubernetes=False)
    with tempfile.TemporaryDirectory() as path, wakeup_queue() as queue:
        directory = Path(path)
        unpack(package, directory / "task")
        (directory / "runtime").mkdir()
        runtime_directory(directory / "runtime")
        yield ZippedAgent(directory, queue)
