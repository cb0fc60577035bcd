"""The tick: what this program does, from the first poll to the report.

repeat until a poll finds nothing new or the deadline is near
    POLL     which flow runs of ours are due, or will be before the deadline
    BUILD    each into a launch request; what cannot be built fails without a launch
    CLAIM    as many as can be launched in time; what somebody else took is skipped
    LAUNCH   in parallel, each with its launch key
    RECORD   all outcomes, together with the next poll
and before that, once a minute
    RECOVER  what an earlier tick claimed and did not live to launch, or to record
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import (
    LaunchError,
    LaunchForbidden,
    LaunchUnknown,
    PrefectError,
    SettingsError,
    UnsupportedRun,
    shorten,
)
from chalicelib.flow_runs import Alive, Claim, FlowRun
from chalicelib.outcomes import Answer, Build, Outcome, TickReport, answer_of
from chalicelib.ports import Clock, Launcher, PrefectAPI

LOGGER = logging.getLogger(__name__)

CLAIM_MARGIN_SECONDS = 2.0
"""A tick stops claiming this long before its deadline, which is when the next tick begins."""

READING_AGE_LIMIT_SECONDS = 5.0
"""No API protects a claim against a stale reading, so what was read longer ago is read again."""

KEY_LIFE_SECONDS = 50 * 60
"""How long after its claim a launch key may be used again. ECS forgets a token an hour after its task stopped."""

HOLD_LIMIT_SECONDS = 30.0
"""A tick that stood still for longer may have lost its claims to recovery, or to Lazarus, meanwhile."""

LAUNCH_THREADS = 16
"""Launches under way at once. 20 a second, the most that Fargate sustains, need 6 at 0.3 s a launch."""


class Agent:
    """Starts the flow runs that are due on one platform. It keeps nothing between ticks that matters."""

    def __init__(self, prefect: PrefectAPI, launcher: Launcher, clock: Clock) -> None:
        self.prefect = prefect
        self.launcher = launcher
        self.clock = clock

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        """Start what is due, and what becomes due in time, until `deadline`; first recover orphans, if it `recovers`.

        Raises PrefectError only when the first poll fails: then nothing at all was done; and SettingsError when the
        platform cannot be spoken to, before anything is claimed. Later trouble stands in the report's errors; what it
        leaves half done is claimed, and is found again by its claim.
        """
        report = TickReport()
        last_claim = deadline - timedelta(seconds=CLAIM_MARGIN_SECONDS)
        outcomes = self._recover(last_claim, report) if recovers else []
        due = self.prefect.record_and_poll(outcomes, last_claim)
        while (runs := report.untried(due)) and self.clock.now() < last_claim and not report.agent_fault:
            try:
                outcomes = self._submit_ready(runs, last_claim, report)
                due = self.prefect.record_and_poll(outcomes, last_claim)
            except PrefectError as error:
                report.errors.append(str(error))
                break
        return report

    def preview(self, before: datetime) -> list[Build]:
        """What a tick would launch now: built, not claimed. Raises PrefectError."""
        return [self._build(run) for run in self.prefect.record_and_poll([], before)]

    def _recover(self, last_claim: datetime, report: TickReport) -> list[Outcome]:
        """Launch again, with its own key, what was claimed and shows no sign of a launch."""
        read_at = self.clock.now()
        try:
            orphans = self.prefect.find_orphans(self.launcher.place)[: self._room(last_claim)]
        except PrefectError as error:
            report.errors.append(f"Nothing is recovered: {error}")
            return []
        report.recovered = len(orphans)
        builds = [self._build(claim.run, claim) for claim in orphans]
        return self._settle([*self._refuse(builds), *self._launch_all(builds, read_at)], report)

    def _submit_ready(self, runs: Sequence[FlowRun], last_claim: datetime, report: TickReport) -> list[Outcome]:
        """Submit the runs whose time has come; while none has, wait for the first, which is then read again."""
        read_at = self.clock.now()
        ready = [run for run in runs if run.start_time <= read_at]
        if not ready:
            self.clock.sleep((min(run.start_time for run in runs) - read_at).total_seconds())
            return []
        builds = self._build_in_time(ready, read_at)
        outcomes = self._refuse(builds)
        report.add_tried(outcome.run for outcome in outcomes)
        if self._age_seconds(read_at) > READING_AGE_LIMIT_SECONDS:
            # The last one took the time. The others are read again, and are not to wait for it a second time.
            report.add_tried([builds[-1].run])
            report.errors.append(f"Building flow run {builds[-1].run.id} took too long")
        elif not any(outcome.agent_fault for outcome in outcomes):
            claimed_at = self.clock.now()
            outcomes += self._launch_all(self._claim(builds, last_claim, report), claimed_at)
        return self._settle(outcomes, report)

    def _build_in_time(self, runs: Sequence[FlowRun], read_at: datetime) -> list[Build]:
        """Builds of as many runs as there is time for before the reading is too old; of one at least."""
        builds: list[Build] = []
        for run in runs:
            if builds and self._age_seconds(read_at) > READING_AGE_LIMIT_SECONDS / 2:
                break
            builds.append(self._build(run))
        return builds

    def _build(self, run: FlowRun, claim: Claim | None = None) -> Build:
        try:
            return Build(run, claim, request=self.launcher.build(run))
        except SettingsError:
            raise
        except (UnsupportedRun, LaunchForbidden) as error:
            is_fault = isinstance(error, LaunchForbidden)
            return Build(run, claim, refusal=Outcome(run, Answer.IMPOSSIBLE, str(error), claim, is_fault))
        except LaunchError as error:
            # What it takes to build it cannot be looked up now: it makes room for the others and comes back.
            return Build(run, claim, refusal=Outcome(run, Answer.REFUSED_FOR_NOW, str(error), claim))
        except Exception as error:
            # One run's trouble is its own, also when it is one that nobody thought of.
            LOGGER.exception("Flow run cannot be built", extra={"flow_run_id": run.id})
            reason = shorten(f"Cannot be built into a launch request: {error!r}")
            return Build(run, claim, refusal=Outcome(run, Answer.IMPOSSIBLE, reason, claim))

    def _refuse(self, builds: Sequence[Build]) -> list[Outcome]:
        """The outcomes of the runs without a launch request. A task that may live is looked for before one fails."""
        return [self._look_first(build.refusal) for build in builds if build.refusal is not None]

    def _look_first(self, refusal: Outcome) -> Outcome:
        if not refusal.run.was_claimed_before:
            return refusal
        try:
            alive = self.launcher.find_alive(refusal.run)
        except LaunchUnknown as error:
            answer = Answer.UNKNOWN if refusal.claim else Answer.REFUSED_FOR_NOW
            return replace(refusal, answer=answer, text=str(error), agent_fault=False, counts=False)
        return adopt(refusal.run, refusal.claim, alive) if alive else refusal

    def _claim(self, builds: Sequence[Build], last_claim: datetime, report: TickReport) -> list[Build]:
        """Take as many runs as can be launched in time; those that became ours."""
        chosen = [build for build in builds if build.refusal is None][: self._room(last_claim)]
        if not chosen:
            return []
        report.add_tried(build.run for build in chosen)
        claims = self.prefect.claim([build.run for build in chosen], self.launcher.place)
        report.claimed += len(claims)
        by_run = {claim.run.id: claim for claim in claims}
        return [replace(build, claim=by_run[build.run.id]) for build in chosen if build.run.id in by_run]

    def _launch_all(self, builds: Sequence[Build], held_since: datetime) -> list[Outcome]:
        with ThreadPoolExecutor(LAUNCH_THREADS) as threads:
            launches = [
                threads.submit(self._launch, build.claim, build.request, held_since)
                for build in builds
                if build.claim and build.refusal is None
            ]
            return [launch.result() for launch in launches]

    def _launch(self, claim: Claim, request: Any, held_since: datetime) -> Outcome:
        """Launch a claim that was known to be ours at `held_since`."""
        try:
            is_key_old = self._age_seconds(claim.claimed_at) > KEY_LIFE_SECONDS
            if (claim.run.was_claimed_before or is_key_old) and (alive := self.launcher.find_alive(claim.run)):
                return adopt(claim.run, claim, alive)
            if is_key_old:
                reason = "It was claimed long ago, and nothing of it runs"
                return Outcome(claim.run, Answer.REFUSED_FOR_NOW, reason, claim, counts=False)
            start_until = held_since + timedelta(seconds=HOLD_LIMIT_SECONDS)
            text = self.launcher.launch(request, claim.key, start_until)
            return Outcome(claim.run, Answer.LAUNCHED, text, claim)
        except LaunchError as error:
            return Outcome(claim.run, answer_of(error), str(error), claim, isinstance(error, LaunchForbidden))
        except Exception as error:
            # Nobody knows how far it came: the claim is kept, and its key makes another try harmless.
            LOGGER.exception("Launch broke off", extra={"flow_run_id": claim.run.id})
            return Outcome(claim.run, Answer.UNKNOWN, shorten(repr(error)), claim)

    def _settle(self, outcomes: Sequence[Outcome], report: TickReport) -> list[Outcome]:
        """The outcomes as they are to be recorded, counted and logged."""
        settled = spare_the_backlog(outcomes)
        report.add(settled)
        for outcome in settled:
            level = logging.INFO if outcome.answer is Answer.LAUNCHED else logging.WARNING
            about = {"flow_run_id": outcome.run.id, "launch_key": outcome.claim.key if outcome.claim else None}
            LOGGER.log(level, "Flow run %s %s: %s", outcome.run.id, outcome.answer.value, outcome.text, extra=about)
        return settled

    def _age_seconds(self, moment: datetime) -> float:
        return (self.clock.now() - moment).total_seconds()

    def _room(self, last_claim: datetime) -> int:
        """How many launches fit in until then; one always does, or a slow platform would never be asked."""
        return max(1, self.launcher.room((last_claim - self.clock.now()).total_seconds()))


def adopt(run: FlowRun, claim: Claim | None, alive: Alive) -> Outcome:
    """The outcome of a run of which something lives that an earlier claim, or this one, launched."""
    if claim is None or (run.is_retry and alive.key != claim.key):
        # The earlier container would not run the retry: it is launched when that one has ended.
        return Outcome(
            run, Answer.REFUSED_FOR_NOW, f"An earlier {alive.text} of it has not ended yet", claim, counts=False
        )
    return Outcome(run, Answer.LAUNCHED, alive.text, claim)


def spare_the_backlog(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """A fault of the agent's own fails the first run that shows it; the others that it hit are given back."""
    first = next((outcome for outcome in outcomes if outcome.agent_fault), None)
    return [
        replace(outcome, answer=Answer.REFUSED_FOR_NOW, agent_fault=False, counts=False)
        if outcome.agent_fault and outcome is not first
        else outcome
        for outcome in outcomes
    ]
