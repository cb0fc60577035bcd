"""What a look at 500 live Jobs costs in requests, of which somebody pays for each: the API server, and Prefect's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.sweep import SILENCE_SECONDS
from tests.integration.cluster import Cluster

LIVE_JOBS = 500
TO_KUBERNETES, TO_PREFECT = 8, 2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster with so many Jobs whose pods have not begun, a few minutes old; nothing is counted yet."""
    cluster = Cluster(tmp_path)
    try:
        cluster.launch(LIVE_JOBS)
        cluster.clock.turn(SILENCE_SECONDS - 60)
        cluster.forget()
        yield cluster
    finally:
        cluster.close()


def test_a_sweep_over_500_jobs_that_run_is_a_handful_of_requests(cluster: Cluster) -> None:
    cluster.begin()
    report = cluster.tick()
    assert (report.errors, report.stops) == ([], {})
    assert cluster.kubernetes.count("list jobs") >= 1
    assert len(cluster.kubernetes.calls) <= TO_KUBERNETES
    assert 1 <= cluster.sweep_requests() <= TO_PREFECT
    assert cluster.states() == {"Running": LIVE_JOBS}


def test_a_sweep_over_500_jobs_on_their_way_is_a_handful_of_requests(cluster: Cluster) -> None:
    report = cluster.tick()
    assert (report.errors, report.stops, report.recovered) == ([], {}, 0)
    assert cluster.kubernetes.count("list jobs") >= 1
    assert len(cluster.kubernetes.calls) <= TO_KUBERNETES
    assert 1 <= cluster.sweep_requests() <= TO_PREFECT
    assert cluster.states() == {"Submitted": LIVE_JOBS}


def test_prefect_hears_of_500_jobs_that_wait_for_long_in_one_request_more(cluster: Cluster) -> None:
    cluster.clock.turn(61)
    since = cluster.clock.now()
    assert cluster.tick().errors == []
    assert len(cluster.kubernetes.calls) <= TO_KUBERNETES
    assert 1 <= cluster.sweep_requests() <= TO_PREFECT + 1
    assert all(cluster.prefect.flow_run(run_id)["heartbeat"] >= since for run_id in cluster.run_ids)


def test_pods_that_fail_among_500_jobs_cost_no_list_of_everything_each(cluster: Cluster) -> None:
    cluster.begin()
    failed = [pod["metadata"]["name"] for pod in cluster.kubernetes.pods()[:3]]
    for name in failed:
        cluster.kubernetes.finish_pod(name, exit_code=137, reason="OOMKilled")
    report = cluster.tick()
    assert (report.errors, report.as_dict()["stopped"]) == ([], {"failed": len(failed)})
    # What else of their runs may live is looked up by their ids.
    whole = [call for call in cluster.kubernetes.calls if "=" not in call.query["labelSelector"]]
    assert len(whole) <= TO_KUBERNETES
    assert len(cluster.kubernetes.calls) <= TO_KUBERNETES + 2 * len(failed)
    assert cluster.sweep_requests() <= TO_PREFECT + 2
