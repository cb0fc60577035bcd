"""Why what was promised is not so, where the reason is known."""

from __future__ import annotations

from collections.abc import Mapping

_OF_THE_START = (
    "more than half of it is Python and `requests`, on which the agent is built; the rest is the agent's own "
    "modules, and on Prefect 1 the two requests before the poll, which need each other's answers; the peer makes three"
)

_OF_THE_RATE = (
    "of what a batch of 25 takes 60 ms are its two round trips, and the rest is CPU of the doubles and of ours, on a "
    "machine that is shared: the same code served 177 to 217 a second in runs of one day, and the peer was slower too "
    "when it was slow"
)

SHORTFALLS: Mapping[tuple[str, str], str] = {
    ("drain", "runs a second"): _OF_THE_RATE,
    ("kubernetes", "runs a second"): _OF_THE_RATE,
    ("start", "Prefect 1 on ECS: start, of the best peer's"): _OF_THE_START,
    ("start", "Prefect 1 on Kubernetes: start, of the best peer's"): (
        f"it is held against the quickest of all peers, the ECS agent; {_OF_THE_START}"
    ),
    ("start", "a work pool on ECS: start, of the best peer's"): (
        f"it is held against the quickest of all peers, an agent of Prefect 1; {_OF_THE_START}"
    ),
    ("pools", "times the worker's rate"): (
        "the server takes 30 ms of CPU for each run, in one process: more than some 33 a second nobody gets out of it"
    ),
    ("lateness", "ad hoc, busy: lateness, half of the runs"): (
        "nobody asks between two ticks of a stage, which are 10 s apart; with `AGENT_LINGER_SECONDS`, or as a process, "
        "the agent does"
    ),
    ("lateness", "ad hoc, sparse: lateness, half of the runs"): (
        "by chance: of some 27 runs the middle one was 3.3, 5.0 and 5.5 s late in three measurements, as the waits "
        "between the polls of a process grow to 10 s, like the real agent's"
    ),
    ("pools-lateness", "ad hoc, busy: lateness, half of the runs"): (
        "between the poll and RunTask are two requests in turn, to a server that is busy meanwhile: it checks each run "
        "that is created against the pool's template"
    ),
    ("pool-growth", "100 pools, 100 due runs: requests to Prefect a run"): (
        "there is one run in each pool, and a process that begins tells each pool that it lives, and polls it"
    ),
}
"""By sheet and quantity, a sentence without its full stop; it is shown only while the promise does not hold."""
