"""Flow runs started as Kubernetes Jobs."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from chalicelib.builders.kubernetes_defaults import KubernetesDefaults
from chalicelib.builders.kubernetes_job import AGENT_ANNOTATION, FLOW_RUN_LABEL, build_job, with_key
from chalicelib.builders.run_configs import KubernetesRun, read_kubernetes_run
from chalicelib.errors import LaunchDeferred, LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown
from chalicelib.flow_runs import Document, FlowRun, Place
from chalicelib.launchers.kubernetes_access import KubernetesApi
from chalicelib.launchers.kubernetes_answers import AlreadyThere, JobGone
from chalicelib.launchers.kubernetes_stops import STOPPED_ANNOTATION, false_start, is_ending, read_job
from chalicelib.launchers.pacing import Pace, insist
from chalicelib.launchers.templates import TemplateReader
from chalicelib.ports import Clock
from chalicelib.sightings import Sighting

LOGGER = logging.getLogger(__name__)

LIST_LIMIT = 500
"""Objects in one page of a list: what Kubernetes' own clients ask for."""

_MALFORMED = r"strict decoding error|is invalid: "
_OF_THE_RUN = r"containers\[0\]\.(image|env|resources)|serviceAccountName|imagePullSecrets|metadata\.name"


@dataclass(frozen=True)
class KubernetesLaunch:
    """What it takes to start one flow run: the Job without its name, and whether the run has brought its template."""

    job: Document
    has_own_template: bool


class KubernetesLauncher:
    """Starts flow runs as Jobs of one namespace of one cluster. One a process, for all threads."""

    def __init__(
        self, api: KubernetesApi, defaults: KubernetesDefaults, templates: TemplateReader, pace: Pace, clock: Clock
    ) -> None:
        self.api = api
        self._defaults = defaults
        self._templates = templates
        self._pace = pace
        self._clock = clock
        self._jobs = f"/apis/batch/v1/namespaces/{defaults.namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{defaults.namespace}/pods"

    @cached_property
    def place(self) -> Place:
        """The agent's namespace, with its cluster. Raises SettingsError when the kubeconfig cannot be used."""
        return Place("kubernetes", f"{self.api.cluster}/{self._defaults.namespace}")

    def room(self, seconds: float) -> int:
        """How many launches fit into so many seconds."""
        return self._pace.room(seconds)

    def build(self, run: FlowRun) -> KubernetesLaunch:
        """The launch request of `run`: pure, but for the template that it names.

        Raises UnsupportedRun, LaunchDeferred when a look-up failed for now, LaunchForbidden or SettingsError when the
        cluster cannot be signed in to.
        """
        # Without a way to the cluster nothing could be launched: that is told before the claim.
        self.api.connect()
        asked = read_kubernetes_run(run)
        return KubernetesLaunch(build_job(run, asked, self._template(asked), self._defaults), asked.has_template)

    def _template(self, asked: KubernetesRun) -> Document:
        if asked.job_template_path:
            return self._templates.read(asked.job_template_path)
        return asked.job_template or self._defaults.job_template

    def launch(self, request: KubernetesLaunch, key: str, start_until: datetime | None = None) -> str:
        """Make the Job and say which it is: `Job <name>`; the one that `key` has made already is found again.

        Raises LaunchRejected, LaunchDeferred or LaunchUnknown. While the API says that requests come too fast it is
        asked again, for about 3 s; once more when it says nothing.
        """
        job = with_key(request.job, key)
        try:
            if insist(lambda: self._create(job, start_until), self._pace, self._clock):
                return f"Job {job['metadata']['name']}"
        except LaunchRejected as refusal:
            text = str(refusal)
            if request.has_own_template or not re.search(_MALFORMED, text) or re.search(_OF_THE_RUN, text):
                raise
            # What the agent's own template has wrong would fail every run.
            raise LaunchForbidden(f"{text} (that is in the agent's own job template)") from refusal
        return self._look_after(job)

    def _create(self, job: Document, start_until: datetime | None) -> bool:
        """Make a Job; False when there is one of its name."""
        subject = f"Creating Job {job['metadata']['name']} in namespace {self._defaults.namespace}"
        self._pace.acquire(start_until)
        try:
            self.api.ask("POST", self._jobs, subject, json=job, params={"fieldValidation": "Strict"})
        except AlreadyThere:
            return False
        return True

    def _look_after(self, job: Document) -> str:
        """The Job of that name, if it is alive or has run to a good end; else raises what its stop is."""
        text = f"Job {job['metadata']['name']}"
        sightings = (read_job(*pair) for pair in self._pairs_of(job["metadata"]["labels"][FLOW_RUN_LABEL]))
        found = next((sighting for sighting in sightings if sighting.text == text), None)
        if found is None:
            raise LaunchUnknown(f"{text} was there already, and is not any more")
        if found.stop is None or found.stop.went_well:
            return text
        raise (LaunchDeferred if found.stop.passes and not found.stop.has_run else LaunchRejected)(found.stop.reason)

    def read_events(self, bodies: Sequence[str]) -> list[str]:  # noqa: ARG002 - no cluster sends any
        """Nothing: the sweep alone finds out what has ended."""
        return []

    def find_alive(self, run_id: str) -> Sighting | None:
        """The Job of this flow run that is not finished; None when there is none. Raises LaunchUnknown."""
        pairs = self._pairs_of(run_id)
        alive = (read_job(*pair) for pair in pairs if not is_ending(pair[0]))
        return next((sighting for sighting in alive if sighting.stop is None), None)

    def _pairs_of(self, run_id: str) -> list[tuple[Document, list[Document]]]:
        try:
            return self._survey(f"{FLOW_RUN_LABEL}={run_id}")
        except LaunchError as error:
            # A refusal to show the Jobs says nothing of them.
            raise LaunchUnknown(str(error)) from error

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What the API says of these Jobs (`Job <name>`), two requests for each 500; nothing of others.

        A Job whose pod cannot start is ended, with the reason on it, before that is told as its stop: nothing of it can
        start later, and whoever is cut off before Prefect has heard of it finds the reason again. Raises LaunchError.
        """
        wanted = set(texts)
        pairs = self._survey(FLOW_RUN_LABEL, lambda job: f"Job {job['metadata']['name']}" in wanted) if wanted else []
        return [self._sight(*pair) for pair in pairs]

    def list_alive(self) -> list[Sighting]:
        """All Jobs that an agent of this name has launched and that are not finished. Raises LaunchError."""
        return [
            sighting
            for job, pods in self._survey(FLOW_RUN_LABEL)
            if job["metadata"].get("annotations", {}).get(AGENT_ANNOTATION) == self._defaults.agent_name
            and (sighting := read_job(job, pods)).stop is None
        ]

    def stop(self, sighting: Sighting, reason: str) -> None:
        """End the Job: its pod gets SIGTERM, and SIGKILL after its grace period. Raises LaunchError."""
        try:
            self._end(sighting.text.removeprefix("Job "), f"{sighting.text} was ended by the agent: {reason}")
        except JobGone:
            return

    def _sight(self, job: Document, pods: Sequence[Document]) -> Sighting:
        sighting = read_job(job, pods)
        stop = None if sighting.stop else false_start(job, pods, self._clock.now())
        if stop is None:
            return sighting
        try:
            # Only as it was read: it may have started meanwhile.
            self._end(job["metadata"]["name"], stop.reason, job["metadata"]["resourceVersion"])
        except LaunchError as error:
            LOGGER.warning("%s cannot start and cannot be ended now: %s", sighting.text, error)
            return sighting
        return replace(sighting, stop=stop)

    def _end(self, name: str, reason: str, version: str | None = None) -> None:
        """Let the Job's deadline pass, so that it stays to be seen as Failed until its time to live is over.

        A Job that is deleted instead would be gone at once, and nobody could tell any more why.
        """
        metadata = {"annotations": {STOPPED_ANNOTATION: reason}, **({"resourceVersion": version} if version else {})}
        patch = {"metadata": metadata, "spec": {"activeDeadlineSeconds": 1}}
        path, subject = f"{self._jobs}/{name}", f"Ending Job {name} in namespace {self._defaults.namespace}"
        kind = {"content-type": "application/merge-patch+json"}
        job = self.api.ask("PATCH", path, subject, json=patch, headers=kind)
        if job["spec"].get("suspend"):
            # Its time stands still, and it has no pods that could tell anything.
            self.api.ask("DELETE", path, subject, params={"propagationPolicy": "Background"})

    def _survey(
        self, selector: str, is_wanted: Callable[[Document], bool] = lambda _: True
    ) -> list[tuple[Document, list[Document]]]:
        """The wanted Jobs that a label selector chooses, each with its pods; those that have succeeded tell no more."""
        jobs = [job for job in self._list(self._jobs, selector) if is_wanted(job)]
        pods: dict[str, list[Document]] = {job["metadata"]["uid"]: [] for job in jobs}
        for pod in self._list(self._pods, selector, fieldSelector="status.phase!=Succeeded") if jobs else ():
            for owner in pod["metadata"].get("ownerReferences") or ():
                if owner["uid"] in pods:
                    pods[owner["uid"]].append(pod)
        return [(job, pods[job["metadata"]["uid"]]) for job in jobs]

    def _list(self, path: str, selector: str, **more: str) -> Iterator[Document]:
        query = {"labelSelector": selector, "limit": str(LIST_LIMIT), **more}
        while True:
            page = self.api.ask("GET", path, f"Listing {path}", params=query)
            yield from page.get("items") or ()
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return
