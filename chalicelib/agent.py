"""The tick: what this program does, from the first poll to the report.

repeat until a poll finds nothing new, or for a while nothing if the tick lingers, or the deadline is near
    POLL     which flow runs of ours are due, or will be before the deadline; again just before the first is
    BUILD    each into a launch request; what cannot be built fails without a launch
    CLAIM    at their time, as many as can be launched in time; what somebody else took is skipped
    LAUNCH   in parallel, each with its launch key
    RECORD   all outcomes, together with the next poll; in a backlog while the next ones are launched
once a minute also
    RECOVER  after the first poll: what an earlier tick claimed and did not live to launch, or to record
    SWEEP    at the end, what runs: what has ended without a word, what was cancelled, what runs without need
between ticks, when the platform says that something has ended
    HEED     what that means for its flow run
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import accumulate

from chalicelib.errors import LaunchUnknown, PrefectError
from chalicelib.flow_runs import Claim
from chalicelib.launches import Launches
from chalicelib.outcomes import Answer, Build, Due, Outcome, TickReport
from chalicelib.ports import Clock, Launcher, PrefectAPI
from chalicelib.sightings import Own
from chalicelib.sweep import Manners, Sweep

LOGGER = logging.getLogger(__name__)

CLAIM_MARGIN_SECONDS = 2.0
"""A tick stops claiming this long before its deadline, which is when the next tick begins."""

LINGER_PAUSES_SECONDS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Between the polls of a tick that lingers after its launches, as a process waits between its ticks."""

READ_AHEAD_SECONDS = 0.5
"""How long before its time a run is read for its claim: what reading and building take is then no lateness."""

READING_AGE_LIMIT_SECONDS = 5.0
"""No API protects a claim against a stale reading, so what was read longer ago is read again."""


class Agent:
    """Starts the flow runs that are due on one platform. It keeps nothing between ticks that matters."""

    def __init__(self, prefect: PrefectAPI, launcher: Launcher, clock: Clock, manners: Manners | None = None) -> None:
        self.prefect = prefect
        self.launcher = launcher
        self.clock = clock
        self.launches = Launches(launcher, clock)
        manners = manners or Manners()
        self.sweep = Sweep(prefect, launcher, clock, manners)
        pauses = zip(LINGER_PAUSES_SECONDS, accumulate(LINGER_PAUSES_SECONDS), strict=True)
        self._linger_pauses = [pause_seconds for pause_seconds, waited in pauses if waited <= manners.linger_seconds]

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        """Start what is due, and what becomes due in time, until `deadline`.

        If it `recovers`, it launches orphans before what is due, and looks at all that was launched after it.

        Raises PrefectError only when the first poll fails: then nothing at all was done; and SettingsError when the
        platform cannot be spoken to, before anything is claimed. Later trouble stands in the report's errors; what it
        leaves half done is claimed, and is found again by its claim.
        """
        report = TickReport()
        last_claim = deadline - timedelta(seconds=CLAIM_MARGIN_SECONDS)
        due = self._poll([], last_claim)
        own = self._find_own(report) if recovers else Own()
        try:
            due = self._recover(own.orphans, due, last_claim, report)
            # However long that has taken, some of what is due gets its turn.
            last_claim = max(last_claim, due.read_at + timedelta(seconds=CLAIM_MARGIN_SECONDS))
            while (goes_on := self._may_claim(due, last_claim, report)) or due.unrecorded:
                due = self._submit(due, last_claim, report) if goes_on else self._poll(due.unrecorded, last_claim)
                due = self._linger(due, last_claim, report)
        except PrefectError as error:
            report.errors.append(str(error))
        report.add_backlog(due.runs, self.clock.now())
        if recovers:
            # What may have been launched anew since it was read is no matter of the sweep yet.
            tried = report.tried_ids
            self.sweep.run([launch for launch in own.launched if launch.run_id not in tried], report)
        return report

    def heed_events(self, bodies: Sequence[str]) -> dict[str, int]:
        """Ask the platform about what these messages of its say has ended, and let Prefect know; how many ended how.

        Raises LaunchError or PrefectError: then nothing is lost if the messages come again.
        """
        texts = self.launcher.read_events(bodies)
        seen = self.launcher.look_at(texts) if texts else []
        # While something else of its run lives, such as a retry, the sweep knows better what this end means.
        stopped = [
            each for each in seen if each.stop and (each.stop.went_well or not self.launcher.find_alive(each.run_id))
        ]
        consequences = self.sweep.heed(stopped)
        for trouble in (each.trouble for each in seen if each.trouble):
            raise LaunchUnknown(trouble)
        return dict(Counter(consequence.value for consequence in consequences))

    def preview(self, before: datetime) -> list[Build]:
        """What a tick would launch now: built, not claimed. Raises PrefectError."""
        return [self.launches.build(run) for run in self.prefect.record_and_poll([], before)]

    def _find_own(self, report: TickReport) -> Own:
        try:
            return self.prefect.find_own(self.launcher.place)
        except PrefectError as error:
            report.errors.append(f"Nothing is recovered or looked at: {error}")
            return Own()

    def _recover(self, orphans: Sequence[Claim], due: Due, last_claim: datetime, report: TickReport) -> Due:
        """Launch again what was claimed and shows no sign of a launch; what is due is read again if that took long."""
        outcomes = self._launch_again(orphans, last_claim, report) if orphans else []
        return due if self._is_fresh(due) and not outcomes else self._poll(outcomes, last_claim)

    def _launch_again(self, orphans: Sequence[Claim], last_claim: datetime, report: TickReport) -> list[Outcome]:
        """Each with its own key, as many as there is time for."""
        outcomes: list[Outcome] = []
        read_at, claims = self.clock.now(), {claim.run.id: claim for claim in orphans}
        # In any order: those that are slow to build must not be the first each time.
        left = random.sample([claim.run for claim in orphans], len(orphans))
        while left and not report.agent_fault and (self.clock.now() < last_claim or not outcomes):
            chosen = left[: self._room(last_claim)]
            builds = self.launches.build_in_time(chosen, self.clock.now(), READING_AGE_LIMIT_SECONDS / 2, claims)
            launching = self.launches.begin(builds, read_at)
            outcomes += self._settle(self.launches.refuse(builds), launching, report)
            report.recovered += len(builds)
            left = left[len(builds) :]
        return outcomes

    def _poll(self, outcomes: Sequence[Outcome], last_claim: datetime) -> Due:
        """Record these outcomes and read what is due."""
        runs = self.prefect.record_and_poll(outcomes, last_claim)
        # What was put off while it was read is none of this tick's: it would wait for that.
        return Due([run for run in runs if run.start_time <= last_claim], self.clock.now())

    def _linger(self, due: Due, last_claim: datetime, report: TickReport) -> Due:
        """Where it is wanted, ask again for a while: what follows a launch is often another one."""
        for pause_seconds in self._linger_pauses:
            is_busy = due.unrecorded or report.untried(due.runs) or report.agent_fault
            if is_busy or self.clock.now() + timedelta(seconds=pause_seconds) > last_claim:
                break
            self.clock.sleep(pause_seconds)
            due = self._poll([], last_claim)
        return due

    def _may_claim(self, due: Due, last_claim: datetime, report: TickReport) -> bool:
        """Whether something new is due, read a moment ago, and there is time for it."""
        in_time = self._is_fresh(due) and self.clock.now() < last_claim
        return in_time and not report.agent_fault and bool(report.untried(due.runs))

    def _submit(self, due: Due, last_claim: datetime, report: TickReport) -> Due:
        """Submit what is due and read what is due next; in a backlog that is read while the launches are under way."""
        is_backlog = report.claimed > 0
        refused, launching = self._submit_ready(due, last_claim, report)
        if not (is_backlog and launching):
            return self._poll([*due.unrecorded, *self._settle(refused, launching, report)], last_claim)
        try:
            following = self._poll(due.unrecorded, last_claim)
        finally:
            outcomes = self._settle(refused, launching, report)
        return replace(following, unrecorded=tuple(outcomes))

    def _submit_ready(
        self, due: Due, last_claim: datetime, report: TickReport
    ) -> tuple[list[Outcome], list[Future[Outcome]]]:
        """Claim the runs whose time has come: what is refused, and the launches under way.

        While no time has come yet, it waits until just before the first, which is then read again and built.
        """
        now, runs = self.clock.now(), report.untried(due.runs)
        first = max(now, min(run.start_time for run in runs))
        if (wait_seconds := (first - now).total_seconds()) > READ_AHEAD_SECONDS:
            # What was launched before is recorded first.
            self.clock.sleep(0 if due.unrecorded else wait_seconds - READ_AHEAD_SECONDS)
            return [], []
        ready = [run for run in runs if run.start_time <= first]
        builds = self.launches.build_in_time(ready, due.read_at, READING_AGE_LIMIT_SECONDS / 2)
        refused = self.launches.refuse(builds)
        report.add_tried(outcome.run for outcome in refused)
        if self._age_seconds(due.read_at) > READING_AGE_LIMIT_SECONDS:
            # The last one took the time. The others are read again, and are not to wait for it a second time.
            report.add_tried([builds[-1].run])
            report.errors.append(f"Building flow run {builds[-1].run.id} took too long")
            return refused, []
        # A fault of the agent's own concerns the work pool that shows it; where there are none, all runs.
        faulty = {outcome.run.pool_name for outcome in refused if outcome.agent_fault}
        self.clock.sleep((first - self.clock.now()).total_seconds())
        claimed_at, sound = self.clock.now(), [build for build in builds if build.run.pool_name not in faulty]
        return refused, self.launches.begin(self._claim(sound, last_claim, report), claimed_at)

    def _claim(self, builds: Sequence[Build], last_claim: datetime, report: TickReport) -> list[Build]:
        """Take as many runs as can be launched in time; those that became ours."""
        chosen = [build for build in builds if build.refusal is None][: self._room(last_claim)]
        if not chosen:
            return []
        report.add_tried(build.run for build in chosen)
        claims = self.prefect.claim([build.run for build in chosen], self.launcher.place)
        report.claimed += len(claims)
        by_run = {claim.run.id: claim for claim in claims}
        report.add_refused(build.run.id for build in chosen if build.run.id not in by_run)
        return [replace(build, claim=by_run[build.run.id]) for build in chosen if build.run.id in by_run]

    def _settle(
        self, refused: Sequence[Outcome], launching: Sequence[Future[Outcome]], report: TickReport
    ) -> list[Outcome]:
        """The outcomes as they are to be recorded, counted and logged, once all launches have one."""
        settled = spare_the_backlog([*refused, *(launch.result() for launch in launching)])
        report.add(settled)
        for outcome in settled:
            level = logging.INFO if outcome.answer is Answer.LAUNCHED else logging.WARNING
            about = {"flow_run_id": outcome.run.id, "launch_key": outcome.claim.key if outcome.claim else None}
            LOGGER.log(level, "Flow run %s %s: %s", outcome.run.id, outcome.answer.value, outcome.text, extra=about)
        return settled

    def _is_fresh(self, due: Due) -> bool:
        return self._age_seconds(due.read_at) <= READING_AGE_LIMIT_SECONDS / 2

    def _age_seconds(self, moment: datetime) -> float:
        return (self.clock.now() - moment).total_seconds()

    def _room(self, last_claim: datetime) -> int:
        """How many launches fit in until then; one always does, or a slow platform would never be asked."""
        return max(1, self.launcher.room((last_claim - self.clock.now()).total_seconds()))


def spare_the_backlog(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """A fault of the agent's own fails the first run that shows it; the others that it hit are given back."""
    first = next((outcome for outcome in outcomes if outcome.agent_fault), None)
    return [
        replace(outcome, answer=Answer.REFUSED_FOR_NOW, agent_fault=False, counts=False)
        if outcome.agent_fault and outcome is not first
        else outcome
        for outcome in outcomes
    ]
