"""A Kubernetes cluster and a Prefect 1 on one clock that is turned by hand, and agents on them."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from chalicelib.agent import Agent
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi
from chalicelib.launchers.kubernetes_kinds import run_config_jobs
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from chalicelib.outcomes import TickReport
from tests.doubles.clock import TurnedClock
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.prefect1 import Prefect1Server
from tests.prefect1_agents import make_api

NAMESPACE = "flows"
RUN = {"type": "KubernetesRun", "image": "flows:1"}


class Cluster:
    """Both servers, and one agent that is signed in by a kubeconfig; close it."""

    def __init__(self, directory: Path) -> None:
        # Half past: strays are looked for at the beginning of an hour.
        self.clock = TurnedClock(datetime(2026, 11, 20, 12, 30, tzinfo=UTC))
        self.prefect = Prefect1Server(clock=self.clock)
        self.kubernetes = KubernetesServer(clock=self.clock, namespaces=(NAMESPACE,))
        write_kubeconfig(self.kubernetes, directory / "config")
        self._api = KubernetesApi(KubeconfigSignIn(str(directory / "config")))
        self.run_ids: list[str] = []
        self.agent = self._make_agent()

    def _make_agent(self) -> Agent:
        defaults = KubernetesDefaults(container=ContainerSettings(api_url=self.prefect.url), namespace=NAMESPACE)
        templates = TemplateReader((), AwsClients().s3, local_allowed=False)
        launcher = KubernetesLauncher(self._api, run_config_jobs(defaults, templates), Pace(0, self.clock), self.clock)
        return Agent(make_api(self.prefect, self.clock), launcher, self.clock)

    def close(self) -> None:
        """End the servers and the agent's connections."""
        self._api.close()
        self.kubernetes.close()
        self.prefect.close()

    def add_due_runs(self, count: int) -> None:
        """So many flow runs of one flow."""
        flow_id = self.prefect.add_flow()
        self.run_ids += [self.prefect.add_flow_run(flow_id, run_config=RUN) for _ in range(count)]

    def tick(self) -> TickReport:
        """A scheduled tick of ten seconds."""
        return self.agent.tick(self.clock.now() + timedelta(seconds=10), recovers=True)

    def launch(self, count: int) -> None:
        """So many flow runs, launched, in pods that have not begun."""
        self.add_due_runs(count)
        assert self.tick().errors == []
        assert self.jobs_by_run() == dict.fromkeys(self.run_ids, 1)

    def begin(self) -> None:
        """Let all flows run."""
        for pod in self.kubernetes.pods():
            self.kubernetes.start_pod(pod["metadata"]["name"])
        for run_id in self.run_ids:
            self.prefect.set_state(run_id, {"type": "Running"})

    def forget(self) -> None:
        """Begin all counts anew."""
        self.prefect.forget_requests()
        self.kubernetes.forget_calls()

    def jobs_by_run(self) -> dict[str, int]:
        """How many Jobs each flow run has."""
        return Counter(job["metadata"]["labels"]["prefect.io/flow_run_id"] for job in self.kubernetes.jobs())

    def states(self) -> dict[str, int]:
        """How many flow runs are in each state."""
        return Counter(str(self.prefect.flow_run(run_id)["state"]) for run_id in self.run_ids)

    def sweep_requests(self) -> int:
        """How many requests to Prefect were about something else than what is due."""
        return sum("get_runs_in_queue" not in request.field_names for request in self.prefect.requests)
