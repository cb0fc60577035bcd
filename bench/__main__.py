"""`python -m bench [NAME ...]`: measures and prints; 1 when something does not hold or cannot be measured."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence

from bench.drain import measure_drain
from bench.hardship import measure_kills, measure_limits
from bench.kubernetes import RUNS, measure_kubernetes
from bench.outcomes import measure_outcomes
from bench.results import Result, render
from bench.start import measure_start
from bench.surroundings import PREFECT1, TookTooLong
from bench.ticks import measure_batch, measure_scheduled, measure_wake
from bench.work_pools import RUNS as POOL_RUNS
from bench.work_pools import measure_work_pools
from tests.prefect3.server import PYTHON as PREFECT3

MEASUREMENTS: Mapping[str, tuple[str, Callable[[], list[Result]]]] = {
    "wake": ("A warm wake-up tick with nothing due", measure_wake),
    "scheduled": ("A scheduled tick with nothing due", measure_scheduled),
    "batch": ("25 due runs of 3 distinct definitions", measure_batch),
    "start": ("Start of the process to its first poll", measure_start),
    "drain": ("200 due runs, 30 ms a request, no pacing", measure_drain),
    "kubernetes": (f"{RUNS:,} due runs as Jobs, 30 ms a request, no pacing", measure_kubernetes),
    "limits": ("1,000 due runs under AWS's documented limits", measure_limits),
    "kills": ("200 due runs, and a process that is killed 30 times", measure_kills),
    "work-pools": (f"{POOL_RUNS:,} due runs of a work pool on ECS, beside the official worker", measure_work_pools),
    "outcomes": ("The same outcome, one process or a new one for each tick", measure_outcomes),
}
BESIDE_PREFECT1 = ("start", "drain", "kubernetes")


def main(names: Sequence[str]) -> int:
    """Measure what is named, or everything."""
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        print(f"There is no bench {unknown[0]!r}; there are {', '.join(MEASUREMENTS)}", file=sys.stderr)
        return 2
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    return max([_show(name) for name in names or MEASUREMENTS])


def _show(name: str) -> int:
    title, measure = MEASUREMENTS[name]
    if name in BESIDE_PREFECT1 and not PREFECT1.exists():
        print(f"{title} ({name})\n  not measured: no prefect 1.4.1 at {PREFECT1}; PREFECT1_PYTHON names another one\n")
        return 1
    if name == "work-pools" and not PREFECT3.exists():
        print(f"{title} ({name})\n  not measured: no Prefect 3 at {PREFECT3}; `make servers` installs it\n")
        return 1
    try:
        results = measure()
    except TookTooLong as error:
        print(f"{title} ({name})\n  not measured: {error}\n")
        return 1
    print(render(f"{title} ({name})", results), end="\n\n", flush=True)
    return 0 if all(result.holds for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
