"""From the start of a process to its first poll: ours and the real agents and worker, in turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench.cluster import cluster_surroundings
from bench.observed_server import POLL
from bench.pools import PoolSurroundings, pool_surroundings
from bench.results import ECS_AGENT, ECS_WORKER, KUBERNETES_AGENT, ONE_PROCESS, OURS, Figure, Measurement, at_most
from bench.surroundings import PATIENCE_SECONDS, PREFECT1, Surroundings, TookTooLong, surroundings
from tests.prefect3.server import PYTHON as PREFECT3

PAIRS, ROUND_TRIP_SECONDS = 5, 0.03
OF_THE_BEST_PEER = 0.25
ON_ECS, ON_KUBERNETES, ON_A_POOL = "Prefect 1 on ECS", "Prefect 1 on Kubernetes", "a work pool on ECS"

IMPORT_ALL = """
import contextlib, importlib, json, os, sys, time
for name in json.load(sys.stdin):
    with contextlib.suppress(Exception):
        importlib.import_module(name)
print(time.time(), flush=True)
os._exit(0)
"""

Seen = Sequence[tuple[str, datetime]]


@dataclass(frozen=True)
class Starter:
    """An agent that polls once and ends; `asked` are the requests that its API has seen, each with its moment."""

    agent: str
    serves: str
    python: Path
    command: Sequence[str]
    environment: Mapping[str, str]
    asked: Callable[[], Seen]
    poll: str

    def start(self) -> tuple[float, int]:
        """Seconds from the start of its process to its poll, and its requests before that.

        Nobody looks meanwhile: the API's own record has the moment.
        """
        before, begun = len(self.asked()), datetime.now(UTC)
        self.run(self.command)
        asked = self.asked()[before:]
        polls = [number for number, (name, _) in enumerate(asked) if self.poll in name]
        if not polls:
            raise TookTooLong(f"It ended without a poll: {' '.join(self.command)}")
        return (asked[polls[0]][1] - begun).total_seconds(), polls[0]

    def seconds_of_imports(self) -> float:
        """From the start of a process to the last import, when it only imports what this one does until its poll."""
        traced = self.run([str(self.python), "-X", "importtime", *self.command]).stderr.splitlines()
        names = [line.rpartition("|")[2].strip() for line in traced if line.startswith("import time:")][1:]
        begun = datetime.now(UTC).timestamp()
        return float(self.run([str(self.python), "-c", IMPORT_ALL], json.dumps(names)).stdout) - begun

    def run(self, command: Sequence[str], text: str = "") -> subprocess.CompletedProcess[str]:
        """A command with this environment, until it ends."""
        return subprocess.run(
            command,
            env=dict(self.environment),
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )


@contextmanager
def _starters() -> Iterator[list[Starter]]:
    with ExitStack() as stack:
        on_ecs = stack.enter_context(surroundings(ROUND_TRIP_SECONDS))
        on_kubernetes = stack.enter_context(cluster_surroundings(ROUND_TRIP_SECONDS))
        on_a_pool = stack.enter_context(pool_surroundings(ROUND_TRIP_SECONDS))
        on_a_pool.add_pool(0)
        yield [
            *_of_prefect1(on_ecs, ON_ECS, ECS_AGENT),
            *_of_prefect1(on_kubernetes, ON_KUBERNETES, KUBERNETES_AGENT),
            *_of_prefect3(on_a_pool),
        ]


def _of_prefect1(place: Surroundings, serves: str, peer: str) -> list[Starter]:
    def asked() -> Seen:
        # The double notes a request when its round trip has passed; it came that long before.
        way = timedelta(seconds=ROUND_TRIP_SECONDS)
        return [(" ".join(request.field_names), request.time - way) for request in place.prefect.requests]

    end = ("--max-polls", "1")
    ours, theirs = [*place.ours, *end], [*place.prefects, *end]
    return [
        Starter(ONE_PROCESS, serves, Path(sys.executable), ours, place.environment, asked, "get_runs_in_queue"),
        Starter(peer, serves, PREFECT1, theirs, place.environment, asked, "get_runs_in_queue"),
    ]


def _of_prefect3(place: PoolSurroundings) -> list[Starter]:
    def asked() -> Seen:
        return [(request.path, datetime.fromtimestamp(request.at, UTC)) for request in place.server.requests()]

    ours, theirs = [*place.ours, "--max-polls", "1"], [*place.workers, "--run-once"]
    return [
        Starter(ONE_PROCESS, ON_A_POOL, Path(sys.executable), ours, place.environment, asked, POLL),
        Starter(ECS_WORKER, ON_A_POOL, PREFECT3, theirs, place.environment, asked, POLL),
    ]


def measure() -> Iterator[Figure]:
    """In turn all of them, after a round that only warms the disk's cache and writes the bytecode."""
    with _starters() as starters:
        for starter in starters:
            starter.start()
        rounds = [[starter.start() for starter in starters] for _ in range(PAIRS)]
        yield from _figures(starters, rounds)
        yield Figure("", "an interpreter that does nothing", _seconds_of_interpreter(), "s")
        for starter in starters:
            seconds = median(starter.seconds_of_imports() for _ in range(PAIRS))
            yield Figure(starter.agent, f"{starter.serves}: its imports alone", round(seconds, 3), "s")


def _figures(starters: Sequence[Starter], rounds: Sequence[Sequence[tuple[float, int]]]) -> Iterator[Figure]:
    peers = [column for column, starter in enumerate(starters) if starter.agent not in OURS]
    best = [min(each[peer][0] for peer in peers) for each in rounds]
    for column, starter in enumerate(starters):
        seconds = [each[column][0] for each in rounds]
        yield Figure(starter.agent, f"{starter.serves}: start to first poll", round(median(seconds), 3), "s")
        yield Figure(starter.agent, f"{starter.serves}: requests before the poll", rounds[-1][column][1])
        if starter.agent in OURS:
            ratio = median(own / peers_best for own, peers_best in zip(seconds, best, strict=True))
            quantity = f"{starter.serves}: start, of the best peer's"
            yield at_most(starter.agent, quantity, round(ratio, 3), OF_THE_BEST_PEER)


def _seconds_of_interpreter() -> float:
    def seconds() -> float:
        begun = datetime.now(UTC)
        subprocess.run([sys.executable, "-c", "pass"], check=True, env={"PATH": os.environ["PATH"]})
        return (datetime.now(UTC) - begun).total_seconds()

    return round(median(seconds() for _ in range(PAIRS)), 3)


MEASUREMENT = Measurement(
    "Start of the process to its first poll",
    "Each program is started with nothing due, in turn, after a round that warms the disk's cache; medians of "
    f"{PAIRS}; {1000 * ROUND_TRIP_SECONDS:.0f} ms a request, to doubles of Prefect 1 and to a real Prefect 3 server. "
    "The moment of the poll is the one that the API recorded, as the request came.",
    measure,
    needs=("prefect1", "prefect3"),
)
