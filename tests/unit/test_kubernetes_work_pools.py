"""The Kubernetes launcher for work pools of Prefect 3, against the double of the API over HTTPS."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chalicelib.builders.kubernetes_job import job_name
from chalicelib.builders.work_pool_container import WorkPoolContainer
from chalicelib.builders.work_pool_job import WorkPoolJobDefaults
from chalicelib.errors import LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown, UnsupportedRun
from chalicelib.flow_runs import Flow, FlowRun, WorkPoolJob
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from chalicelib.launchers.kubernetes_jobs import jobs_path
from chalicelib.launchers.kubernetes_kinds import work_pool_jobs
from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS
from chalicelib.launchers.pacing import Pace
from chalicelib.sightings import Sighting
from tests.doubles.clock import TurnedClock
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.oracle.work_pool_job_cases import Json, changed

OWN, POOLS, OTHER = "flows", "elsewhere", "other"


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[KubernetesServer]:
    with KubernetesServer(clock=clock, namespaces=(OWN, POOLS, OTHER)) as server:
        yield server


@pytest.fixture
def api(server: KubernetesServer, tmp_path: Path) -> Iterator[KubernetesApi]:
    write_kubeconfig(server, tmp_path / "config")
    api = KubernetesApi(KubeconfigSignIn(str(tmp_path / "config")))
    yield api
    api.close()


@pytest.fixture
def launcher(api: KubernetesApi, clock: TurnedClock) -> KubernetesLauncher:
    return launcher_of(api, clock)


def launcher_of(api: KubernetesApi, clock: TurnedClock, *allowed: str) -> KubernetesLauncher:
    """One of a process that has launched nothing yet."""
    container = WorkPoolContainer("http://prefect/api", agent_name="nightly")
    defaults = WorkPoolJobDefaults(container, OWN, frozenset(allowed), ttl_seconds_after_finished=3600)
    return KubernetesLauncher(api, work_pool_jobs(defaults), Pace(20, clock), clock)


def run_of(
    number: int = 1, namespace: str = OWN, job_variables: Json | None = None, template: Json | None = None
) -> FlowRun:
    """A run of the pool whose own namespace is this one; `template` are parts of its template."""
    run_id = f"00000000-0000-4000-8000-{number:012}"
    base = changed(defaults={"namespace": namespace}, **(template or {}))
    pool = {"id": "p", "name": namespace, "type": "kubernetes", "base_job_template": base}
    job = WorkPoolJob(pool, {"id": run_id, "name": "r", "job_variables": job_variables or {}})
    return FlowRun(run_id, "r", 1, datetime(2026, 1, 1, tzinfo=UTC), Flow("f", "flow"), job=job)


def key_of(number: int = 1) -> str:
    return f"10000000-0000-4000-9000-{number:012}"


def launch(launcher: KubernetesLauncher, number: int = 1, namespace: str = OWN, **parts: Json) -> str:
    return launcher.launch(launcher.build(run_of(number, namespace, **parts)), key_of(number))


def foreign_job(api: KubernetesApi, number: int = 1, namespace: str = OWN, name: str = "r-abcde") -> str:
    """A Job as an official worker makes it; what it is called."""
    labels = {"prefect.io/flow-run-id": run_of(number).id}
    pod: Json = {"restartPolicy": "Never", "containers": [{"name": "prefect-job", "image": "i"}]}
    spec = {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": labels}, "spec": spec}
    api.ask("POST", jobs_path(namespace), "Creating", json=job)
    return f"Job {namespace}:{name}"


def pod_of(server: KubernetesServer, text: str) -> str:
    name: str = server.pods(text.rpartition(":")[2])[-1]["metadata"]["name"]
    return name


def look(launcher: KubernetesLauncher, text: str) -> Sighting:
    (sighting,) = launcher.look_at([text])
    return sighting


# launched


def test_runs_go_to_the_namespaces_of_their_pools_and_are_called_after_them(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    texts = [launch(launcher, 1), launch(launcher, 2, POOLS)]
    assert texts == [f"Job {OWN}:{job_name(key_of(1))}", f"Job {POOLS}:{job_name(key_of(2))}"]
    assert [job["metadata"]["namespace"] for job in server.jobs()] == [OWN, POOLS]


@pytest.mark.parametrize("namespace", [OWN, POOLS])
def test_the_job_of_a_key_is_found_again_in_its_namespace(
    server: KubernetesServer, launcher: KubernetesLauncher, namespace: str
) -> None:
    assert launch(launcher, 1, namespace) == launch(launcher, 1, namespace)
    assert len(server.jobs()) == 1


def test_a_create_that_is_carried_out_and_cut_is_one_job(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    server.faults.add(when="create jobs", then="cut_after")
    assert launch(launcher, 1, POOLS) == f"Job {POOLS}:{job_name(key_of())}"
    assert len(server.jobs()) == 1


def test_a_job_of_the_key_that_has_failed_meanwhile_is_told_with_its_reason(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    server.finish_pod(pod_of(server, launch(launcher)), exit_code=137, reason="OOMKilled")
    with pytest.raises(LaunchRejected, match=r"OOMKilled.*memory_limit"):
        launch(launcher)


def test_the_fields_that_no_job_has_are_dropped_as_for_prefects_own_worker(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    launch(launcher, template={"spec": {"backofLimit": 1}})
    (job,) = server.jobs()
    assert "backofLimit" not in job["spec"]
    assert "parallelism" not in job["spec"]["template"]["spec"]


def test_a_namespace_of_somebody_elses_is_refused_before_anything_is_asked(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    with pytest.raises(UnsupportedRun, match="AGENT_NAMESPACES"):
        launcher.build(run_of(job_variables={"namespace": OTHER}))
    assert server.calls == []


def test_the_namespace_of_a_pool_is_the_pools_trouble_and_the_agents_own_is_the_agents(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    with pytest.raises(LaunchRejected, match='"gone" not found') as caught:
        launch(launcher, 1, "gone")
    assert not isinstance(caught.value, LaunchForbidden)
    server.forbid("create", "jobs", POOLS)
    with pytest.raises(LaunchRejected, match="agent's Role") as caught:
        launch(launcher, 1, POOLS)
    assert not isinstance(caught.value, LaunchForbidden)
    server.terminate_namespace(OWN)
    with pytest.raises(LaunchForbidden):
        launch(launcher)


def test_what_a_template_has_wrong_is_never_the_agents_fault(launcher: KubernetesLauncher) -> None:
    with pytest.raises(LaunchRejected, match="backoffLimit") as caught:
        launch(launcher, job_variables={"backoff_limit": -1})
    assert not isinstance(caught.value, LaunchForbidden)


# looked at


def test_jobs_are_looked_at_by_namespace_and_told_by_the_texts_that_were_asked_for(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    texts = [launch(launcher, number, namespace) for number, namespace in ((1, OWN), (2, POOLS), (3, POOLS))]
    server.forget_calls()
    seen = launcher.look_at([*texts, f"Job {POOLS}:gone", f"Job {OTHER}:gone"])
    assert [sighting.text for sighting in seen] == texts
    assert [sighting.key for sighting in seen] == [key_of(number) for number in (1, 2, 3)]
    assert (server.count("list jobs"), server.count("list pods")) == (3, 2)


def test_jobs_of_one_name_in_two_namespaces_are_two(
    server: KubernetesServer, launcher: KubernetesLauncher, api: KubernetesApi
) -> None:
    texts = [foreign_job(api, 1, OWN), foreign_job(api, 2, POOLS)]
    assert [sighting.run_id for sighting in launcher.look_at(texts[1:])] == [run_of(2).id]
    assert [sighting.run_id for sighting in launcher.look_at(texts)] == [run_of(1).id, run_of(2).id]


@pytest.mark.parametrize("text", ["Job r", "Job :r", "Job a/../b:r", f"Job {OWN}:../x", f"Job {OWN}:", "Job", ""])
def test_what_can_be_no_jobs_name_is_not_asked_for(
    server: KubernetesServer, launcher: KubernetesLauncher, text: str
) -> None:
    assert launcher.look_at([text]) == []
    launcher.stop(Sighting("run", "key", text), "cancelled")
    assert server.calls == []


def test_a_namespace_that_cannot_be_asked_is_the_trouble_of_its_own_jobs(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    here, there = launch(launcher, 1), launch(launcher, 2, POOLS)
    server.forbid("list", "jobs", POOLS)
    seen = {sighting.text: sighting for sighting in launcher.look_at([here, there])}
    assert (seen[here].trouble, seen[here].run_id) == ("", run_of(1).id)
    assert "cannot list resource" in seen[there].trouble
    with pytest.raises(LaunchError, match="cannot list resource"):
        launcher.look_at([there])


def test_a_pod_that_cannot_start_ends_its_job_in_its_namespace(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher, 1, POOLS)
    server.wait_for_image(pod_of(server, text), message="manifest unknown")
    clock.turn(START_GRACE_SECONDS + 1)
    stop = look(launcher, text).stop
    assert stop is not None
    assert "manifest unknown" in stop.reason
    clock.turn(2)
    assert server.pods() == []


# found


def test_what_lives_of_a_run_is_found_in_the_namespaces_that_were_built_for(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    text = launch(launcher, 1, POOLS)
    server.start_pod(pod_of(server, text))
    assert launcher.find_alive(run_of().id) == Sighting(run_of().id, key_of(), text, is_running=True)
    assert launcher.find_alive(run_of(2).id) is None


def test_a_new_process_finds_it_once_it_has_built_for_looked_at_or_been_told_of_the_namespace(
    server: KubernetesServer, launcher: KubernetesLauncher, api: KubernetesApi, clock: TurnedClock
) -> None:
    text = launch(launcher, 1, POOLS)
    built, looking, told = launcher_of(api, clock), launcher_of(api, clock), launcher_of(api, clock, POOLS)
    assert built.find_alive(run_of().id) is None
    built.build(run_of(2, POOLS))
    looking.look_at([text])
    for each in (built, looking, told):
        alive = each.find_alive(run_of().id)
        assert alive is not None
        assert alive.text == text
        assert [sighting.text for sighting in each.list_alive()] == [text]


def test_where_the_agent_has_no_role_there_is_nothing_of_it(
    server: KubernetesServer, api: KubernetesApi, clock: TurnedClock
) -> None:
    launcher = launcher_of(api, clock, OTHER)
    server.forbid("list", "jobs", OTHER)
    text = launch(launcher)
    assert launcher.find_alive(run_of(2).id) is None
    assert [sighting.text for sighting in launcher.list_alive()] == [text]
    server.forbid("list", "jobs", OWN)
    with pytest.raises(LaunchUnknown):
        launcher.find_alive(run_of(2).id)


def test_whether_something_lives_is_unknown_while_a_namespace_does_not_answer(
    server: KubernetesServer, api: KubernetesApi, clock: TurnedClock
) -> None:
    launcher = launcher_of(api, clock, OTHER)
    server.faults.add(when="list jobs", then="status", status=503)
    with pytest.raises(LaunchUnknown):
        launcher.find_alive(run_of().id)


# stopped


def test_a_job_is_stopped_in_its_namespace(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher, 1, POOLS)
    server.start_pod(pod_of(server, text))
    launcher.stop(look(launcher, text), "The flow run was cancelled")
    clock.turn(2)
    stop = look(launcher, text).stop
    assert stop is not None
    assert stop.reason == f"{text} was ended by the agent: The flow run was cancelled"
    assert launcher.list_alive() == []


# an official worker's


def test_a_job_of_an_official_worker_is_seen_without_a_key(
    server: KubernetesServer, launcher: KubernetesLauncher, api: KubernetesApi
) -> None:
    text = foreign_job(api)
    server.start_pod(pod_of(server, text))
    expected = Sighting(run_of().id, None, text, is_running=True)
    assert look(launcher, text) == launcher.find_alive(run_of().id) == expected
    assert launcher.list_alive() == []


def test_a_job_of_an_official_worker_is_never_ended(
    server: KubernetesServer, launcher: KubernetesLauncher, api: KubernetesApi, clock: TurnedClock
) -> None:
    text = foreign_job(api)
    server.wait_for_image(pod_of(server, text), message="manifest unknown")
    clock.turn(START_GRACE_SECONDS + 1)
    sighting = look(launcher, text)
    assert sighting.stop is None
    launcher.stop(sighting, "The flow run was cancelled")
    assert server.count("patch jobs") == server.count("delete jobs") == 0


def test_jobs_of_prefect_1_in_the_namespace_are_no_concern_of_it(
    server: KubernetesServer, launcher: KubernetesLauncher, api: KubernetesApi
) -> None:
    text = foreign_job(api)
    job = server.job("r-abcde")
    labels = {"prefect.io/flow-run-id": None, "prefect.io/flow_run_id": run_of().id}
    patch = {"metadata": {"labels": labels}}
    kind = {"content-type": "application/merge-patch+json"}
    api.ask("PATCH", f"{jobs_path(OWN)}/{job['metadata']['name']}", "Patching", json=patch, headers=kind)
    assert launcher.look_at([text]) == []
    assert launcher.find_alive(run_of().id) is None
