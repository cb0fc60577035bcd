"""The Kubernetes launcher, with the real client, against the double of the API over HTTPS."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults, built_in_job
from chalicelib.builders.kubernetes_job import FLOW_RUN_LABEL, job_name
from chalicelib.cli.install import TEMPLATE
from chalicelib.errors import (
    LaunchDeferred,
    LaunchError,
    LaunchForbidden,
    LaunchRejected,
    LaunchUnknown,
    SettingsError,
    UnsupportedRun,
)
from chalicelib.flow_runs import Document, Flow, FlowRun
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from chalicelib.launchers.kubernetes_kinds import run_config_jobs
from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from chalicelib.sightings import Sighting
from tests.doubles.clock import TurnedClock
from tests.doubles.kubernetes import KubernetesServer

DEFAULTS = KubernetesDefaults(
    container=ContainerSettings(api_url="http://prefect", api_key="key"),
    namespace="flows",
    ttl_seconds_after_finished=3600,
    agent_name="nightly",
)


class Shelf(TemplateReader):
    """Templates by path."""

    def __init__(self, **templates: Document) -> None:
        super().__init__((), lambda: None, local_allowed=False)
        self.templates = templates

    def read(self, path: str) -> Document:
        if path not in self.templates:
            raise UnsupportedRun(f"There is no template {path}")
        return self.templates[path]


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[KubernetesServer]:
    with KubernetesServer(clock=clock, namespaces=("default", "flows")) as server:
        yield server


@pytest.fixture
def api(server: KubernetesServer, tmp_path: Path) -> Iterator[KubernetesApi]:
    authority = base64.b64encode(server.ca_pem.encode()).decode()
    config = {
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": server.url, "certificate-authority-data": authority}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config))
    api = KubernetesApi(KubeconfigSignIn(str(tmp_path / "config")))
    yield api
    api.close()


@pytest.fixture
def launcher(api: KubernetesApi, clock: TurnedClock) -> KubernetesLauncher:
    return launcher_of(api, clock)


def launcher_of(
    api: KubernetesApi, clock: TurnedClock, defaults: KubernetesDefaults = DEFAULTS, rate: float = 20
) -> KubernetesLauncher:
    return KubernetesLauncher(api, run_config_jobs(defaults, Shelf(small=built_in_job())), Pace(rate, clock), clock)


def run_of(number: int = 1, **run_config: Any) -> FlowRun:
    return FlowRun(
        id=f"00000000-0000-4000-8000-{number:012}",
        name=f"run-{number}",
        version=3,
        start_time=datetime(2026, 1, 1, tzinfo=UTC),
        flow=Flow(id="f", name="flow", version=1, core_version="1.4.1"),
        run_config={"type": "KubernetesRun", **run_config},
    )


def key_of(number: int = 1, version: int = 3) -> str:
    return f"{run_of(number).id}-{version}"


def launch(launcher: KubernetesLauncher, number: int = 1, version: int = 3, **run_config: Any) -> str:
    request = launcher.build(run_of(number, **run_config))
    return launcher.launch(request, key_of(number, version))


def pod_of(server: KubernetesServer, text: str) -> str:
    name: str = server.pods(text.removeprefix("Job "))[-1]["metadata"]["name"]
    return name


def look(launcher: KubernetesLauncher, text: str) -> Sighting:
    (sighting,) = launcher.look_at([text])
    return sighting


# launched


def test_a_launch_is_a_job_named_by_its_key_as_the_builder_made_it(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    assert launch(launcher) == f"Job {job_name(key_of())}"
    (job,) = server.jobs("flows")
    (call,) = [call for call in server.calls if call.what == "create jobs"]
    assert job["metadata"]["name"] == job_name(key_of())
    assert job["metadata"]["labels"][FLOW_RUN_LABEL] == run_of().id
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    assert call.query["fieldValidation"] == "Strict"
    assert call.body["spec"] == launcher.build(run_of()).job["spec"] | {"template": call.body["spec"]["template"]}


def test_the_place_tells_namespaces_and_clusters_apart(
    server: KubernetesServer, api: KubernetesApi, clock: TurnedClock
) -> None:
    host = server.url.removeprefix("https://")
    places = [launcher_of(api, clock, replace(DEFAULTS, namespace=name)).place for name in ("flows", "default")]
    assert [str(place) for place in places] == [f"kubernetes:{host}/flows", f"kubernetes:{host}/default"]


def test_a_template_that_a_run_names_is_read(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    launch(launcher, job_template_path="small")
    with pytest.raises(UnsupportedRun, match="no template other"):
        launcher.build(run_of(job_template_path="other"))
    assert len(server.jobs()) == 1


def test_many_launches_at_once_are_as_many_jobs(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    with ThreadPoolExecutor(16) as threads:
        texts = list(threads.map(lambda number: launch(launcher, number), range(40)))
    assert {f"Job {job['metadata']['name']}" for job in server.jobs()} == set(texts)
    assert len(set(texts)) == 40


def test_a_tick_that_stood_still_makes_nothing(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    request = launcher.build(run_of())
    with pytest.raises(LaunchUnknown, match="stood still"):
        launcher.launch(request, key_of(), clock.now() - timedelta(seconds=1))
    assert server.count("create jobs") == 0


# already there


def test_the_job_of_a_key_is_found_again_while_it_lives(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    assert launch(launcher) == launch(launcher)
    assert len(server.jobs()) == 1


def test_a_job_that_has_ended_well_counts_as_launched(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    text = launch(launcher)
    server.finish_pod(pod_of(server, text))
    assert launch(launcher) == text


def test_a_job_that_has_failed_meanwhile_is_told_with_its_reason(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    text = launch(launcher, job_template=template(backoffLimit=0))
    server.finish_pod(pod_of(server, text), exit_code=137, reason="OOMKilled")
    with pytest.raises(LaunchRejected, match=r"exit code 137; OOMKilled .*memory_limit"):
        launch(launcher)


def test_a_job_that_never_ran_for_a_reason_that_passes_is_for_now(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher, job_template=template(backoffLimit=0))
    name = pod_of(server, text)
    server.wait_for_image(name, reason="ErrImagePull", message="toomanyrequests")
    clock.turn(START_GRACE_SECONDS + 1)
    assert look(launcher, text).stop
    clock.turn(2)
    with pytest.raises(LaunchDeferred, match="toomanyrequests"):
        launch(launcher)


def test_a_job_that_cannot_be_looked_at_is_unknown(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    launch(launcher)
    server.forbid("list", "jobs")
    with pytest.raises(LaunchUnknown, match="cannot list resource"):
        launch(launcher)


def test_a_job_that_is_gone_by_the_time_it_is_looked_at_is_unknown(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    body = {"kind": "Status", "reason": "AlreadyExists", "message": "already exists", "code": 409}
    server.faults.add(when="create jobs", then="status", status=409, body=json.dumps(body))
    with pytest.raises(LaunchUnknown, match="is not any more"):
        launch(launcher)


# refused, and no answer


def test_a_create_that_is_carried_out_and_cut_is_one_job(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    server.faults.add(when="create jobs", then="cut_after")
    assert launch(launcher) == f"Job {server.jobs()[0]['metadata']['name']}"
    assert (len(server.jobs()), server.count("create jobs")) == (1, 2)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_that_cannot_say_leaves_it_unknown(
    server: KubernetesServer, launcher: KubernetesLauncher, status: int
) -> None:
    server.faults.add(when="create jobs", then="status", status=status, times=2)
    with pytest.raises(LaunchUnknown):
        launch(launcher)
    assert server.count("create jobs") == 2
    launch(launcher)
    assert len(server.jobs()) == 1


def test_after_a_try_of_unknown_end_no_refusal_is_believed(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    server.faults.add(when="create jobs", then="cut_after")
    server.faults.add(when="create jobs", then="status", status=429, times=None)
    with pytest.raises(LaunchUnknown):
        launch(launcher)
    assert len(server.jobs()) == 1


def test_a_throttled_launch_is_tried_again_more_slowly_and_not_before_it_may(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    room = launcher.room(1)
    server.faults.add(when="create jobs", then="status", status=429, retry_after_seconds=1)
    launch(launcher)
    first, second = [call.at for call in server.calls if call.what == "create jobs"]
    assert second - first >= timedelta(seconds=1)
    assert launcher.room(1) < room / 2


def test_a_cluster_that_wants_to_be_left_alone_for_long_is_for_now(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    server.faults.add(when="create jobs", then="status", status=429, retry_after_seconds=60, times=None)
    with pytest.raises(LaunchDeferred, match="Too many requests"):
        launch(launcher)
    assert (server.count("create jobs"), clock.slept_seconds) == (1, 0.0)


def test_a_quota_that_is_used_up_is_for_now(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    server.set_quota("flows", jobs=1)
    launch(launcher)
    with pytest.raises(LaunchDeferred, match=r"exceeded quota.*quota is used up"):
        launch(launcher, 2)


def test_while_the_cluster_is_away_nothing_is_made_and_the_launch_is_for_now(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    request = launcher.build(run_of())
    server.close()
    with pytest.raises(LaunchDeferred, match="cannot be reached"):
        launcher.launch(request, key_of())


# the agent's own fault, and the run's


def test_a_namespace_that_is_not_there_is_the_agents_fault(
    server: KubernetesServer, api: KubernetesApi, clock: TurnedClock
) -> None:
    with pytest.raises(LaunchForbidden, match=r'namespaces "gone" not found .*AGENT_KUBERNETES_NAMESPACE'):
        launch(launcher_of(api, clock, replace(DEFAULTS, namespace="gone")))


def test_a_namespace_that_ends_is_the_agents_fault(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    server.terminate_namespace("flows")
    with pytest.raises(LaunchForbidden, match="being terminated"):
        launch(launcher)


def test_what_the_agents_role_lacks_is_the_agents_fault(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    server.forbid("create", "jobs")
    with pytest.raises(LaunchForbidden, match=r"cannot create resource .*agent's Role"):
        launch(launcher)


def test_a_token_that_is_refused_is_the_agents_fault(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    server.remove_token("secret-token")
    with pytest.raises(LaunchForbidden, match="401 Unauthorized"):
        launch(launcher)


def template(**spec: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "flow"}]}}, **spec}}


def test_a_field_that_no_job_has_is_for_good_and_named(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    with pytest.raises(LaunchRejected, match=r'unknown field "spec\.backofLimit"') as caught:
        launch(launcher, job_template=template(backofLimit=1))
    assert not isinstance(caught.value, LaunchForbidden)
    assert server.jobs() == []


@pytest.mark.parametrize("mistake", [{"backofLimit": 1}, {"backoffLimit": -1}])
def test_what_the_agents_own_template_has_wrong_is_the_agents_fault(
    server: KubernetesServer, api: KubernetesApi, clock: TurnedClock, mistake: dict[str, Any]
) -> None:
    launcher = launcher_of(api, clock, replace(DEFAULTS, job_template=template(**mistake)))
    with pytest.raises(LaunchForbidden, match="the agent's own job template"):
        launch(launcher)


def test_what_a_run_asks_for_is_its_own_fault_in_the_agents_template_too(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    with pytest.raises(LaunchRejected, match=r"containers\[0\]\.image") as caught:
        launch(launcher, image=" flows:1 ")
    assert not isinstance(caught.value, LaunchForbidden)


def test_without_a_way_to_the_cluster_nothing_is_built_so_nothing_is_claimed(
    clock: TurnedClock, tmp_path: Path
) -> None:
    launcher = launcher_of(KubernetesApi(KubeconfigSignIn(str(tmp_path / "none"))), clock)
    with pytest.raises(SettingsError):
        launcher.build(run_of())


# looked at


def test_what_lives_of_a_run_is_found_under_whatever_key(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    assert launcher.find_alive(run_of().id) is None
    first = launch(launcher)
    server.finish_pod(pod_of(server, first))
    assert launcher.find_alive(run_of().id) is None
    second = launch(launcher, version=4)
    server.start_pod(pod_of(server, second))
    assert launcher.find_alive(run_of().id) == Sighting(run_of().id, key_of(version=4), second, is_running=True)


@pytest.mark.parametrize("what", ["jobs", "pods"])
def test_whether_something_lives_is_unknown_when_the_agent_may_not_ask(
    server: KubernetesServer, launcher: KubernetesLauncher, what: str
) -> None:
    launch(launcher)
    server.forbid("list", what)
    with pytest.raises(LaunchUnknown):
        launcher.find_alive(run_of().id)


def test_only_what_was_asked_for_is_told_and_what_is_gone_is_not(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    texts = [launch(launcher, number) for number in (1, 2)]
    assert [sighting.text for sighting in launcher.look_at([texts[1], "Job prefect-job-gone"])] == [texts[1]]


def test_nothing_to_look_at_costs_nothing(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    assert (launcher.look_at([]), launcher.read_events(["{}"])) == ([], [])
    assert server.calls == []


def test_five_hundred_jobs_are_looked_at_with_a_few_requests(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    texts = [launch(launcher, number) for number in range(501)]
    server.forget_calls()
    assert len(launcher.look_at(texts)) == 501
    assert (server.count("list jobs"), server.count("list pods"), len(server.calls)) == (2, 2, 4)


def test_how_a_job_has_ended_is_seen(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    good, bad = (launch(launcher, number, job_template=template(backoffLimit=0)) for number in (1, 2))
    server.finish_pod(pod_of(server, good))
    server.finish_pod(pod_of(server, bad), exit_code=1)
    stops = [look(launcher, text).stop for text in (good, bad)]
    assert [stop.went_well for stop in stops if stop] == [True, False]


@pytest.mark.parametrize("happens", ["evicted", "node lost"])
def test_a_machine_that_was_taken_away_passes(
    server: KubernetesServer, launcher: KubernetesLauncher, happens: str
) -> None:
    text = launch(launcher, job_template=template(backoffLimit=0))
    server.start_pod(pod_of(server, text))
    if happens == "evicted":
        server.evict_pod(pod_of(server, text))
    else:
        server.lose_node(deleted=True)
    stop = look(launcher, text).stop
    assert stop is not None
    assert (stop.passes, stop.has_run) == (True, True)


def test_a_pod_without_a_node_waits(server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock) -> None:
    text = launch(launcher)
    server.leave_unscheduled(pod_of(server, text))
    clock.turn(3600)
    assert look(launcher, text) == Sighting(run_of().id, key_of(), text)


def test_an_image_that_cannot_be_had_ends_the_job_after_a_while_and_for_good(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher)
    server.wait_for_image(pod_of(server, text), message="manifest unknown")
    clock.turn(START_GRACE_SECONDS - 10)
    assert look(launcher, text).stop is None
    clock.turn(11)
    told = look(launcher, text).stop
    assert told is not None
    assert "manifest unknown" in told.reason
    clock.turn(2)
    assert server.pods() == []
    # Whoever was cut off before Prefect heard of it finds the same.
    assert look(launcher, text).stop == told
    assert launcher.find_alive(run_of().id) is None


def test_a_job_that_cannot_be_ended_is_not_told_as_stopped(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher)
    server.wait_for_image(pod_of(server, text))
    clock.turn(START_GRACE_SECONDS + 1)
    server.faults.add(when="patch jobs", then="status", status=409)
    assert look(launcher, text).stop is None
    assert look(launcher, text).stop is not None
    bodies = [call.body for call in server.calls if call.what == "patch jobs"]
    assert all(body["metadata"]["resourceVersion"] for body in bodies)


def test_what_this_agent_has_running_is_listed_and_nothing_of_others(
    server: KubernetesServer, launcher: KubernetesLauncher, api: KubernetesApi, clock: TurnedClock
) -> None:
    mine, done = launch(launcher, 1), launch(launcher, 2)
    server.finish_pod(pod_of(server, done))
    launch(launcher_of(api, clock, replace(DEFAULTS, agent_name="another")), 3)
    assert [sighting.text for sighting in launcher.list_alive()] == [mine]


def test_a_job_that_is_stopped_is_seen_to_end_until_its_time_is_over(
    server: KubernetesServer, launcher: KubernetesLauncher, clock: TurnedClock
) -> None:
    text = launch(launcher)
    server.start_pod(pod_of(server, text))
    launcher.stop(look(launcher, text), "The flow run was cancelled")
    clock.turn(2)
    assert server.pods() == []
    stop = look(launcher, text).stop
    assert stop is not None
    assert "The flow run was cancelled" in stop.reason
    clock.turn(3600)
    assert launcher.look_at([text]) == []


def test_a_job_that_stands_still_is_deleted_when_it_is_stopped(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    text = launch(launcher, job_template=template(suspend=True))
    launcher.stop(look(launcher, text), "The flow run was cancelled")
    assert server.jobs() == []


def test_a_job_that_is_gone_need_not_be_stopped(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    launcher.stop(Sighting("run", "key", "Job prefect-job-gone"), "cancelled")
    assert server.count("patch jobs") == 1


def test_what_cannot_be_stopped_is_told(server: KubernetesServer, launcher: KubernetesLauncher) -> None:
    sighting = look(launcher, launch(launcher))
    server.forbid("patch", "jobs")
    with pytest.raises(LaunchError, match="cannot patch resource"):
        launcher.stop(sighting, "cancelled")


# weight


IDLE = """
import sys
from chalicelib.bootstrap import build_agent
from chalicelib.settings import load_settings
settings = load_settings({{"AGENT_PLATFORM": "{platform}", "AGENT_EKS_CLUSTER": "flows"}})
build_agent(settings, is_on_a_machine=False)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("lightkube", "httpx2", "botocore", "yaml")))
print(sorted(name for name in sys.modules if name.startswith("chalicelib") and "{other}" in name))
"""


@pytest.mark.parametrize(("platform", "other"), [("ecs", "kubernetes"), ("kubernetes", "ecs"), ("ecs", "eks")])
def test_an_agent_of_one_platform_pays_for_no_other(platform: str, other: str) -> None:
    code = IDLE.format(platform=platform, other=other)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, foreign = done.stdout.splitlines()
    assert heavy == "[]"
    # What AWS answers is told by one table, wherever it was asked.
    assert foreign in ("[]", "['chalicelib.launchers.aws_answers']")


def test_the_role_that_install_prints_allows_all_that_is_asked_and_nothing_else(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    launch(launcher, 1)
    launch(launcher, 2, job_template=template(suspend=True))
    for sighting in launcher.list_alive():
        launcher.stop(sighting, "enough")
    asked = {(call.verb, call.resource) for call in server.calls}
    (rules,) = (each["rules"] for each in yaml.safe_load_all(TEMPLATE.read_text()) if each["kind"] == "Role")
    assert asked == {(verb, resource) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


# in trouble after it has worked


def test_a_job_that_is_being_ended_is_not_alive_to_rely_on(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    text = launch(launcher)
    server.start_pod(pod_of(server, text))
    launcher.stop(look(launcher, text), "The flow run was cancelled")
    assert look(launcher, text).stop is None, "it has not ended yet"
    assert launcher.find_alive(run_of().id) is None
    later = launch(launcher, version=4)
    alive = launcher.find_alive(run_of().id)
    assert alive is not None
    assert alive.text == later


def test_a_sign_in_that_has_worked_and_is_refused_later_is_for_now(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    launch(launcher, 1)
    server.remove_token("secret-token")
    with pytest.raises(LaunchDeferred, match="sign-in is in trouble"):
        launch(launcher, 2)
    server.add_token("secret-token")
    launch(launcher, 2)
    assert len(server.jobs()) == 2


def test_a_sign_in_that_was_refused_from_the_start_stays_the_agents_fault(
    server: KubernetesServer, launcher: KubernetesLauncher
) -> None:
    server.remove_token("secret-token")
    for _ in range(2):
        with pytest.raises(LaunchForbidden, match="401 Unauthorized"):
            launch(launcher)
