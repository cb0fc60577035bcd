"""Several platforms as one: each flow run goes to the launcher of its work pool's type, and each text back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.errors import LaunchError, UnsupportedRun
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.ports import Launcher
from chalicelib.sightings import Sighting

KINDS = {"ecs": "Task", "kubernetes": "Job", "process": "Process"}
"""The first word of what a launcher calls a launch, by the type of its work pools."""


@dataclass(frozen=True)
class PoolLaunch:
    """A launch request and the type of work pool whose launcher takes it."""

    pool_type: str
    request: Any


class WorkPoolLauncher:
    """The launchers of all types of work pools that this agent serves, by type."""

    def __init__(self, launchers: Mapping[str, Launcher]) -> None:
        self._launchers = launchers

    @property
    def place(self) -> Place:
        """Nowhere in particular: every work pool says itself where its runs go."""
        return Place("work-pools", ",".join(sorted(self._launchers)))

    def build(self, run: FlowRun) -> PoolLaunch:
        """See the port. Raises UnsupportedRun also for a work pool of a type that nobody here launches."""
        pool = run.job.pool if run.job else {}
        pool_type = str(pool.get("type"))
        if pool_type not in self._launchers:
            known = ", ".join(sorted(self._launchers))
            raise UnsupportedRun(f"work pool {pool.get('name')} is of type {pool_type}; this agent serves {known}")
        return PoolLaunch(pool_type, self._launchers[pool_type].build(run))

    def room(self, seconds: float) -> int:
        """See the port: as much as the slowest platform takes, since nobody knows yet which runs come."""
        return min(launcher.room(seconds) for launcher in self._launchers.values())

    def launch(self, request: PoolLaunch, key: str, start_until: datetime) -> str:
        """See the port."""
        return self._launchers[request.pool_type].launch(request.request, key, start_until)

    def find_alive(self, run_id: str) -> Sighting | None:
        """See the port; all platforms are asked, as the run's pool may have been of another type."""
        found = (launcher.find_alive(run_id) for launcher in self._launchers.values())
        return next((sighting for sighting in found if sighting), None)

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """See the port; what a platform cannot be asked about has that for its trouble, unless none can be asked."""
        seen: list[Sighting] = []
        troubles: list[LaunchError] = []
        asked = [(launcher, own) for kind, launcher in self._by_kind().items() if (own := _of_kind(kind, texts))]
        for launcher, own in asked:
            try:
                seen += launcher.look_at(own)
            except LaunchError as error:
                troubles.append(error)
                seen += [Sighting("", None, text, trouble=str(error)) for text in own]
        if troubles and len(troubles) == len(asked):
            raise troubles[0]
        return seen

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        """See the port."""
        return [text for launcher in self._launchers.values() for text in launcher.read_events(bodies)]

    def list_alive(self) -> list[Sighting]:
        """See the port."""
        return [sighting for launcher in self._launchers.values() for sighting in launcher.list_alive()]

    def stop(self, sighting: Sighting, reason: str) -> None:
        """See the port."""
        self._by_kind()[sighting.text.split(" ")[0]].stop(sighting, reason)

    def _by_kind(self) -> dict[str, Launcher]:
        return {KINDS[pool_type]: launcher for pool_type, launcher in self._launchers.items()}


def _of_kind(kind: str, texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.startswith(f"{kind} ")]
