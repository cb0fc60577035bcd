"""Our agent beside the real ones of prefect 1.4.1: the same labels at the same time, and both of one name.

The server's lock decides who gets a run. What the one has launched, the other leaves alone.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from chalicelib.agent import Agent
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from chalicelib.launchers.kubernetes_stops import START_GRACE_SECONDS
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from chalicelib.outcomes import TickReport
from chalicelib.ports import Launcher
from chalicelib.sweep import Manners
from tests.contract.conftest import SCRIPTS, Prefect1
from tests.doubles.ecs import EcsServer
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect1_agents import make_api

pytestmark = pytest.mark.oracle

NAME, LABEL, CLUSTER = "lambda", "lab", "flows"
MODULE = {"type": "Module", "__version__": "1.4.1", "module": "flows", "secrets": []}
NETWORK = {"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}}
RUNS, ROUND_TRIP_SECONDS, PATIENCE_SECONDS = 36, 0.02, 60.0
TEMPLATES = TemplateReader((), lambda: None, local_allowed=False)


class WallClock:
    """The time, and further ahead each time that it is turned."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))

    def turn(self, seconds: float) -> None:
        """Let time pass for the servers and our agents; the real agents keep theirs."""
        self._ahead += timedelta(seconds=seconds)

    def turn_to_the_next_hour(self) -> None:
        """When strays are looked for."""
        self.turn(3600 - self.now().timestamp() % 3600 + 1)


class Platform(Protocol):
    """Where both agents launch."""

    run_config: Mapping[str, Any]
    script: str
    settings: Mapping[str, Any]

    def launcher(self) -> Launcher:
        """One of ours."""

    def launched(self) -> Counter[str]:
        """How often each flow run was launched, by whomever."""


class Ecs:
    """An ECS; the real agent finds it by `environment`, as ours does."""

    run_config: Mapping[str, Any] = {"type": "ECSRun", "__version__": "1.4.1", "image": "flows:1", "labels": []}
    script = "poll_as_ecs_agent"

    def __init__(self, server: EcsServer, clock: WallClock, directory: Path) -> None:
        self.server, self._clock = server, clock
        arguments = directory / "run_task.yaml"
        arguments.write_text(json.dumps(NETWORK))
        self.settings: Mapping[str, Any] = {"cluster": CLUSTER, "run_task_kwargs_path": str(arguments)}
        self._clients = AwsClients()

    def close(self) -> None:
        self._clients.close()

    def launcher(self) -> Launcher:
        defaults = EcsDefaults(ContainerSettings(api_url="http://prefect"), CLUSTER, run_task_kwargs=NETWORK)
        return EcsLauncher(self._clients, defaults, TEMPLATES, Pace(0, self._clock), self._clock)

    def launched(self) -> Counter[str]:
        return Counter(run_id_of(task) for task in self.server.tasks())

    def task_of(self, run_id: str) -> str:
        """The ARN of its task."""
        (arn,) = [str(task["taskArn"]) for task in self.server.tasks() if run_id_of(task) == run_id]
        return arn


def run_id_of(task: Mapping[str, Any]) -> str:
    """The flow run of a task, whoever launched it: what its container is told."""
    environment = task["overrides"]["containerOverrides"][0]["environment"]
    return str(next(each["value"] for each in environment if each["name"] == "PREFECT__CONTEXT__FLOW_RUN_ID"))


class Kubernetes:
    """A cluster; the real agent finds the kubeconfig in its home."""

    run_config: Mapping[str, Any] = {"type": "KubernetesRun", "__version__": "1.4.1", "image": "flows:1", "labels": []}
    script = "poll_as_kubernetes_agent"
    settings: Mapping[str, Any] = {"namespace": CLUSTER}

    def __init__(self, server: KubernetesServer, clock: WallClock, home: Path) -> None:
        self.server, self._clock = server, clock
        write_kubeconfig(server, home / ".kube" / "config")
        self._api = KubernetesApi(KubeconfigSignIn(str(home / ".kube" / "config")))

    def close(self) -> None:
        self._api.close()

    def launcher(self, namespace: str = CLUSTER) -> Launcher:
        container = ContainerSettings(api_url="http://prefect")
        defaults = KubernetesDefaults(container, namespace, ttl_seconds_after_finished=3600, agent_name=NAME)
        return KubernetesLauncher(self._api, defaults, TEMPLATES, Pace(0, self._clock), self._clock)

    def launched(self) -> Counter[str]:
        return Counter(job["metadata"]["labels"]["prefect.io/flow_run_id"] for job in self.server.jobs())

    def pod_of(self, run_id: str) -> str:
        """The name of its latest pod."""
        label = "prefect.io/flow_run_id"
        pods = [pod["metadata"] for pod in self.server.pods() if pod["metadata"]["labels"][label] == run_id]
        return str(pods[-1]["name"])


@pytest.fixture
def clock() -> WallClock:
    return WallClock()


@pytest.fixture
def server(clock: WallClock) -> Iterator[Prefect1Server]:
    with Prefect1Server(clock, ROUND_TRIP_SECONDS) as running:
        yield running


@pytest.fixture
def ecs(clock: WallClock, prefect1: Prefect1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ecs]:
    with EcsServer(clock, ROUND_TRIP_SECONDS, clusters=(CLUSTER,)) as running:
        variables = {
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_ENDPOINT_URL_ECS": running.url,
        }
        prefect1.environment |= variables
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        platform = Ecs(running, clock, tmp_path)
        yield platform
        platform.close()


@pytest.fixture
def kubernetes(clock: WallClock, tmp_path: Path) -> Iterator[Kubernetes]:
    with KubernetesServer(clock, ROUND_TRIP_SECONDS, namespaces=(CLUSTER, "ours")) as running:
        platform = Kubernetes(running, clock, tmp_path)
        yield platform
        platform.close()


@pytest.fixture(params=["ecs", "kubernetes"])
def platform(request: pytest.FixtureRequest) -> Platform:
    chosen: Platform = request.getfixturevalue(request.param)
    return chosen


class Beside:
    """A real agent and ours on one platform, and the flow runs that are due to both."""

    def __init__(self, prefect1: Prefect1, server: Prefect1Server, platform: Platform, clock: WallClock) -> None:
        self.prefect1, self.server, self.platform, self.clock = prefect1, server, platform, clock
        self._flow_id = server.add_flow("my flow", storage=MODULE, run_config=platform.run_config)
        self.run_ids: list[str] = []

    @contextmanager
    def real_agent(self) -> Iterator[None]:
        """Inside, the real agent polls."""
        settings = {**self.platform.settings, "labels": [LABEL], "name": NAME}
        script = str(SCRIPTS / f"{self.platform.script}.py")
        self.server.forget_requests()
        process = subprocess.Popen(
            [str(self.prefect1.python), script, json.dumps(settings)],
            env=self.prefect1.environment,
            cwd=self.prefect1.environment["HOME"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with process:
            try:
                wait_until(lambda: any("get_runs_in_queue" in each.field_names for each in self.server.requests))
                yield
            finally:
                process.terminate()
                process.wait(PATIENCE_SECONDS)

    def our_agent(self, launcher: Launcher | None = None) -> Agent:
        """A process of ours."""
        prefect = make_api(self.server, self.clock, [LABEL], NAME)
        return Agent(prefect, launcher or self.platform.launcher(), self.clock, Manners(strays="stop"))

    def tick(self, agent: Agent | None = None) -> TickReport:
        """A scheduled tick of ours."""
        return (agent or self.our_agent()).tick(self.clock.now() + timedelta(seconds=10), recovers=True)

    def add_due_runs(self, count: int) -> list[str]:
        """So many more runs for both."""
        added = [self.server.add_flow_run(self._flow_id, labels=[LABEL]) for _ in range(count)]
        self.run_ids += added
        return added

    def claim_and_die(self) -> str:
        """A run that a process of ours claimed and did not live to launch."""
        (run_id,) = self.add_due_runs(1)
        prefect = make_api(self.server, self.clock, [LABEL], NAME)
        runs = [run for run in prefect.record_and_poll([], self.clock.now()) if run.id == run_id]
        assert len(prefect.claim(runs, self.platform.launcher().place)) == 1
        return run_id

    def states(self) -> dict[str, str]:
        """The state of each run."""
        return {run_id: str(self.server.flow_run(run_id)["state"]) for run_id in self.run_ids}

    def signs(self, run_id: str) -> list[Mapping[str, Any]]:
        """The log lines that say that it was launched."""
        return [line for line in self.server.logs(run_id) if line["message"].startswith("Submitted for execution: ")]

    def ours(self) -> list[str]:
        """The runs that we claimed."""
        return [run_id for run_id in self.run_ids if self._has_key(run_id)]

    def theirs(self) -> list[str]:
        """The others that were claimed."""
        return [run_id for run_id in self.run_ids if not self._has_key(run_id)]

    def _has_key(self, run_id: str) -> bool:
        claims = [state for state in self.server.states(run_id) if state["state"] == "Submitted"]
        return any((claim["serialized_state"].get("context") or {}).get("key") for claim in claims)

    def histories(self, run_ids: list[str]) -> dict[str, tuple[list[str], list[str]]]:
        """All that is known of these runs: their states and their log lines."""
        return {
            run_id: (
                [state["state"] for state in self.server.states(run_id)],
                [line["message"] for line in self.server.logs(run_id)],
            )
            for run_id in run_ids
        }

    def assert_launched_once(self) -> None:
        """Each run is claimed once, launched once, and that is said once, by the one that claimed it."""
        once = dict.fromkeys(self.run_ids, 1)
        assert self.platform.launched() == once
        assert {run_id: len(self.signs(run_id)) for run_id in self.run_ids} == once
        submitted = [[each["state"] for each in self.server.states(run_id)] for run_id in self.run_ids]
        assert {tuple(states) for states in submitted} == {("Scheduled", "Submitted")}
        have_keys = {run_id: bool((self.signs(run_id)[0]["info"] or {}).get("key")) for run_id in self.run_ids}
        assert have_keys == {run_id: run_id in self.ours() for run_id in self.run_ids}

    def share(self, ours: int) -> None:
        """Let both go for the same runs, `ours` processes of ours, until each has got some and nothing is left."""
        with self.real_agent(), ThreadPoolExecutor(ours) as threads:
            due = self.add_due_runs(RUNS)
            # By then it has read many of them.
            wait_until(lambda: "Submitted" in {self.states()[run_id] for run_id in due})
            for ticking in [threads.submit(self.tick, self.our_agent()) for _ in range(ours)]:
                assert ticking.result().errors == []
            wait_until(lambda: all(self.signs(run_id) for run_id in due))
        assert self.ours()
        assert self.theirs()


@pytest.fixture
def beside(prefect1: Prefect1, server: Prefect1Server, platform: Platform, clock: WallClock) -> Beside:
    return Beside(prefect1, server, platform, clock)


@pytest.fixture
def beside_on_ecs(prefect1: Prefect1, server: Prefect1Server, ecs: Ecs, clock: WallClock) -> Beside:
    return Beside(prefect1, server, ecs, clock)


@pytest.fixture
def beside_on_kubernetes(
    prefect1: Prefect1, server: Prefect1Server, kubernetes: Kubernetes, clock: WallClock
) -> Beside:
    return Beside(prefect1, server, kubernetes, clock)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it was not so in time"
        time.sleep(0.005)


@pytest.mark.parametrize("ours", [1, 2])
def test_each_run_is_launched_by_exactly_one_agent(beside: Beside, ours: int) -> None:
    beside.share(ours)
    beside.assert_launched_once()
    # It went for some of ours too, so it was the lock that kept it from them.
    assert claims_of_the_real_agent(beside) & set(beside.ours())


def claims_of_the_real_agent(beside: Beside) -> set[str]:
    """The runs that it went for, whatever the server said: it asks for one at a time, in a variable of its own."""
    asked = [each for each in beside.server.requests if each.field_names == ("set_flow_run_states",)]
    inputs = [each.variables["input"] for each in asked if set(each.variables) == {"input"}]
    return {each["flow_run_id"] for given in inputs for each in given["states"]}


# who looks after what


def test_what_the_real_agent_launched_is_left_alone_and_ours_is_looked_after(
    beside_on_ecs: Beside, ecs: Ecs, clock: WallClock
) -> None:
    beside = beside_on_ecs
    orphan = beside.claim_and_die()
    beside.share(1)
    begun, stopped, done, cancelled = beside.theirs()[:4]
    failing = next(run_id for run_id in beside.ours() if run_id != orphan)
    beside.server.set_state(begun, {"type": "Running"})
    beside.server.set_state(done, {"type": "Success"})
    beside.server.cancel(cancelled)
    for run_id in (begun, stopped, failing):
        ecs.server.stop(ecs.task_of(run_id), exit_code=1)
    theirs = beside.histories(beside.theirs())

    clock.turn(100)
    events = [json.dumps(event) for event in ecs.server.events]
    assert beside.our_agent().heed_events(events)["failed"] == 1
    report = beside.tick()
    assert (report.recovered, report.launched, report.errors, report.strays) == (1, 1, [], 0)
    assert beside.states()[failing] == "Failed"
    for _ in range(2):
        clock.turn_to_the_next_hour()
        assert beside.tick().as_dict()["stopped"] == {}

    assert beside.histories(beside.theirs()) == theirs
    assert ecs.launched() == dict.fromkeys(beside.run_ids, 1)
    assert [task["stoppedReason"] for task in ecs.server.tasks() if task["desiredStatus"] == "STOPPED"] == [
        "Essential container in task exited"
    ] * 3


def test_the_real_agent_leaves_ours_alone(beside_on_ecs: Beside, ecs: Ecs) -> None:
    beside = beside_on_ecs
    orphan = beside.claim_and_die()
    waiting, begun, ended = beside.add_due_runs(3)
    assert beside.tick().launched == 3
    beside.server.set_state(begun, {"type": "Running"})
    ecs.server.stop(ecs.task_of(ended), exit_code=1)
    before = beside.histories([orphan, waiting, begun, ended])
    with beside.real_agent():
        (due,) = beside.add_due_runs(1)
        wait_until(lambda: bool(beside.signs(due)))
    assert beside.theirs() == [due]
    assert beside.histories([orphan, waiting, begun, ended]) == before


def evicted_beside_a_heartbeat(beside: Beside, kubernetes: Kubernetes, namespace: str) -> str:
    """A run of ours in this namespace, evicted, of which the real agent's heartbeat has had its say."""
    (run_id,) = beside.add_due_runs(1)
    agent = beside.our_agent(kubernetes.launcher(namespace))
    assert beside.tick(agent).launched == 1
    kubernetes.server.evict_pod(kubernetes.pod_of(run_id))
    beside.clock.turn(100)
    beside.prefect1.script(kubernetes.script, json.dumps({**kubernetes.settings, "name": NAME}), "heartbeat")
    beside.tick(agent)
    return run_id


def test_the_real_agents_heartbeat_leaves_jobs_of_ours_in_another_namespace_alone(
    beside_on_kubernetes: Beside, kubernetes: Kubernetes
) -> None:
    run_id = evicted_beside_a_heartbeat(beside_on_kubernetes, kubernetes, "ours")
    assert beside_on_kubernetes.states() == {run_id: "Scheduled"}
    assert "Launched again (1 of 3)" in beside_on_kubernetes.server.flow_run(run_id)["state_message"]


def test_the_real_agents_heartbeat_judges_jobs_of_ours_in_its_own_namespace(
    beside_on_kubernetes: Beside, kubernetes: Kubernetes
) -> None:
    run_id = evicted_beside_a_heartbeat(beside_on_kubernetes, kubernetes, CLUSTER)
    states = [state["state"] for state in beside_on_kubernetes.server.states(run_id)]
    assert states == ["Scheduled", "Submitted", "Failed"]
    assert beside_on_kubernetes.server.flow_run(run_id)["state_message"].startswith("Kubernetes Error: pods [")
    assert kubernetes.server.jobs() == []


def test_what_the_real_agent_launched_on_kubernetes_is_left_alone(
    beside_on_kubernetes: Beside, kubernetes: Kubernetes, clock: WallClock
) -> None:
    beside = beside_on_kubernetes
    beside.share(1)
    begun, done, unstartable, failed, cancelled = beside.theirs()[:5]
    beside.server.set_state(begun, {"type": "Running"})
    beside.server.set_state(done, {"type": "Success"})
    beside.server.cancel(cancelled)
    kubernetes.server.wait_for_image(kubernetes.pod_of(unstartable))
    kubernetes.server.finish_pod(kubernetes.pod_of(failed), exit_code=1)
    theirs = beside.histories(beside.theirs())
    for seconds in (100, START_GRACE_SECONDS, 7200):
        clock.turn(seconds)
        clock.turn_to_the_next_hour()
        report = beside.tick()
        assert (report.recovered, report.errors, report.stops, report.strays) == (0, [], {}, 0)
    assert beside.histories(beside.theirs()) == theirs
    assert kubernetes.launched() == dict.fromkeys(beside.run_ids, 1)
    assert (kubernetes.server.count("patch jobs"), kubernetes.server.count("delete jobs")) == (0, 0)
