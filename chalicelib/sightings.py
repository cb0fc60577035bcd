"""What has become of a launch: as Prefect recorded it, as the platform sees it, and what follows from both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from chalicelib.flow_runs import Claim


class Phase(Enum):
    """How far a flow run has come that this agent launched, in the words of neither API."""

    WAITING = "waiting"
    """Claimed, and its flow has not begun."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """Somebody wants it to end, and waits until that is confirmed."""
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Launched:
    """A launch of this agent's as Prefect recorded it.

    `text` is the identification of the deployment (`Task arn:...`), "" where none was recorded; `key` is "" where that
    alone says which launch it is. `since` is when the flow run entered its `phase`.
    """

    run_id: str
    key: str
    phase: Phase
    since: datetime
    text: str = ""


@dataclass(frozen=True)
class Own:
    """All that Prefect knows of this agent's claims: those without a sign of launch, and the launches."""

    orphans: tuple[Claim, ...] = ()
    launched: tuple[Launched, ...] = ()


@dataclass(frozen=True)
class Stop:
    """How something that was launched has ended.

    `reason` has the platform's own words and what to do. `has_run`: the flow's container was started at least.
    `went_well`: all containers ended with exit code 0. `passes`: the same launch would probably do better later.
    """

    reason: str
    has_run: bool
    went_well: bool = False
    passes: bool = False


@dataclass(frozen=True)
class Sighting:
    """What the platform says of one launch; `key` is None when it bears none, `stop` while it has not ended.

    `trouble` is why the platform cannot say anything of it now; then no more is known than its `text`.
    """

    run_id: str
    key: str | None
    text: str
    is_running: bool = False
    stop: Stop | None = None
    trouble: str = ""


RESUBMIT_VARIABLE = "AGENT_RESUBMIT"
"""The variable in a run's own environment that says what of it may be launched again by itself."""


class Resubmit(Enum):
    """What may be launched again by itself."""

    NEVER = "never"
    START = "start"
    """What failed before the flow began. This is so where a run says nothing."""
    RUNNING = "running"
    """Also a flow whose machine was taken away while it ran."""


@dataclass(frozen=True)
class Standing:
    """How a flow run stands in Prefect now, as far as the end of a launch matters to it.

    `phase` is None when nothing that a platform says may change it: finished, paused, rescheduled. `key` is the launch
    that it stands on, `resubmitted` how often it was launched again because a launch failed. `comes_back`: the API
    itself will bring it back, as some of it waits for a retry.
    """

    phase: Phase | None
    key: str | None = None
    resubmitted: int = 0
    resubmit: Resubmit = Resubmit.START
    comes_back: bool = False


class Consequence(Enum):
    """What the end of a launch means for its flow run."""

    NOTHING = "left_alone"
    FAIL = "failed"
    RESUBMIT = "resubmitted"
    CONFIRM = "cancelled"


RESUBMIT_BUDGET = 3
"""How often a flow run is launched again by itself before its start counts as failed."""


def consequence_of(sighting: Sighting, standing: Standing) -> Consequence:
    """What follows from a sighting for a flow run that stands like this (pure).

    A launch speaks for its run only while the run stands on it: what is old, foreign or forged changes nothing.
    """
    stop, phase = sighting.stop, standing.phase
    if stop is None or phase in (None, Phase.CANCELLED) or not sighting.key or sighting.key != standing.key:
        return Consequence.NOTHING
    if phase is Phase.CANCELLING:
        return Consequence.CONFIRM
    if phase is Phase.RUNNING and (stop.went_well or standing.comes_back):
        return Consequence.NOTHING
    may_again = standing.resubmit is Resubmit.RUNNING if phase is Phase.RUNNING else standing.resubmit.value != "never"
    if stop.passes and may_again and standing.resubmitted < RESUBMIT_BUDGET:
        return Consequence.RESUBMIT
    return Consequence.FAIL
