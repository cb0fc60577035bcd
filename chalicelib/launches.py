"""Between a flow run and its platform: requests are built, claims are launched, and every answer is an outcome."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import LaunchError, LaunchForbidden, LaunchUnknown, SettingsError, UnsupportedRun, shorten
from chalicelib.flow_runs import Claim, FlowRun, claimed_version
from chalicelib.outcomes import Answer, Build, Outcome, answer_of
from chalicelib.ports import Clock, Launcher
from chalicelib.sightings import Sighting

LOGGER = logging.getLogger(__name__)

KEY_LIFE_SECONDS = 50 * 60
"""How long after its claim a launch key may be used again. ECS forgets a token an hour after its task stopped."""

HOLD_LIMIT_SECONDS = 30.0
"""A tick that stood still for longer may have lost its claims to recovery, or to Lazarus, meanwhile."""

LAUNCH_THREADS = 25
"""Launches under way at once: a page of Prefect's queue. 20 a second, which Fargate sustains, need 6 at 0.3 s each."""


class Launches:
    """Builds and launches on one platform, so that no run's trouble is another's."""

    def __init__(self, launcher: Launcher, clock: Clock) -> None:
        self.launcher = launcher
        self.clock = clock
        # None of its threads starts before there is something to launch; starting them anew for each batch cost a
        # tenth of a backlog's time.
        self._threads = ThreadPoolExecutor(LAUNCH_THREADS)

    def build_in_time(
        self, runs: Sequence[FlowRun], since: datetime, seconds: float, claims: Mapping[str, Claim] | None = None
    ) -> list[Build]:
        """The builds of as many runs as `seconds` from `since` on are enough for, with their claims; at least one."""
        builds: list[Build] = []
        for run in runs:
            if builds and self._age_seconds(since) > seconds:
                break
            builds.append(self.build(run, (claims or {}).get(run.id)))
        return builds

    def build(self, run: FlowRun, claim: Claim | None = None) -> Build:
        """The launch request of a run, or why it has none.

        Raises SettingsError when the platform cannot be spoken to.
        """
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

    def refuse(self, builds: Sequence[Build]) -> list[Outcome]:
        """The outcomes of the runs without a launch request. A task that may live is looked for before one fails."""
        return [self._look_first(build.refusal) for build in builds if build.refusal is not None]

    def _look_first(self, refusal: Outcome) -> Outcome:
        if not refusal.run.was_claimed_before:
            return refusal
        try:
            alive = self.launcher.find_alive(refusal.run.id)
        except LaunchUnknown as error:
            answer = Answer.UNKNOWN if refusal.claim else Answer.REFUSED_FOR_NOW
            return replace(refusal, answer=answer, text=str(error), agent_fault=False, counts=False)
        return adopt(refusal.run, refusal.claim, alive) if alive else refusal

    def begin(self, builds: Sequence[Build], held_since: datetime) -> list[Future[Outcome]]:
        """Begin to launch, in parallel, what is claimed and has a request; the claims were ours at `held_since`."""
        return [
            self._threads.submit(self._launch, build.claim, build.request, held_since)
            for build in builds
            if build.claim and build.refusal is None
        ]

    def _launch(self, claim: Claim, request: Any, held_since: datetime) -> Outcome:
        """Launch a claim that was known to be ours at `held_since`."""
        try:
            is_key_old = self._age_seconds(claim.claimed_at) > KEY_LIFE_SECONDS
            if (claim.run.was_claimed_before or is_key_old) and (alive := self.launcher.find_alive(claim.run.id)):
                return adopt(claim.run, claim, alive)
            if is_key_old:
                reason = "It was claimed long ago, and nothing of it runs"
                return Outcome(claim.run, Answer.REFUSED_FOR_NOW, reason, claim, counts=False)
            start_until = held_since + timedelta(seconds=HOLD_LIMIT_SECONDS)
            text = self.launcher.launch(request, claim.key, start_until)
            late_seconds = self._age_seconds(claim.run.start_time)
            return Outcome(claim.run, Answer.LAUNCHED, text, claim, late_seconds=late_seconds)
        except LaunchError as error:
            return Outcome(claim.run, answer_of(error), str(error), claim, isinstance(error, LaunchForbidden))
        except Exception as error:
            # Nobody knows how far it came: the claim is kept, and its key makes another try harmless.
            LOGGER.exception("Launch broke off", extra={"flow_run_id": claim.run.id})
            return Outcome(claim.run, Answer.UNKNOWN, shorten(repr(error)), claim)

    def _age_seconds(self, moment: datetime) -> float:
        return (self.clock.now() - moment).total_seconds()


def adopt(run: FlowRun, claim: Claim | None, alive: Sighting) -> Outcome:
    """The outcome of a run of which something lives that an earlier claim, or this one, launched."""
    is_own = claim is not None and alive.key == claim.key
    has_begun = run.is_retry or run.begun_version > (claimed_version(alive.key, run.id) if alive.key else 0)
    if claim is None or ((has_begun or run.job) and not is_own):
        # A container that has begun with the flow would not begin again: the run is launched when that one has ended.
        # One of a work pool that has not begun yet begins with a run that waits, whoever holds no claim on it.
        return Outcome(
            run, Answer.REFUSED_FOR_NOW, f"An earlier {alive.text} of it has not ended yet", claim, counts=False
        )
    return Outcome(run, Answer.LAUNCHED, alive.text, claim)
