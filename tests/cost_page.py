"""The page `docs/cost.md`: `python -m tests.cost_page > docs/cost.md` writes it.

How much work a tick is was measured (`python -m bench.cost`), what there is to pay for stands in the templates, and
the rest is named here: prices, and what is taken for granted of a network and of flow runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from bench.cost import MEASUREMENTS, RUNS_IN_A_BUSY_TICK
from chalicelib.agent import CLAIM_MARGIN_SECONDS
from chalicelib.outcomes import TickReport
from chalicelib.telemetry import METRICS, metric_values
from chalicelib.ticks import RECORDING_SECONDS
from tests.roles import CORE, read_template

HOURS, DAYS = 730, 730 / 24
MINUTES = HOURS * 60
RUNS_A_DAY = (0, 1_000, 100_000)
CADENCES = {"every 10 s": 10, "every 60 s": 60}
FUNCTION_SECONDS = 60

PRICES_DATE = "2026-11-21"


class Price(NamedTuple):
    """USD for one `unit`, what is free of it in every month, and the page of AWS's that says so."""

    usd: float
    unit: str
    free: float
    page: str


PRICES = {
    "Lambda, arm64, duration": Price(0.0000133334, "GB-second", 400_000, "https://aws.amazon.com/lambda/pricing/"),
    "Lambda, requests": Price(0.20 / 1e6, "request", 1e6, "https://aws.amazon.com/lambda/pricing/"),
    "SQS, standard queues": Price(0.40 / 1e6, "request", 1e6, "https://aws.amazon.com/sqs/pricing/"),
    "CloudWatch, logs taken in": Price(0.50, "GB", 5, "https://aws.amazon.com/cloudwatch/pricing/"),
    "CloudWatch, logs kept": Price(0.03, "GB-month", 5, "https://aws.amazon.com/cloudwatch/pricing/"),
    "CloudWatch, alarms": Price(0.10, "alarm's metric", 10, "https://aws.amazon.com/cloudwatch/pricing/"),
    "CloudWatch, metrics of one's own": Price(0.30, "metric", 10, "https://aws.amazon.com/cloudwatch/pricing/"),
    "CloudWatch, dashboards": Price(3.00, "dashboard", 3, "https://aws.amazon.com/cloudwatch/pricing/"),
    "Secrets Manager": Price(0.40, "secret", 0, "https://aws.amazon.com/secrets-manager/pricing/"),
    "Fargate, vCPU": Price(0.04048, "hour", 0, "https://aws.amazon.com/fargate/pricing/"),
    "Fargate, memory": Price(0.004445, "GB-hour", 0, "https://aws.amazon.com/fargate/pricing/"),
    "VPC, interface endpoint": Price(0.01, "hour and zone", 0, "https://aws.amazon.com/privatelink/pricing/"),
    "VPC, NAT gateway": Price(0.045, "hour", 0, "https://aws.amazon.com/vpc/pricing/"),
}
"""List prices of us-east-1, as they were known on PRICES_DATE; not fetched by this script."""

RUNNING, WATCHING = tuple(PRICES)[:5], tuple(PRICES)[5:9]
"""Compute, queue and logs; alarms, metrics, dashboard and secret."""

MB_OF_A_VCPU = 1769
API_SECONDS, RUN_TASK_SECONDS, LAUNCHES_PER_SECOND = 0.1, 1, 20
SWEEP_SECONDS_A_TASK, TASK_MINUTES = 0.01, 10
NEW_CONTAINERS_A_DAY, COLD_SECONDS = 48, 1.0
POLLERS, POLL_SECONDS, QUEUES = 5, 20, 2
TICK_LINE_BYTES, RUN_LINE_BYTES, PLATFORM_BYTES = 1024, 700, 300


@dataclass(frozen=True)
class Month:
    """What a month uses at so many seconds from tick to tick and so many runs a day, in the units of PRICES."""

    cadence_seconds: int
    runs_a_day: int
    memory_mb: int
    measured: Mapping[str, Any]
    template: Mapping[str, Any]

    @property
    def ticks(self) -> float:
        """Scheduled and woken."""
        return HOURS * 3600 / self.cadence_seconds

    @property
    def runs(self) -> float:
        """In the whole month."""
        return self.runs_a_day * DAYS

    def used(self) -> dict[str, float]:
        """How much of each thing that is paid for by use or by being there."""
        invocations = self.ticks + self.runs
        gigabytes = (self.ticks * TICK_LINE_BYTES + self.runs * RUN_LINE_BYTES + invocations * PLATFORM_BYTES) / 1e9
        kinds = [each["Properties"] for each in self.template.values() if each["Type"] == "AWS::CloudWatch::Alarm"]
        watched = [metric for alarm in kinds for metric in alarm.get("Metrics", [{"MetricStat": alarm}])]
        return {
            "Lambda, arm64, duration": self._seconds() * self.memory_mb / 1024,
            "Lambda, requests": invocations,
            "SQS, standard queues": self._queue_requests(),
            "CloudWatch, logs taken in": gigabytes,
            "CloudWatch, logs kept": gigabytes,
            "CloudWatch, alarms": len([metric for metric in watched if "MetricStat" in metric]),
            "CloudWatch, metrics of one's own": len(METRICS if self.runs else metric_values(TickReport(), 1.0)),
            "CloudWatch, dashboards": 1,
            "Secrets Manager": 1,
        }

    def cost(self, things: tuple[str, ...], has_free_tier: bool = False) -> float:
        """USD for some of the things."""
        used = self.used()
        free = {name: PRICES[name].free if has_free_tier else 0.0 for name in things}
        return sum(max(0.0, used[name] - free[name]) * PRICES[name].usd for name in things)

    def idle_seconds(self) -> float:
        """How long a woken tick with nothing due lasts."""
        return self._lasts(self.measured["idle wake"])

    def _lasts(self, measured: Mapping[str, float]) -> float:
        return float(measured["cpu_seconds"]) * MB_OF_A_VCPU / self.memory_mb + measured["requests"] * API_SECONDS

    def _seconds(self) -> float:
        """Of all invocations together."""
        idle, scheduled = self.idle_seconds(), self._lasts(self.measured["idle tick"])
        cold = float(self.measured["cold"]["cpu_seconds"]) * MB_OF_A_VCPU / self.memory_mb + COLD_SECONDS
        seconds = (self.ticks - MINUTES) * idle + MINUTES * scheduled + NEW_CONTAINERS_A_DAY * DAYS * cold
        if not self.runs:
            return seconds
        per_tick = self.runs / self.ticks
        busy = self.ticks * (1 - math.exp(-per_tick))
        at_once = self.runs / busy
        sweep = self.runs_a_day / 1440 * TASK_MINUTES * SWEEP_SECONDS_A_TASK
        stopped = self._lasts(self.measured["wake with 1 due"])
        return seconds + busy * (self._busy_seconds(at_once) - idle) + MINUTES * sweep + self.runs * stopped

    def _busy_seconds(self, at_once: float) -> float:
        """How long a tick lasts that launches so many runs, and waits for those that become due before the next."""
        one, many = self.measured["wake with 1 due"], self.measured[f"wake with {RUNS_IN_A_BUSY_TICK} due"]
        cpu = one["cpu_seconds"] + (many["cpu_seconds"] - one["cpu_seconds"]) * (at_once - 1) / (
            RUNS_IN_A_BUSY_TICK - 1
        )
        reach = min(self.cadence_seconds, FUNCTION_SECONDS - RECORDING_SECONDS) - CLAIM_MARGIN_SECONDS
        waits = reach * at_once / (at_once + 1)
        launches = max(RUN_TASK_SECONDS, at_once / LAUNCHES_PER_SECOND)
        return waits + launches + self._lasts({"cpu_seconds": cpu, "requests": one["requests"]})

    def _queue_requests(self) -> float:
        polls = QUEUES * POLLERS * HOURS * 3600 / POLL_SECONDS
        wakeups = self.ticks - MINUTES
        batches = MINUTES if wakeups else 0
        return polls + batches + 2 * wakeups + 3 * self.runs


def months(cadence_seconds: int) -> list[Month]:
    """One for each of RUNS_A_DAY."""
    measured = json.loads(MEASUREMENTS.read_text())
    memory = json.loads((CORE.parents[1] / ".chalice" / "config.json").read_text())["lambda_memory_size"]
    template = read_template()
    return [Month(cadence_seconds, runs, memory, measured, template) for runs in RUNS_A_DAY]


def worker_cost(vcpus: float = 1.0, gigabytes: float = 2.0) -> float:
    """The official worker of Prefect 3 as its guide ships it, for one work pool."""
    return HOURS * (vcpus * PRICES["Fargate, vCPU"].usd + gigabytes * PRICES["Fargate, memory"].usd)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _summary() -> str:
    head = ["USD a month", *(f"{runs:,} runs a day" if runs else "idle" for runs in RUNS_A_DAY)]
    rows = []
    for name, cadence in CADENCES.items():
        for words, things in (("compute, queue, logs", RUNNING), ("everything", (*RUNNING, *WATCHING))):
            for free in (False, True):
                costs = [month.cost(things, free) for month in months(cadence)]
                row = f"{name}: {words}" + (", with the free tier" if free else "")
                rows.append([row, *(f"{cost:.2f}" for cost in costs)])
    rows.append(["the official worker as shipped, compute alone, a work pool", *[f"{worker_cost():.2f}"] * 3])
    return _table(head, rows)


def _parts() -> str:
    head = ["every 10 s, without the free tier", *(f"{runs:,} a day" if runs else "idle" for runs in RUNS_A_DAY)]
    rows = []
    for name in (*RUNNING, *WATCHING):
        cells = [
            f"{month.cost((name,)):.2f} ({month.used()[name]:,.{0 if month.used()[name] > 100 else 2}f})"
            for month in months(10)
        ]
        rows.append([f"{name}, USD ({PRICES[name].unit}s)", *cells])
    return _table(head, rows)


def _prices() -> str:
    rows = [
        [name, f"{price.usd:.12f}".rstrip("0").rstrip("."), price.unit, f"{price.free:,.0f}", price.page]
        for name, price in PRICES.items()
    ]
    return _table(["What", "USD", "for one", "free a month", "page"], rows)


_PAGE = """\
<!-- Made by `python -m tests.cost_page > docs/cost.md`. -->

# What it costs

{summary}
The flow runs themselves (Fargate, EKS) cost the same whoever starts them, and are left out. The agent serves several
work pools at this price; the worker is {worker} for each (1 vCPU, 2 GB), {small_worker} at Fargate's smallest, and its
logs, alarms and address come on top. `AGENT_CADENCE_SECONDS=60` is the cheap mode, without wake-ups: a run waits up to
a minute longer. One that was scheduled ahead does not, as a tick waits for it: that is what costs when there are many.

## In a VPC

Outside of one, nothing comes on top. For a Prefect API that only a VPC reaches, the functions need a way to AWS's own
APIs: three interface endpoints (ECS, SQS, Secrets Manager) at {endpoint} a zone each, so {one_zone} in one zone and
{two_zones} in two; or a NAT gateway at {nat} and 0.045 a GB, which Prefect Cloud needs in any case. Where either is
there already it costs nothing more. A worker in a private subnet needs the same, and ECR's two endpoints besides.

## What it is made of

{parts}
Alarms count by their metrics. A metric without a value in an hour costs nothing in it, so an idle agent pays for
{idle_metrics} of {metrics}. The log widget of the dashboard reads the logs whenever it is looked at, at 0.005 a GB.
Health, asked once a minute from outside, is 0.15 for API Gateway's 43,800 requests and as much again for the function.

## How it is worked out

Measured by `python -m bench.cost` on {date} ({machine}), in a warm container:

{work}
A new container takes {cold_ms:.0f} ms of CPU. At most {peak_mb:.0f} MB were in use.

Taken for granted, on the high side:

* {memory_mb} MB of memory, and of CPU what Lambda gives for that: {memory_mb}/{mb_of_a_vcpu} of a vCPU, each as fast
  as a core of that machine (https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html).
* {api_seconds} s for a request to Prefect, {run_task_seconds} s for a RunTask. An idle woken tick: {idle_ms:.0f} ms.
* Runs are scheduled ahead and come evenly, so that a tick waits for those that become due before the next one. Runs
  that are started by hand, or all on the full minute, cost less.
* Each run lasts {task_minutes} min, in which each scheduled tick looks at it for {sweep_ms:.0f} ms; its end is an
  invocation.
* Lambda polls each of the {queues} queues with {pollers} pollers, {poll_seconds} s each
  (https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html).
* {tick_bytes} bytes of log a tick, which a test holds an idle one to, {run_bytes} a run, and of Lambda's own
  {platform_bytes} an invocation; kept a month.
* {new_containers} new containers a day. {hours} hours a month.

## Prices

List prices of us-east-1 as known on {prices_date}, not fetched when this page is made: compare them with the pages
before you rely on them. The free tier is that of an account without anything else in it, and does not end after a year.

{prices}"""


def _facts() -> dict[str, Any]:
    month = months(10)[0]
    measured = month.measured
    zone, nat = HOURS * PRICES["VPC, interface endpoint"].usd, HOURS * PRICES["VPC, NAT gateway"].usd
    return {
        "worker": f"{worker_cost():.2f}",
        "small_worker": f"{worker_cost(0.25, 0.5):.2f}",
        "endpoint": f"{zone:.2f}",
        "one_zone": f"{3 * zone:.2f}",
        "two_zones": f"{6 * zone:.2f}",
        "nat": f"{nat:.2f}",
        "idle_metrics": len(metric_values(TickReport(), 1.0)),
        "metrics": len(METRICS),
        "cold_ms": 1000 * measured["cold"]["cpu_seconds"],
        "memory_mb": month.memory_mb,
        "mb_of_a_vcpu": MB_OF_A_VCPU,
        "idle_ms": 1000 * month.idle_seconds(),
        **{name: measured[name] for name in ("date", "machine", "peak_mb")},
    }


def _assumptions() -> dict[str, Any]:
    return {
        "api_seconds": API_SECONDS,
        "run_task_seconds": RUN_TASK_SECONDS,
        "task_minutes": TASK_MINUTES,
        "sweep_ms": 1000 * SWEEP_SECONDS_A_TASK,
        "queues": QUEUES,
        "pollers": POLLERS,
        "poll_seconds": POLL_SECONDS,
        "tick_bytes": TICK_LINE_BYTES,
        "run_bytes": RUN_LINE_BYTES,
        "platform_bytes": PLATFORM_BYTES,
        "new_containers": NEW_CONTAINERS_A_DAY,
        "hours": HOURS,
        "prices_date": PRICES_DATE,
    }


def _work() -> str:
    measured = json.loads(MEASUREMENTS.read_text())
    kinds = [name for name in measured if name.startswith(("idle", "wake"))]
    rows = [[k, f"{1000 * measured[k]['cpu_seconds']:.1f}", f"{measured[k]['requests']:g}"] for k in kinds]
    return _table(["Tick", "ms of CPU", "requests to Prefect"], rows)


def cost_page() -> str:
    """The whole page, in Markdown."""
    tables = {"summary": _summary(), "parts": _parts(), "work": _work(), "prices": _prices()}
    return _PAGE.format(**tables, **_facts(), **_assumptions())


if __name__ == "__main__":
    print(cost_page(), end="")
