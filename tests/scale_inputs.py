"""What the page about scale rests on: figures of the bench, documented quotas, and what is taken for granted.

A number that was not measured yet is None, and so is all that is worked out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from bench.results import ONE_PROCESS, PER_TICK, REAL_ZIP
from bench.sheets import Sheet, Sheets

FEW_ALIVE = 500
"""How many runs were alive where the memory of a tick was measured."""

Number = float | None


class Measured(NamedTuple):
    """A figure of a sheet in `docs/benchmarks`."""

    sheet: str
    agent: str
    quantity: str


class Quota(NamedTuple):
    """What is documented, and where; `raised` says whether more may be had for the asking."""

    value: float
    unit: str
    page: str
    raised: str


MEASURED: Mapping[str, Measured] = {
    "requests a run": Measured("pools", ONE_PROCESS, "requests to Prefect a run"),
    "CPU a run, ms": Measured("pools", ONE_PROCESS, "CPU a run, without the start"),
    "runs a second, work pools": Measured("pools", ONE_PROCESS, "runs a second, start included"),
    "runs a second, Prefect 1": Measured("drain", REAL_ZIP, "runs a second"),
    "runs a second of 10,000, Prefect 1": Measured(
        "growth", ONE_PROCESS, "10,000 due: runs a second, the start included"
    ),
    "requests of a woken tick, 10 pools": Measured(
        "pool-growth", ONE_PROCESS, "10 pools, an idle woken tick: requests to Prefect"
    ),
    "requests of a woken tick, 100 pools": Measured(
        "pool-growth", ONE_PROCESS, "100 pools, an idle woken tick: requests to Prefect"
    ),
    "requests of a scheduled tick, 10 pools": Measured(
        "pool-growth", PER_TICK, "10 pools, an idle scheduled tick: requests to Prefect"
    ),
    "requests of a scheduled tick, 100 pools": Measured(
        "pool-growth", PER_TICK, "100 pools, an idle scheduled tick: requests to Prefect"
    ),
    "memory of a tick, MB": Measured("alive", PER_TICK, f"{FEW_ALIVE} alive: peak memory"),
    "memory of 1,000 alive, MB": Measured("alive", PER_TICK, "memory for each further 1,000 alive"),
    "CPU of 1,000 alive, ms": Measured("alive", PER_TICK, "CPU for each further 1,000 alive"),
}

QUOTAS: Mapping[str, Quota] = {
    "Fargate vCPUs at once": Quota(
        6, "vCPU", "https://docs.aws.amazon.com/general/latest/gr/ecs-service.html", "the default; thousands on request"
    ),
    "network interfaces": Quota(
        5_000, "", "https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html", "on request"
    ),
    "launches on Fargate": Quota(
        20, "/s", "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html", "burst 100; on request"
    ),
    "RunTask and StopTask": Quota(
        40,
        "/s",
        "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html",
        "burst 100; by support",
    ),
    "DescribeTasks and ListTasks": Quota(
        20,
        "/s",
        "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html",
        "burst 100; by support",
    ),
    "RegisterTaskDefinition": Quota(
        1,
        "/s",
        "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/request-throttling.html",
        "burst 20; by support",
    ),
    "events to the queue": Quota(
        750,
        "/s",
        "https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html",
        "the smallest Regions; 18,750 in us-east-1",
    ),
    "Lambda, calls at once": Quota(
        1_000, "", "https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html", "on request"
    ),
    "requests to Prefect Cloud": Quota(
        5_000, "/min", "https://docs.prefect.io/v3/concepts/rate-limits", "Pro; Enterprise as agreed"
    ),
    "logs and events to Prefect Cloud": Quota(
        40_000, "/min", "https://docs.prefect.io/v3/concepts/rate-limits", "Pro; Enterprise as agreed"
    ),
}
QUOTAS_DATE = "2026-11-21"

VCPUS_A_RUN, GB_A_RUN = 0.25, 0.5
DEFINITIONS_A_POOL, NAME_LENGTH, OTHER_SETTINGS_BYTES = 10, 20, 1_000
REQUESTS_OF_A_FLOW, LINES_OF_A_FLOW, REQUESTS_OF_AN_END = 10, 20, 1
DESCRIBES_OF_AN_END, SECONDS_OF_AN_END, DESCRIBE_SECONDS = 1, 0.5, 0.1
POLL_SHARE = 0.5
"""How much of a cadence may go into polling all pools."""


def read_measured(sheets: Mapping[str, Sheet] | None = None) -> dict[str, Number]:
    """Each of MEASURED, None where it was not measured."""
    kept = Sheets().read() if sheets is None else sheets
    found = {
        name: kept[each.sheet].find(each.quantity, each.agent) if each.sheet in kept else None
        for name, each in MEASURED.items()
    }
    return {name: figure.value if figure else None for name, figure in found.items()}


def worked_out(calculate: Callable[..., float], *numbers: Number) -> Number:
    """What is calculated from these numbers, None without one of them."""
    known = [number for number in numbers if number is not None]
    return calculate(*known) if len(known) == len(numbers) else None
