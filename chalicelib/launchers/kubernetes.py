"""Flow runs started as Kubernetes Jobs."""

from __future__ import annotations

import re
from datetime import datetime

from chalicelib.builders.kubernetes_job import KubernetesLaunch, with_key
from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected, LaunchUnknown
from chalicelib.flow_runs import Document, FlowRun
from chalicelib.launchers.kubernetes_access import KubernetesApi
from chalicelib.launchers.kubernetes_answers import AlreadyThere, NamespaceForbidden
from chalicelib.launchers.kubernetes_jobs import JobKind, KubernetesJobs, jobs_path
from chalicelib.launchers.pacing import Pace, insist
from chalicelib.ports import Clock

_MALFORMED = r"strict decoding error|is invalid: "
_OF_THE_RUN = r"containers\[0\]\.(image|env|resources)|serviceAccountName|imagePullSecrets|metadata\.name"


class KubernetesLauncher(KubernetesJobs):
    """Starts flow runs as Jobs of one cluster, whichever Prefect they are of. One a process, for all threads."""

    def __init__(self, api: KubernetesApi, kind: JobKind, pace: Pace, clock: Clock) -> None:
        super().__init__(api, kind, clock)
        self._pace = pace

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
        request = self._kind.build(run)
        self._namespaces.add(request.namespace)
        return request

    def launch(self, request: KubernetesLaunch, key: str, start_until: datetime | None = None) -> str:
        """Make the Job and say which it is; the one that `key` has made already is found again.

        Raises LaunchRejected, LaunchDeferred or LaunchUnknown. While the API says that requests come too fast it is
        asked again, for about 3 s; once more when it says nothing.
        """
        job = with_key(request.job, key)
        try:
            if insist(lambda: self._create(job, request, start_until), self._pace, self._clock):
                return self._kind.text(request.namespace, job["metadata"]["name"])
        except NamespaceForbidden as refusal:
            if request.namespace == self._kind.namespace:
                raise
            # Other namespaces may be in order.
            raise LaunchRejected(str(refusal)) from refusal
        except LaunchRejected as refusal:
            text = str(refusal)
            if request.has_own_template or not re.search(_MALFORMED, text) or re.search(_OF_THE_RUN, text):
                raise
            # What the agent's own template has wrong would fail every run.
            raise LaunchForbidden(f"{text} (that is in the agent's own job template)") from refusal
        return self._look_after(job, request.namespace)

    def _create(self, job: Document, request: KubernetesLaunch, start_until: datetime | None) -> bool:
        """Make a Job; False when there is one of its name."""
        subject = f"Creating Job {job['metadata']['name']} in namespace {request.namespace}"
        self._pace.acquire(start_until)
        try:
            query = {"fieldValidation": request.field_validation}
            self.api.ask("POST", jobs_path(request.namespace), subject, json=job, params=query)
        except AlreadyThere:
            return False
        return True

    def _look_after(self, job: Document, namespace: str) -> str:
        """The Job of that name, if it is alive or has run to a good end; else raises what its stop is."""
        text = self._kind.text(namespace, job["metadata"]["name"])
        pairs = self._pairs_of(job["metadata"]["labels"][self._kind.run_label], namespace)
        found = next((sighting for pair in pairs if (sighting := self._read(*pair)).text == text), None)
        if found is None:
            raise LaunchUnknown(f"{text} was there already, and is not any more")
        if found.stop is None or found.stop.went_well:
            return text
        raise (LaunchDeferred if found.stop.passes and not found.stop.has_run else LaunchRejected)(found.stop.reason)
