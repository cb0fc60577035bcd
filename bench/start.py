"""From the start of the process to its first poll, beside the real agent of Prefect 1.4.1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median

from bench.results import Result
from bench.surroundings import Surroundings, surroundings, wait_until

PAIRS = 5
POLL = "get_runs_in_queue"


def measure_start() -> list[Result]:
    """In turn ours and theirs, after one round that only warms the disk's cache and writes the bytecode."""
    with surroundings() as place:
        commands = [[*command, "--max-polls", "1"] for command in (place.ours, place.prefects)]
        rounds = [[_seconds_to_poll(place, command) for command in commands] for _ in range(PAIRS + 1)][1:]
    ours, theirs = (median(column) for column in zip(*rounds, strict=True))
    ratio = ours / theirs
    return [
        Result(f"prefect-agent start ecs, median of {PAIRS}", f"{ours:.3f} s"),
        Result(f"prefect agent ecs start (1.4.1), median of {PAIRS}", f"{theirs:.3f} s"),
        Result("ratio", f"{ratio:.2f}", "under 0.5", ratio < 0.5),
        Result("ratios of the pairs", " ".join(f"{ours / theirs:.2f}" for ours, theirs in rounds)),
    ]


def _seconds_to_poll(place: Surroundings, command: Sequence[str]) -> float:
    place.forget()
    begun = datetime.now(UTC)
    with place.running(command) as process:
        wait_until(lambda: POLL in place.requests(), process)
    poll = next(request for request in place.prefect.requests if POLL in request.field_names)
    return (poll.time - begun).total_seconds()
