"""Creates that the API server carries out, and nobody hears of: the Job's name makes another try harmless."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.kubernetes import Call
from tests.integration.cluster import Cluster

RUNS, CUT_EVERY, ROUNDS = 100, 10, 5


class FirstTries:
    """Chooses the first create of each name."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def __call__(self, call: Call) -> bool:
        name = call.body["metadata"]["name"] if call.what == "create jobs" else ""
        is_first = bool(name) and name not in self._names
        self._names.add(name)
        return is_first


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.close()


def serve(cluster: Cluster) -> None:
    """Tick, some minutes apart, so that recovery has its say too."""
    cluster.add_due_runs(RUNS)
    for _ in range(ROUNDS):
        cluster.tick()
        cluster.clock.turn(120)


def test_every_tenth_create_carried_out_and_cut_makes_no_job_twice_and_loses_none(cluster: Cluster) -> None:
    cluster.kubernetes.faults.add("create jobs", "cut_after", times=None, every=CUT_EVERY)
    serve(cluster)
    assert cluster.kubernetes.count("create jobs") > RUNS
    assert cluster.jobs_by_run() == dict.fromkeys(cluster.run_ids, 1)
    assert cluster.states() == {"Submitted": RUNS}


def test_creates_that_are_always_carried_out_and_cut_are_found_by_their_names(cluster: Cluster) -> None:
    cluster.kubernetes.faults.add(FirstTries(), "cut_after", times=None)
    serve(cluster)
    assert cluster.kubernetes.count("create jobs") == 2 * RUNS
    assert cluster.jobs_by_run() == dict.fromkeys(cluster.run_ids, 1)
    assert cluster.states() == {"Submitted": RUNS}
