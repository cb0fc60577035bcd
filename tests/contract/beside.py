"""A real agent of prefect 1.4.1 and ours, on one Prefect and one platform."""

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

from chalicelib.agent import Agent
from chalicelib.builders.ecs_defaults import EcsDefaults
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.ecs import EcsLauncher
from chalicelib.launchers.ecs_run_configs import RunConfigTasks
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from chalicelib.launchers.kubernetes_kinds import run_config_jobs
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
        defaults = EcsDefaults(
            container=ContainerSettings(api_url="http://prefect"), cluster=CLUSTER, run_task_kwargs=NETWORK
        )
        builder = RunConfigTasks(self._clients, defaults, TEMPLATES)
        return EcsLauncher(self._clients, defaults, builder, Pace(0, self._clock), self._clock)

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
        return KubernetesLauncher(self._api, run_config_jobs(defaults, TEMPLATES), Pace(0, self._clock), self._clock)

    def launched(self) -> Counter[str]:
        return Counter(job["metadata"]["labels"]["prefect.io/flow_run_id"] for job in self.server.jobs())

    def pod_of(self, run_id: str) -> str:
        """The name of its latest pod."""
        label = "prefect.io/flow_run_id"
        pods = [pod["metadata"] for pod in self.server.pods() if pod["metadata"]["labels"][label] == run_id]
        return str(pods[-1]["name"])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it was not so in time"
        time.sleep(0.005)


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

    def add_due_retry(self) -> str:
        """A run that runs, and of which a task run is to be tried again by now."""
        (run_id,) = self.add_due_runs(1)
        self.server.set_state(run_id, {"type": "Running"})
        due = (self.clock.now() - timedelta(seconds=30)).isoformat()
        self.server.add_task_run(run_id, {"type": "Retrying", "start_time": due, "run_count": 1})
        return run_id

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
