"""What the tick needs from the outside, in its own words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from chalicelib.flow_runs import Claim, FlowRun, Place
from chalicelib.outcomes import Outcome
from chalicelib.sightings import Consequence, Own, Sighting


class PrefectAPI(Protocol):
    """A Prefect API of either generation, seen from one agent."""

    def record_and_poll(self, outcomes: Sequence[Outcome], before: datetime) -> list[FlowRun]:
        """Write what happened, then read which flow runs of ours are due before `before`, earliest first.

        One method because a GraphQL API does both in one request. Without outcomes it only polls. Raises
        PrefectUnreachable, PrefectUnauthorized or PrefectRejected; what could not be recorded is found again by
        recovery, because a launch key never changes.
        """

    def claim(self, runs: Sequence[FlowRun], place: Place) -> list[Claim]:
        """Take these runs for this agent; only the ones that became ours come back, in the same order."""

    def find_own(self, place: Place) -> Own:
        """What this agent has claimed for `place`, and what came of it, as far as it is not over.

        The orphans are older than any tick; the launches include those of runs that were cancelled within the hour.
        """

    def record_stops(self, stops: Sequence[Sighting], alive: Sequence[Sighting] = ()) -> list[Consequence]:
        """Write what the end of each launch means for its run, as that stands now; what was written, in their order.

        What is `alive` though the API has not heard of it, or not for long, is made known to it. Raises PrefectError.
        """

    def find_finished(self, run_ids: Sequence[str], before: datetime) -> set[str]:
        """Those of these runs that had ended before `before`. Raises PrefectError."""


class Launcher(Protocol):
    """A platform that starts flow runs."""

    @property
    def place(self) -> Place:
        """Where this launcher starts flow runs."""

    def build(self, run: FlowRun) -> Any:
        """The launch request of a run: a pure function of the run and the settings, except for what it must look up.

        Raises UnsupportedRun when the run can never be launched here, LaunchDeferred when a look-up failed for now.
        """

    def room(self, seconds: float) -> int:
        """How many launches fit into so many seconds; no more are claimed."""

    def find_alive(self, run_id: str) -> Sighting | None:
        """What was once launched for this run and still lives, under whatever key; None when nothing does.

        Raises LaunchUnknown when that cannot be told.
        """

    def look_at(self, texts: Sequence[str]) -> list[Sighting]:
        """What the platform says of the launches that `launch` answered with `texts`; nothing of what it knows no more.

        Raises LaunchError when it cannot be asked; what it cannot be asked about alone is a sighting with that trouble.
        """

    def read_events(self, bodies: Sequence[str]) -> list[str]:
        """The texts of the launches that these messages of the platform's say have ended; what is not ours is left."""

    def list_alive(self) -> list[Sighting]:
        """Everything of this agent's that has not ended, whatever Prefect knows of it. Raises LaunchError."""

    def stop(self, sighting: Sighting, reason: str) -> None:
        """End what was launched; it is seen as stopped some time later. Raises LaunchError."""

    def launch(self, request: Any, key: str, start_until: datetime) -> str:
        """Start what `build` made and say what it is (`Task arn:...`); twice with one key starts it once.

        Raises LaunchRejected, LaunchDeferred or LaunchUnknown; the last also when it is later than `start_until`.
        """


class Clock(Protocol):
    """Time, so that tests can turn it."""

    def now(self) -> datetime:
        """The current time, in UTC."""

    def sleep(self, seconds: float) -> None:
        """Return after `seconds`; at once when they are not positive."""
