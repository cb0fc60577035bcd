"""A world whose time is turned by hand, with Kubernetes: Jobs that are watched, and agents that can be cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chalicelib.agent import Agent
from chalicelib.builders.flow_container import ContainerSettings
from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.builders.kubernetes_job import FLOW_RUN_LABEL, LAUNCH_KEY_ANNOTATION
from chalicelib.flow_runs import Document
from chalicelib.launchers.kubernetes import KubernetesLauncher
from chalicelib.launchers.kubernetes_access import KubeconfigSignIn, KubernetesApi, SignIn
from chalicelib.launchers.kubernetes_kinds import run_config_jobs
from chalicelib.launchers.pacing import Pace
from chalicelib.launchers.templates import TemplateReader
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.kubeconfig import write_kubeconfig
from tests.doubles.kubernetes.transport import Answer
from tests.integration.world import Cut, TurnedWorld

NAMESPACE = "flows"
RUN = {"type": "KubernetesRun", "image": "flows:1"}


def run_id_of(described: Document) -> str:
    """The flow run that a Job or a pod is for."""
    return str(described["metadata"]["labels"][FLOW_RUN_LABEL])


def lives(job: Document) -> bool:
    """Whether a Job is neither Complete nor Failed."""
    return not any(each["type"] in ("Complete", "Failed") for each in job["status"].get("conditions") or ())


class WatchedKubernetes(KubernetesServer):
    """A cluster that notes, after each call, which flow runs have two Jobs or two pods that live: `twice`."""

    def __init__(self, **settings: Any) -> None:
        self.twice: set[str] = set()
        super().__init__(**settings)

    def answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """As any cluster, cut off or not."""
        try:
            return super().answer(method, target, headers, content)
        finally:
            pods = [pod for pod in self.pods() if pod["status"]["phase"] not in ("Succeeded", "Failed")]
            for living in (filter(lives, self.jobs()), pods):
                self.twice.update(run_id for run_id, count in Counter(map(run_id_of, living)).items() if count > 1)


class CutApi(KubernetesApi):
    """Kubernetes' API with an effect before and after each request; its connections are those of `shared`."""

    def __init__(self, shared: KubernetesApi, sign_in: SignIn, cut: Cut) -> None:
        super().__init__(sign_in)
        self._shared = shared
        self._cut = cut

    def connect(self) -> Any:
        """The client of all processes: it keeps nothing of what they ask."""
        return self._shared.connect()

    def ask(self, method: str, path: str, subject: str, **request: Any) -> Document:
        """As the API does; refusals are answers too."""
        self._cut.effect()
        try:
            return super().ask(method, path, subject, **request)
        finally:
            self._cut.effect()


class KubernetesWorld(TurnedWorld):
    """Prefect 1 and a Kubernetes cluster on one clock, and agents on them; `directory` is for the kubeconfig."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.kubernetes = WatchedKubernetes(clock=self.clock, namespaces=(NAMESPACE,))
        write_kubeconfig(self.kubernetes, directory / "config")
        self._sign_in = KubeconfigSignIn(str(directory / "config"))
        self._shared = KubernetesApi(self._sign_in)

    def close(self) -> None:
        """End the servers and the agents' connections."""
        self._shared.close()
        self.kubernetes.close()
        super().close()

    def agent(self, cut: Cut | None = None, is_alone: bool = True) -> Agent:
        """A new process of the agent."""
        cut = cut or Cut()
        container = ContainerSettings(api_url=self.prefect.url)
        defaults = KubernetesDefaults(container, NAMESPACE, ttl_seconds_after_finished=3600, agent_name="lambda")
        api = CutApi(self._shared, self._sign_in, cut)
        templates = TemplateReader((), lambda: None, local_allowed=False)
        launcher = KubernetesLauncher(api, run_config_jobs(defaults, templates), Pace(0, self.clock), self.clock)
        return Agent(self.prefect_api(cut, "KubernetesAgent"), launcher, self.clock, self.manners)

    # flow runs, led to where a test begins

    def add_run(self, **config: Any) -> str:
        """A due flow run; `config` is added to its run config."""
        return self.prefect.add_flow_run(run_config={**RUN, **config})

    def launch(self, resubmit: str | None = None) -> str:
        """A flow run that is Submitted, its pod on its way."""
        run_id = self.add_run(env={"AGENT_RESUBMIT": resubmit} if resubmit else {})
        self.tick()
        assert len(self.living_jobs(run_id)) == 1
        return run_id

    def launch_and_begin(self, resubmit: str | None = None) -> str:
        """A flow run that runs."""
        run_id = self.launch(resubmit)
        self.kubernetes.start_pod(self.pod_of(run_id))
        self.prefect.set_state(run_id, {"type": "Running"})
        return run_id

    # what a test looks at

    def jobs_of(self, run_id: str) -> list[Document]:
        """All Jobs of the flow run that are still to be seen."""
        return [job for job in self.kubernetes.jobs() if run_id_of(job) == run_id]

    def living_jobs(self, run_id: str) -> list[Document]:
        """Those that have not ended."""
        return [job for job in self.jobs_of(run_id) if lives(job)]

    def pod_of(self, run_id: str) -> str:
        """The name of its latest pod."""
        return str([pod for pod in self.kubernetes.pods() if run_id_of(pod) == run_id][-1]["metadata"]["name"])

    def key_of_living(self, run_id: str) -> str:
        """The launch key of its one living Job."""
        (job,) = self.living_jobs(run_id)
        return str(job["metadata"]["annotations"][LAUNCH_KEY_ANNOTATION])
