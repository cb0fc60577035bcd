"""The Jobs that a cluster has: found, looked at, listed and ended, in the namespaces that flow runs go to."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from chalicelib.builders.kubernetes_job import AGENT_ANNOTATION, KubernetesLaunch
from chalicelib.errors import LaunchError, LaunchUnknown
from chalicelib.flow_runs import Document, FlowRun, Place
from chalicelib.launchers.kubernetes_access import KubernetesApi
from chalicelib.launchers.kubernetes_answers import JobGone, NamespaceForbidden
from chalicelib.launchers.kubernetes_stops import STOPPED_ANNOTATION, false_start, is_ending, read_job
from chalicelib.ports import Clock
from chalicelib.sightings import Sighting

LOGGER = logging.getLogger(__name__)

LIST_LIMIT = 500
"""Objects in one page of a list: what Kubernetes' own clients ask for."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")

Pair = tuple[Document, list[Document]]
"""A Job and its pods."""


@dataclass(frozen=True)
class JobKind:
    """How one generation of Prefect has its Jobs made, found and called.

    `build` makes a flow run into a launch, or raises UnsupportedRun or a LaunchError; `run_label` is the label with the
    id of the flow run. `namespace` is the agent's own; unless there can be no other, a launch is called after its
    namespace too, and `further_namespaces` are those that runs may name.
    """

    build: Callable[[FlowRun], KubernetesLaunch]
    namespace: str
    agent_name: str
    run_label: str
    has_namespaces: bool = False
    further_namespaces: frozenset[str] = frozenset()

    def text(self, namespace: str, name: str) -> str:
        """What a launch is called: `Job <name>`, or `Job <namespace>:<name>`."""
        return f"Job {namespace}:{name}" if self.has_namespaces else f"Job {name}"

    def locate(self, text: str) -> tuple[str, str]:
        """The namespace and name of the Job that is called so; both empty if none can be."""
        called = text.removeprefix("Job ")
        namespace, _, name = called.rpartition(":") if self.has_namespaces else (self.namespace, "", called)
        return (namespace, name) if _NAME.fullmatch(namespace) and _NAME.fullmatch(name) else ("", "")


class KubernetesJobs:
    """The Jobs of one kind on one cluster."""

    def __init__(self, api: KubernetesApi, kind: JobKind, clock: Clock) -> None:
        self.api = api
        self._kind = kind
        self._clock = clock
        self._namespaces = {kind.namespace, *kind.further_namespaces}

    @cached_property
    def place(self) -> Place:
        """The agent's own namespace, with its cluster. Raises SettingsError when the kubeconfig cannot be used."""
        return Place("kubernetes", f"{self.api.cluster}/{self._kind.namespace}")

    def read_events(self, bodies: Sequence[str]) -> list[str]:  # noqa: ARG002 - no cluster sends any
        """Nothing: the sweep alone finds out what has ended."""
        return []

    def find_alive(self, run_id: str) -> Sighting | None:
        """The Job of this flow run that is not finished; None when there is none. Raises LaunchUnknown.

        It is looked for in the agent's namespace, those that runs may name, and those met with since the process began.
        """
        pairs = self._pairs_of(run_id, *sorted(self._namespaces))
        alive = (self._read(*pair) for pair in pairs if not is_ending(pair[0]))
        return next((sighting for sighting in alive if sighting.stop is None), None)

    def _pairs_of(self, run_id: str, *namespaces: str) -> list[Pair]:
        try:
            return list(self._pairs_in(namespaces, f"{self._kind.run_label}={run_id}"))
        except LaunchError as error:
            # A refusal to show the Jobs says nothing of them.
            raise LaunchUnknown(str(error)) from error

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What the API says of these Jobs, two requests for each 500 of a namespace; nothing of others.

        A Job whose pod cannot start is ended, with the reason on it, before that is told as its stop: nothing of it can
        start later, and whoever is cut off before Prefect has heard of it finds the reason again. Jobs without a launch
        key, an official worker's, are left alone. Those of a namespace that cannot be asked have that for their
        trouble; raises LaunchError when none can.
        """
        wanted: dict[str, dict[str, str]] = {}
        for text in texts:
            namespace, name = self._kind.locate(text)
            wanted.setdefault(namespace, {})[name] = text
        wanted.pop("", None)
        seen: list[Sighting] = []
        troubles: list[LaunchError] = []
        for namespace, names in wanted.items():
            try:
                seen += self._look(namespace, names)
            except LaunchError as error:
                troubles.append(error)
                seen += [Sighting("", None, text, trouble=str(error)) for text in names.values()]
        if troubles and len(troubles) == len(wanted):
            raise troubles[0]
        return seen

    def _look(self, namespace: str, names: dict[str, str]) -> list[Sighting]:
        pairs = self._survey(namespace, self._kind.run_label, lambda job: job["metadata"]["name"] in names)
        self._namespaces.add(namespace)
        return [replace(self._sight(*pair), text=names[pair[0]["metadata"]["name"]]) for pair in pairs]

    def list_alive(self) -> list[Sighting]:
        """All Jobs that an agent of this name has launched and that are not finished. Raises LaunchError."""
        return [
            sighting
            for job, pods in self._pairs_in(sorted(self._namespaces), self._kind.run_label)
            if job["metadata"].get("annotations", {}).get(AGENT_ANNOTATION) == self._kind.agent_name
            and (sighting := self._read(job, pods)).stop is None
        ]

    def stop(self, sighting: Sighting, reason: str) -> None:
        """End the Job: its pod gets SIGTERM, and SIGKILL after its grace period. Raises LaunchError.

        One without a launch key is left alone.
        """
        namespace, name = self._kind.locate(sighting.text)
        if sighting.key is None or not name:
            return
        try:
            self._end(namespace, name, f"{sighting.text} was ended by the agent: {reason}")
        except JobGone:
            return

    def _read(self, job: Document, pods: Sequence[Document]) -> Sighting:
        metadata = job["metadata"]
        return replace(read_job(job, pods), text=self._kind.text(metadata["namespace"], metadata["name"]))

    def _sight(self, job: Document, pods: Sequence[Document]) -> Sighting:
        sighting = self._read(job, pods)
        is_foreign = sighting.key is None
        stop = None if is_foreign or sighting.stop else false_start(job, pods, self._clock.now())
        if stop is None:
            return sighting
        metadata = job["metadata"]
        try:
            # Only as it was read: it may have started meanwhile.
            self._end(metadata["namespace"], metadata["name"], stop.reason, metadata["resourceVersion"])
        except LaunchError as error:
            LOGGER.warning("%s cannot start and cannot be ended now: %s", sighting.text, error)
            return sighting
        return replace(sighting, stop=stop)

    def _end(self, namespace: str, name: str, reason: str, version: str | None = None) -> None:
        """Let the Job's deadline pass, so that it stays to be seen as Failed until its time to live is over.

        A Job that is deleted instead would be gone at once, and nobody could tell any more why.
        """
        metadata = {"annotations": {STOPPED_ANNOTATION: reason}, **({"resourceVersion": version} if version else {})}
        patch = {"metadata": metadata, "spec": {"activeDeadlineSeconds": 1}}
        path, subject = f"{jobs_path(namespace)}/{name}", f"Ending Job {name} in namespace {namespace}"
        kind = {"content-type": "application/merge-patch+json"}
        job = self.api.ask("PATCH", path, subject, json=patch, headers=kind)
        if job["spec"].get("suspend"):
            # Its time stands still, and it has no pods that could tell anything.
            self.api.ask("DELETE", path, subject, params={"propagationPolicy": "Background"})

    def _pairs_in(self, namespaces: Iterable[str], selector: str) -> Iterator[Pair]:
        """See `_survey`; nothing of a namespace where the agent has no Role, so that it cannot have launched there."""
        for namespace in namespaces:
            try:
                yield from self._survey(namespace, selector)
            except NamespaceForbidden as error:
                if namespace == self._kind.namespace:
                    raise
                LOGGER.warning("No Job is looked for there: %s", error)

    def _survey(
        self, namespace: str, selector: str, is_wanted: Callable[[Document], bool] = lambda _: True
    ) -> list[Pair]:
        """The wanted Jobs that a label selector chooses, each with its pods; those that have succeeded tell no more."""
        jobs = [job for job in self._list(jobs_path(namespace), selector) if is_wanted(job)]
        pods: dict[str, list[Document]] = {job["metadata"]["uid"]: [] for job in jobs}
        path = f"/api/v1/namespaces/{namespace}/pods"
        for pod in self._list(path, selector, fieldSelector="status.phase!=Succeeded") if jobs else ():
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


def jobs_path(namespace: str) -> str:
    """Where the API has the Jobs of a namespace."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"
