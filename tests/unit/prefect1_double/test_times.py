from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.doubles.prefect1 import Prefect1Server

ROUND_TRIP_SECONDS, FIELD_SECONDS = 3.0, 5.0
LOG = 'write_run_logs(input: {logs: [{flow_run_id: "%s", message: "a"}]}) { success }'


def _post(server: Prefect1Server, query: str) -> None:
    answer = requests.post(server.url, json={"query": query}, timeout=30)
    assert "errors" not in answer.json()


def _mutation(run_id: str, root_fields: int) -> str:
    return "mutation { " + " ".join(f"field{number}: {LOG % run_id}" for number in range(root_fields)) + " }"


@pytest.mark.parametrize("root_fields", [1, 2, 25])
def test_the_root_fields_of_a_mutation_take_their_time_one_after_the_other(root_fields: int) -> None:
    slept: list[float] = []
    with Prefect1Server(
        round_trip_seconds=ROUND_TRIP_SECONDS, field_seconds=FIELD_SECONDS, sleep=slept.append
    ) as server:
        _post(server, _mutation(server.add_flow_run(), root_fields))
    assert slept == [ROUND_TRIP_SECONDS, *[FIELD_SECONDS] * root_fields]


def test_the_root_fields_of_a_query_take_the_time_of_one() -> None:
    slept: list[float] = []
    with Prefect1Server(
        round_trip_seconds=ROUND_TRIP_SECONDS, field_seconds=FIELD_SECONDS, sleep=slept.append
    ) as server:
        _post(server, "{ hello agents: agent { id } runs: flow_run { id } }")
    assert slept == [ROUND_TRIP_SECONDS, FIELD_SECONDS]


def test_requests_at_the_same_time_do_not_wait_for_each_other() -> None:
    """Each sleep ends when all three have begun, and fails when one of them cannot begin."""
    together = threading.Barrier(3, timeout=20)

    def sleep(seconds: float) -> None:
        if seconds == FIELD_SECONDS:
            together.wait()

    with Prefect1Server(field_seconds=FIELD_SECONDS, sleep=sleep) as server, ThreadPoolExecutor(3) as pool:
        runs = [server.add_flow_run() for _ in range(2)]
        queries = [*(_mutation(run_id, root_fields=1) for run_id in runs), "{ hello }"]
        asked = [pool.submit(_post, server, query) for query in queries]
        for each in asked:
            each.result()
        assert server.runs_with_logs() == set(runs)
    assert not together.broken
