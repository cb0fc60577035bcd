"""The account of a world: what became of every flow run, claim and task, as its servers have recorded it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.integration.containers import FINISHED, KEY_TAG, Containers

Row = Mapping[str, Any]

REASONS: Mapping[str, str] = {
    "The flow itself": "by its own flow",
    "TaskFailedToStart": "as its task never started",
    "has stopped": "as its task died",
    "is not known in": "as ECS has forgotten its task",
    "Refused for": "as it was refused until the deadline",
    "PlatformUnknownException": "as ECS refused it for good",
    "AccessDeniedException": "by the agent's own fault",
    "DockerRun": "as it cannot be launched here",
    "Lazarus": "as Lazarus gave it up",
}
"""What a Failed state says, and the class that this is; the first that fits."""

ORIGINS: Mapping[str, str] = {
    "Flow run scheduled": "first launches",
    "Launched again": "re-launches of what could not run",
    "Lazarus": "re-launches after Lazarus",
    "Restarted": "re-launches after a restart",
}
"""What the state says that was claimed, and what a launch from it is."""

ENDS: Mapping[str, str] = {
    "Given back": "given back",
    "Launched again": "given back",
    "Lazarus": "taken by Lazarus",
    "is cancelled": "cancelled before the launch",
    "Cancelled": "cancelled before the launch",
}
"""What the state says that followed a claim without a launch, other than Failed."""


class Account:
    """Counts, by class; `problems` has a line for everything that is lost, twice or set back."""

    def __init__(self, containers: Containers, run_ids: Sequence[str]) -> None:
        self.prefect = containers.world.prefect
        self.problems = list(containers.twice)
        self.runs: Counter[str] = Counter()
        self.claims: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.created = len(run_ids)
        keys = [_key(task) for task in containers.world.ecs.tasks()]
        self.tasks = len(keys)
        self.problems += [f"{key} started {count} tasks" for key, count in Counter(keys).items() if count > 1]
        self._launched = set(keys)
        task_run_ids = containers.task_run_ids()
        for run_id in run_ids:
            self._add_run(run_id)
            self._add_claims(run_id, self.prefect.states(run_id))
            for task_run_id in task_run_ids[run_id]:
                self._add_retries(run_id, self.prefect.states(task_run_id))

    def check(self) -> None:
        """Everything balances, and nothing was lost or done twice."""
        assert not self.problems, "\n".join(self.problems[:20])
        assert self.created == self.runs.total()
        assert self.tasks == self.launches.total() == self.claims["launched"]
        assert self.launches["first launches"] <= self.created

    def table(self) -> str:
        """The account, a line for each class."""
        lines = [f"{self.created:6} flow runs created"]
        lines += [f"{count:6}   {name}" for name, count in self.runs.most_common()]
        lines += [f"{self.claims.total():6} claims"]
        lines += [f"{count:6}   {name}" for name, count in self.claims.most_common()]
        lines += [f"{self.tasks:6} tasks"]
        lines += [f"{count:6}   {name}" for name, count in self.launches.most_common()]
        return "\n".join([*lines, f"{len(self.problems):6} lost, twice or set back"])

    def _add_run(self, run_id: str) -> None:
        row = self.prefect.flow_run(run_id)
        match row["state"]:
            case "Success":
                self.runs["succeeded"] += 1
            case "Cancelled":
                self.runs["cancelled"] += 1
            case "Failed":
                reason = _class_of(row["state_message"], REASONS)
                self.runs[f"failed {reason}"] += 1
                if not reason:
                    self.problems.append(f"{run_id} failed for no known reason: {row['state_message']}")
            case other:
                self.runs[f"lost in {other}"] += 1
                self.problems.append(f"{run_id} never ended, it is {other}: {row['state_message']}")

    def _add_claims(self, run_id: str, states: Sequence[Row]) -> None:
        for before, after in itertools.pairwise(states):
            is_said_again = (before["state"], before["message"]) == (after["state"], after["message"])
            # A request whose answer was lost is sent again, for some seconds.
            if before["state"] in FINISHED and _context(after).get("agent") and not is_said_again:
                self.problems.append(f"{run_id} was {before['state']} and set back: {after['message']}")
        for i, key in _claims(states):
            if key in self._launched:
                self.launches[self._origin(states[:i], key)] += 1
            self._count_claim(run_id, key, states[i + 1 :])

    def _add_retries(self, run_id: str, states: Sequence[Row]) -> None:
        for i, key in _claims(states):
            self.launches["retries"] += key in self._launched
            ends = [state for state in self.prefect.states(run_id) if state["state"] == "Failed"]
            # A retry that is refused for good fails its flow run, and is itself left as it is.
            refusals = [state for state in ends if _context(state).get("key") == key]
            self._count_claim(run_id, key, states[i + 1 :] or refusals)

    def _count_claim(self, run_id: str, key: str, later: Sequence[Row]) -> None:
        signed = any((line["info"] or {}).get("key") == key for line in self.prefect.logs(run_id) if _is_sign(line))
        if key in self._launched:
            self.claims["launched"] += 1
        elif signed:
            self.claims["adopted what lived"] += 1
        elif later and later[0]["state"] == "Failed":
            self.claims["refused"] += 1
        elif later and later[0]["state"] in ("Running", "Success"):
            self.claims["taken up by its own process"] += 1
        elif later and (end := _class_of(later[0]["message"], ENDS)):
            self.claims[end] += 1
        else:
            self.claims["lost"] += 1
            self.problems.append(f"The claim {key} was lost: {later[0]['message'] if later else 'nothing followed'}")

    def _origin(self, states: Sequence[Row], key: str) -> str:
        """Why there was a claim after these states; through what was given back to what it was before."""
        for state in reversed(states):
            if state["state"] == "Submitted" and str(_context(state)["key"]) in self._launched - {key}:
                return "re-launches of what was never recorded"
            if state["state"] == "Scheduled" and (origin := _class_of(state["message"], ORIGINS)):
                return origin
        raise AssertionError("a claim on a flow run that was never scheduled")


def check_settled(containers: Containers, run_id: str, is_forgotten: bool) -> None:
    """A run, some rounds after all faults, has ended with a reason, runs, waits, or is claimed and recorded.

    `is_forgotten`: so much later that ECS knows nothing any more of what has stopped before.
    """
    world = containers.world
    row, living = world.prefect.flow_run(run_id), containers.living(run_id)
    match row["state"]:
        case "Success" | "Failed":
            assert row["state"] == "Success" or row["state_message"]
        case "Cancelled":
            assert not living
        case "Cancelling":
            assert containers.works(run_id)  # It has its time of grace.
        case "Submitted":
            assert living
            assert world.has_sign(run_id, row["serialized_state"]["context"]["key"])
        case "Running":
            # Only when ECS has forgotten a task does its silence say that it has ended.
            assert living or containers.waits_for_retry(run_id) or not is_forgotten
        case "Scheduled":
            assert row["state_start_time"] > world.clock.now()
            assert row["state_message"]
        case other:
            raise AssertionError(f"{run_id} is {other}")


def _claims(states: Sequence[Row]) -> list[tuple[int, str]]:
    """Where each claim stands, for the last time: a request that was sent again claims again with the same key."""
    last = {str(_context(state)["key"]): i for i, state in enumerate(states) if state["state"] == "Submitted"}
    return [(i, key) for key, i in last.items()]


def _class_of(message: str | None, classes: Mapping[str, str]) -> str:
    return next((name for words, name in classes.items() if words in (message or "")), "")


def _context(state: Row) -> Mapping[str, Any]:
    context = (state["serialized_state"] or {}).get("context")
    return context if isinstance(context, Mapping) else {}


def _is_sign(line: Row) -> bool:
    return str(line["message"]).startswith("Submitted for execution: ")


def _key(task: Row) -> str:
    return next(str(tag["value"]) for tag in task["tags"] if tag["key"] == KEY_TAG)
