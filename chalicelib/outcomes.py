"""What became of each flow run in a tick, and the report of the whole tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchRejected
from chalicelib.flow_runs import Claim, FlowRun
from chalicelib.sightings import Consequence


class Answer(Enum):
    """The platform's three answers, yes, and the one way a run does not get as far as the platform."""

    LAUNCHED = "launched"
    REFUSED_FOR_GOOD = "refused_for_good"
    REFUSED_FOR_NOW = "given_back"
    UNKNOWN = "unknown"
    IMPOSSIBLE = "impossible"
    """The run cannot be built into a launch request; it was never claimed."""


def answer_of(error: LaunchError) -> Answer:
    """Which of the three answers an error of the platform is."""
    if isinstance(error, LaunchRejected):
        return Answer.REFUSED_FOR_GOOD
    return Answer.REFUSED_FOR_NOW if isinstance(error, LaunchDeferred) else Answer.UNKNOWN


@dataclass(frozen=True)
class Outcome:
    """What became of one flow run; `claim` is None when it was never claimed.

    `text` is the identification of the deployment (`Task arn:...`) when launched, else the reason.
    `agent_fault` says that the reason is the agent's own configuration, not this run. A refusal for now `counts`
    towards the deadline of the run unless the reason is not the run's. `late_seconds` is how long after its time this
    launch was answered for.
    """

    run: FlowRun
    answer: Answer
    text: str
    claim: Claim | None = None
    agent_fault: bool = False
    counts: bool = True
    late_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Build:
    """One run's launch request, or the outcome that it has without one. `claim` is None until the run is claimed."""

    run: FlowRun
    claim: Claim | None = None
    request: Any = None
    refusal: Outcome | None = None


@dataclass(frozen=True)
class Due:
    """What is due, when that was read, and what became of earlier runs and is still to be recorded."""

    runs: Sequence[FlowRun]
    read_at: datetime
    unrecorded: Sequence[Outcome] = ()


@dataclass
class TickReport:
    """What a tick saw and did; numbers are flow runs, `errors` are one line each."""

    claimed: int = 0
    recovered: int = 0
    answers: Counter[Answer] = field(default_factory=Counter)
    stops: Counter[Consequence] = field(default_factory=Counter)
    """What followed from launches that had ended."""
    strays: int = 0
    """What runs although its flow run is long finished."""
    errors: list[str] = field(default_factory=list)
    agent_fault: str | None = None
    """Why nothing more may be claimed: the agent itself is misconfigured."""
    late_seconds: list[float] = field(default_factory=list)
    """Of each launch, how long after the run's time it was."""
    backlog_age_seconds: float = 0.0
    """For how long the oldest of the runs that are due and not started has been due; 0 when there is none."""
    _tried: set[tuple[str, int]] = field(default_factory=set)
    _refused_ids: set[str] = field(default_factory=set)

    @property
    def found(self) -> int:
        """How many due flow runs this tick looked at."""
        return len(self._tried)

    def untried(self, runs: Iterable[FlowRun]) -> list[FlowRun]:
        """Those of `runs` that this tick has not looked at; one that entered another state since is another matter."""
        return [run for run in runs if (run.id, run.version) not in self._tried and run.id not in self._refused_ids]

    def add_tried(self, runs: Iterable[FlowRun]) -> None:
        """Remember that these runs were looked at, whatever comes of it."""
        self._tried.update((run.id, run.version) for run in runs)

    def add_refused(self, run_ids: Iterable[str]) -> None:
        """Remember that these were not to be had: an API that puts them off would refuse them again and again."""
        self._refused_ids.update(run_ids)

    @property
    def tried_ids(self) -> set[str]:
        """The runs that this tick has looked at, in whatever state."""
        return {run_id for run_id, _ in self._tried}

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Count what became of some runs."""
        for outcome in outcomes:
            self.answers[outcome.answer] += 1
            self.late_seconds += [] if outcome.late_seconds is None else [outcome.late_seconds]
            if outcome.agent_fault:
                self.agent_fault = outcome.text
                self.errors.append(f"This agent is misconfigured, no more is claimed: {outcome.text}")

    def add_backlog(self, runs: Iterable[FlowRun], now: datetime) -> None:
        """Note for how long these runs, which were read last and are left, have been due."""
        ages = [(now - run.start_time).total_seconds() for run in runs]
        self.backlog_age_seconds = max([0.0, *ages])

    def add_stops(self, consequences: Iterable[Consequence]) -> None:
        """Count what followed from the ends of some launches."""
        self.stops.update(each for each in consequences if each is not Consequence.NOTHING)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON, the return value of a tick's handler."""
        answers = {answer.value: self.answers[answer] for answer in Answer}
        return {
            "found": self.found,
            "claimed": self.claimed,
            "recovered": self.recovered,
            **answers,
            "stopped": {consequence.value: count for consequence, count in self.stops.items()},
            "strays": self.strays,
            "errors": list(self.errors),
        }
