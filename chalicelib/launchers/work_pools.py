"""Several platforms as one: each flow run goes to the launcher of its work pool's type, and each text back to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from chalicelib.errors import LaunchError, LaunchForbidden, LaunchUnknown, SettingsError, UnsupportedRun
from chalicelib.flow_runs import FlowRun, Place
from chalicelib.ports import Launcher
from chalicelib.sightings import Sighting

LOGGER = logging.getLogger(__name__)
Answered = TypeVar("Answered")

KINDS = {"ecs": "Task", "kubernetes": "Job", "process": "Process"}
"""The first word of what a launcher calls a launch, by the type of its work pools."""


KNOWN_RUNS = 100_000
"""Of how many runs it is remembered where they belong, some 20 MB; then it is asked anew."""


@dataclass(frozen=True)
class PoolLaunch:
    """A launch request and the type of work pool whose launcher takes it."""

    pool_type: str
    request: Any


class WorkPoolLauncher:
    """The launchers of all types of work pools that this agent can serve, each made when its type first occurs.

    `makers` make them, by type; `present_types` answers the types of the pools that are served now.
    """

    def __init__(
        self, makers: Mapping[str, Callable[[], Launcher]], present_types: Callable[[], Collection[str]]
    ) -> None:
        self._makers = makers
        self._present_types = present_types
        self._made: dict[str, Launcher] = {}
        self._types: dict[str, str] = {}

    @property
    def place(self) -> Place:
        """Nowhere in particular: every work pool says itself where its runs go."""
        return Place("work-pools", ",".join(sorted(self._makers)))

    def build(self, run: FlowRun) -> PoolLaunch:
        """See the port. Raises UnsupportedRun also for a work pool of a type that nobody here launches.

        A platform that the settings do not suffice for defers its own runs, not those of the other pools.
        """
        pool = run.job.pool if run.job else {}
        pool_type = str(pool.get("type"))
        if pool_type not in self._makers:
            known = ", ".join(sorted(self._makers))
            raise UnsupportedRun(f"work pool {pool.get('name')} is of type {pool_type}; this agent serves {known}")
        self._learn(run.id, pool_type)
        try:
            return PoolLaunch(pool_type, self._launcher(pool_type).build(run))
        except SettingsError as error:
            raise LaunchForbidden(f"Work pool {pool.get('name')} cannot be served: {error}") from error

    def room(self, seconds: float) -> int:
        """See the port: as much as the slowest platform takes, since nobody knows yet which runs come."""
        # A new process that recovers has made none yet.
        made = [launcher.room(seconds) for launcher in self._made.values()]
        return min(made or self._ask(lambda each: each.room(seconds)), default=1)

    def launch(self, request: PoolLaunch, key: str, start_until: datetime) -> str:
        """See the port."""
        return self._launcher(request.pool_type).launch(request.request, key, start_until)

    def find_alive(self, run_id: str) -> Sighting | None:
        """See the port; of a run that nothing is known of all platforms are asked."""
        known = self._types.get(run_id)
        answers = self._ask(lambda each: each.find_alive(run_id), [known] if known else self._makers)
        return next((sighting for sighting in answers if sighting), None)

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """See the port; what a platform cannot be asked about has that for its trouble, unless none can be asked."""
        seen: list[Sighting] = []
        troubles: list[LaunchError] = []
        asked = [(pool_type, own) for pool_type in self._makers if (own := _of_type(pool_type, texts))]
        for pool_type, own in asked:
            try:
                found = self._launcher(pool_type).look_at(own)
            except (LaunchError, SettingsError) as error:
                troubles.append(LaunchUnknown(str(error)))
                seen += [Sighting("", None, text, trouble=str(error)) for text in own]
                continue
            seen += found
            for sighting in found:
                self._learn(sighting.run_id, pool_type)
        if troubles and len(troubles) == len(asked):
            raise troubles[0]
        return seen

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        """See the port."""
        return [text for texts in self._ask(lambda each: each.read_events(bodies)) for text in texts]

    def list_alive(self) -> list[Sighting]:
        """See the port."""
        return [sighting for sightings in self._ask(lambda each: each.list_alive()) for sighting in sightings]

    def stop(self, sighting: Sighting, reason: str) -> None:
        """See the port."""
        self._launcher(next(each for each in self._makers if _of_type(each, [sighting.text]))).stop(sighting, reason)

    def _launcher(self, pool_type: str) -> Launcher:
        if pool_type not in self._made:
            self._made[pool_type] = self._makers[pool_type]()
        return self._made[pool_type]

    def _learn(self, run_id: str, pool_type: str) -> None:
        """Remember where a run belongs, so that no other platform's trouble is its own."""
        if len(self._types) >= KNOWN_RUNS:
            self._types.clear()
        self._types[run_id] = pool_type

    def _ask(self, ask: Callable[[Launcher], Answered], types: Iterable[str] = ()) -> Iterator[Answered]:
        """The answers of platforms in use; one that the settings do not suffice for has launched nothing either."""
        in_use = (each for each in types or self._makers if each in self._made or each in self._present_types())
        for pool_type in in_use:
            try:
                yield ask(self._launcher(pool_type))
            except SettingsError as error:
                LOGGER.warning("Work pools of type %s cannot be served: %s", pool_type, error)


def _of_type(pool_type: str, texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.startswith(f"{KINDS[pool_type]} ")]
