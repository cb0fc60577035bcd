"""The sweep: once a minute, what runs is compared with what Prefect knows of it, and cancelled runs are ended.

It makes up for lost events of the platform, tells the API that a launch is on its way, stops what somebody cancelled,
and finds what runs although its flow run is long over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from chalicelib.errors import AgentError, LaunchError, PrefectError, shorten
from chalicelib.flow_runs import Place
from chalicelib.outcomes import TickReport
from chalicelib.ports import Clock, Launcher, PrefectAPI
from chalicelib.sightings import Consequence, Launched, Phase, Sighting, Stop

LOGGER = logging.getLogger(__name__)

FORGOTTEN_SECONDS = 60 * 60
"""From which age on a launch that its platform does not know has ended: ECS shows a stopped task for about an hour."""

SILENCE_SECONDS = 4 * 60
"""How long a launch may be on its way before the API hears of it again; Prefect 1's Lazarus takes it after 10 min."""

STRAYS_MINUTES = 5
"""How long in every hour it is looked for what runs without need: not urgent, and it costs a look at everything."""


@dataclass(frozen=True)
class Manners:
    """How a flow is ended: after `cancel_grace_seconds` in which it may end by itself.

    `strays`: what becomes of what still runs an hour after its flow run has finished: `ignore`, `report` or `stop`.
    `linger_seconds`: for how long a tick that has launched something asks again for what follows.
    """

    cancel_grace_seconds: float = 60.0
    strays: str = "report"
    linger_seconds: float = 0.0


class Sweep:
    """Looks at what was launched. It keeps nothing between two ticks."""

    def __init__(self, prefect: PrefectAPI, launcher: Launcher, clock: Clock, manners: Manners) -> None:
        self.prefect = prefect
        self.launcher = launcher
        self.clock = clock
        self.manners = manners

    def run(self, launched: Sequence[Launched], report: TickReport) -> None:
        """Look at all these launches, and at times for strays; trouble stands in the report's errors."""
        for look in (self._look_at_launches, self._look_for_strays):
            try:
                look(launched, report)
            except AgentError as error:
                report.errors.append(f"The sweep is not complete: {error}")
            except Exception as error:
                # What the tick has done is done, and its report must tell of it.
                LOGGER.exception("The sweep broke off")
                report.errors.append(shorten(f"The sweep broke off: {error!r}"))

    def heed(self, sightings: Sequence[Sighting], alive: Sequence[Sighting] = ()) -> list[Consequence]:
        """Let Prefect know what has stopped; what followed for each sighting. Raises PrefectError."""
        consequences = self.prefect.record_stops(sightings, alive) if sightings or alive else []
        for sighting, consequence in zip(sightings, consequences, strict=True):
            if consequence is not Consequence.NOTHING and sighting.stop:
                _warn(f"Flow run {sighting.run_id} {consequence.value}: {sighting.stop.reason}", sighting)
        return consequences

    def _look_at_launches(self, launched: Sequence[Launched], report: TickReport) -> None:
        seen = self.launcher.look_at([launch.text for launch in launched if launch.text])
        troubles = {sighting.text: sighting.trouble for sighting in seen if sighting.trouble}
        report.errors += sorted({f"The sweep is not complete: {trouble}" for trouble in troubles.values()})
        pairs = self._sight([launch for launch in launched if launch.text not in troubles], seen, report)
        stops = [sighting for _, sighting in pairs if sighting and sighting.stop]
        gone = [launch for launch, sighting in pairs if not sighting and self._is_over(launch)]
        stops += [vanished(launch, self.launcher.place) for launch in gone]
        alive = [sighting for launch, sighting in pairs if sighting and self._is_unheard(launch, sighting)]
        self._stop_cancelled(pairs, report)
        report.add_stops(self.heed(stops, alive))

    def _sight(
        self, launched: Sequence[Launched], seen: Sequence[Sighting], report: TickReport
    ) -> list[tuple[Launched, Sighting | None]]:
        known = {(sighting.run_id, sighting.text): sighting for sighting in seen}
        pairs: list[tuple[Launched, Sighting | None]] = []
        for launch in launched:
            sighting = known.get((launch.run_id, launch.text))
            if self._is_in_doubt(launch, sighting):
                try:
                    sighting = self.launcher.find_alive(launch.run_id) or sighting
                except LaunchError as error:
                    report.errors.append(f"Flow run {launch.run_id} is not looked at: {error}")
                    continue
            # What was adopted bears the key of an earlier claim, and was recorded as the launch of this one.
            pairs.append((launch, replace(sighting, key=launch.key or sighting.key) if sighting else None))
        return pairs

    def _is_in_doubt(self, launch: Launched, sighting: Sighting | None) -> bool:
        """Whether something else of the run may live: a launch whose tick did not live to record it."""
        if sighting is None:
            return not launch.text or self._is_over(launch)
        if launch.phase is Phase.CANCELLED and self._age_seconds(launch) > SILENCE_SECONDS:
            return False  # It was looked for often enough by then.
        return bool(sighting.stop and not sighting.stop.went_well and launch.phase is not Phase.WAITING)

    def _is_over(self, launch: Launched) -> bool:
        # Where nothing was ever recorded of a launch, and nothing of it lives, there is nothing to wait for.
        is_void = not launch.text and launch.phase is Phase.CANCELLING
        return is_void or self._age_seconds(launch) > FORGOTTEN_SECONDS

    def _is_unheard(self, launch: Launched, sighting: Sighting) -> bool:
        is_silent = launch.phase is Phase.WAITING and self._age_seconds(launch) > SILENCE_SECONDS
        return sighting.stop is None and (is_silent or not launch.text)

    def _stop_cancelled(self, pairs: Iterable[tuple[Launched, Sighting | None]], report: TickReport) -> None:
        ended = [(launch, sighting) for launch, sighting in pairs if sighting and self._is_to_end(launch, sighting)]
        try:
            # Whoever has restarted such a run since it was read needs what was seen: launched anew, or adopted.
            cancelled = set(self.prefect.find_own(self.launcher.place).launched if ended else ())
        except PrefectError as error:
            report.errors.append(f"What was cancelled is not stopped: {error}")
            return
        for launch, sighting in ended:
            if launch in cancelled:
                self._stop(sighting, "The flow run was cancelled", report)

    def _is_to_end(self, launch: Launched, sighting: Sighting) -> bool:
        if sighting.stop or sighting.key is None or launch.phase not in (Phase.CANCELLING, Phase.CANCELLED):
            return False
        return not sighting.is_running or self._age_seconds(launch) > self.manners.cancel_grace_seconds

    def _look_for_strays(self, _: Sequence[Launched], report: TickReport) -> None:
        if self.manners.strays == "ignore" or self.clock.now().minute >= STRAYS_MINUTES:
            return
        alive = {sighting.run_id: sighting for sighting in self.launcher.list_alive()}
        before = self.clock.now() - timedelta(seconds=FORGOTTEN_SECONDS)
        for run_id in sorted(self.prefect.find_finished(list(alive), before)) if alive else ():
            report.strays += 1
            _warn(f"{alive[run_id].text} runs, and flow run {run_id} is long finished", alive[run_id])
            if self.manners.strays == "stop":
                self._stop(alive[run_id], "The flow run has finished long ago", report)

    def _stop(self, sighting: Sighting, reason: str, report: TickReport) -> None:
        try:
            self.launcher.stop(sighting, reason)
        except AgentError as error:
            report.errors.append(f"{sighting.text} of flow run {sighting.run_id} cannot be stopped: {error}")
        else:
            _warn(f"{sighting.text} of flow run {sighting.run_id} is stopped: {reason}", sighting)

    def _age_seconds(self, launch: Launched) -> float:
        return (self.clock.now() - launch.since).total_seconds()


def _warn(text: str, sighting: Sighting) -> None:
    LOGGER.warning(text, extra={"flow_run_id": sighting.run_id, "launch_key": sighting.key})


def vanished(launch: Launched, place: Place) -> Sighting:
    """The sighting of a launch that its platform does not know (any more): it has ended, nobody knows how."""
    reason = f"{launch.text or 'Nothing of it'} is not known in {place} (any more): it has ended, and nobody told how"
    return Sighting(launch.run_id, launch.key or None, launch.text, stop=Stop(reason, has_run=True))
