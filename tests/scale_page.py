"""The page `docs/scale.md`: `python -m tests.scale_page > docs/scale.md` writes it.

Its numbers are figures of the bench (`docs/benchmarks`), documented quotas, or taken for granted. They stand in
`tests/scale_inputs.py`; `tests/scale_limits.py` works out the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

from bench.cost import MEASUREMENTS
from chalicelib.agent import CLAIM_MARGIN_SECONDS
from chalicelib.prefect_api.prefect3_client import THREADS
from chalicelib.prefect_api.prefect3_pools import LEAST_POLL_LIMIT, POLL_LIMIT, POLLED_RUNS
from deploy.stage import ENVIRONMENT_BYTES
from tests import scale_inputs as given
from tests.cost_page import API_SECONDS, HOURS, MB_OF_A_VCPU, PRICES, RUNNING, WATCHING, Month, _table
from tests.roles import read_template
from tests.scale_inputs import MEASURED, QUOTAS, Number, read_measured, worked_out
from tests.scale_limits import Limit, Load, Stage, limits

RUNS_A_DAY, POOLS, PEAK = 1_000_000, 1_000, 3.0
DURATIONS = {"5 min": 300.0, "1 h": 3600.0}
CADENCES_SECONDS = (10, 15, 20, 30, 60)
NOT_MEASURED = "not measured"
Measurements = Mapping[str, Number]
"""What `read_measured` answers."""


class Plan(NamedTuple):
    """How many accounts and stages carry a load; what asks for how many stages."""

    accounts: int
    for_pools: Number
    for_launches: Number
    for_alive: Number

    @property
    def stages(self) -> Number:
        """As many as the most demanding asks for, and as many in each account."""
        asked = (self.for_pools, self.for_launches, self.for_alive)
        return worked_out(lambda *each: self.accounts * math.ceil(max(*each) / self.accounts), *asked)


def loads() -> dict[str, Load]:
    """The load, for each duration of a flow."""
    return {name: Load(RUNS_A_DAY, POOLS, seconds, PEAK) for name, seconds in DURATIONS.items()}


def plan(load: Load, stage: Stage) -> Plan:
    """As many accounts as the rates of calls ask for, and stages of equal size in them."""
    rates = [limit for limit in limits(stage) if limit.whose == "account" and limit.unit == "/s"]
    accounts = math.ceil(max(limit.use(load) or 0.0 for limit in rates))
    launches = worked_out(min, stage.launches_a_second(), THREADS / API_SECONDS)
    return Plan(
        accounts,
        math.ceil(load.pools / stage.most_pools()),
        worked_out(lambda most: math.ceil(load.rate / most), launches),
        worked_out(lambda most: math.ceil(load.alive / most), stage.most_alive()),
    )


def cost(load: Load, stages: int, memory_mb: int) -> float:
    """USD a month of all stages, without any free tier."""
    measured = json.loads(MEASUREMENTS.read_text())
    month = Month(10, round(load.runs_a_day / stages), memory_mb, measured, read_template())
    return stages * month.cost((*RUNNING, *WATCHING))


def flows_cost(load: Load) -> float:
    """USD a month of the flows themselves, on Fargate."""
    hour = given.VCPUS_A_RUN * PRICES["Fargate, vCPU"].usd + given.GB_A_RUN * PRICES["Fargate, memory"].usd
    return HOURS * hour * load.alive / load.peak


def _shown(number: Number, unit: str = "") -> str:
    if number is None:
        return NOT_MEASURED
    digits = 0 if number >= 100 else 1 if number >= 10 else 2
    text = f"{number:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + (f" {unit}" if unit and unit[0] != "/" else unit)


def _share(number: Number) -> str:
    return NOT_MEASURED if number is None else f"{number:.0%}"


def _breaks(measured: Measurements) -> str:
    stage, both = Stage(measured), list(loads().values())
    rows = sorted(limits(stage), key=lambda each: -(each.use(both[0]) or 0.0))
    head = ["What", "of", "there is", *(f"asked for, {name}" for name in DURATIONS)]
    head += [*(f"enough for, {name}" for name in DURATIONS), "then"]
    return _left_table(head, [_break(row, both) for row in rows])


def _break(limit: Limit, both: list[Load]) -> list[str]:
    asked = [f"{_shown(limit.needs(load), limit.unit)}{_times(limit.use(load))}" for load in both]
    enough = [_enough(limit, load) for load in both]
    return [limit.name, limit.whose, _shown(limit.has, limit.unit), *asked, *enough, limit.then]


def _times(use: Number) -> str:
    return f" ({_shown(use)} x)" if use is not None and use > 1 else ""


def _enough(limit: Limit, load: Load) -> str:
    at = limit.breaks_at(load)
    if at is None:
        return NOT_MEASURED
    if limit.grows_with == "pools":
        return f"{_shown(float(f'{at:.2g}'))} pools"
    return f"{_shown(at / 1e6)} million a day" if at >= 1e6 else f"{_shown(float(f'{at:.2g}'))} a day"


def _carried(measured: Measurements) -> str:
    columns = [_column(load, Stage(measured)) for load in loads().values()]
    return _table(["flows of", *DURATIONS], [[name, *(column[name] for column in columns)] for name in columns[0]])


def _column(load: Load, stage: Stage) -> dict[str, str]:
    planned = plan(load, stage)
    accounts, stages = planned.accounts, planned.stages
    of_one = worked_out(lambda count: load.divided(round(count)).rate, stages)
    return {
        "accounts, or Regions of one": str(accounts),
        "stages, for the work pools": _shown(planned.for_pools),
        "stages, for the launches": _shown(planned.for_launches),
        "stages, for the runs alive": _shown(planned.for_alive),
        "stages in all": _shown(stages),
        "in each account: vCPUs of Fargate": _shown(load.alive * given.VCPUS_A_RUN / accounts),
        "in each account: network interfaces, addresses": _shown(load.alive / accounts),
        "in each stage: work pools": _shown(worked_out(lambda count: math.ceil(load.pools / count), stages)),
        "in each stage: runs a second": _shown(of_one),
        "in each stage: runs alive": _shown(worked_out(lambda count: load.alive / count, stages)),
        "in each stage: `AGENT_LAUNCHES_PER_SECOND`": _shown(
            worked_out(
                lambda count: math.floor(10 * QUOTAS["launches on Fargate"].value * accounts / count) / 10, stages
            )
        ),
        "in each stage: seconds of the sweep": _shown(
            worked_out(lambda count: stage.sweep_seconds(load.alive / count) or 0.0, stages)
        ),
        "agent, USD a month": _shown(worked_out(lambda count: cost(load, round(count), stage.memory_mb), stages)),
        "the flows on Fargate, USD a month": _shown(flows_cost(load)),
    }


def _left_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _inputs(measured: Measurements) -> str:
    rows = [
        [name, _shown(measured[name]), f"`{each.sheet}`: {each.quantity}" + (f" ({each.agent})" if each.agent else "")]
        for name, each in MEASURED.items()
    ]
    return _left_table(["Measured", "is", "by"], rows)


def _quotas() -> str:
    rows = [[name, _shown(each.value, each.unit), each.raised, each.page] for name, each in QUOTAS.items()]
    return _left_table(["Quota", "is", "", "page"], rows)


_PAGE = """\
<!-- Made by `python -m tests.scale_page > docs/scale.md`. -->

# A thousand work pools, a million flow runs a day

On paper: nothing here was run at this size. The numbers that it rests on were [measured](#what-it-rests-on), are
documented, or are taken for granted, each named as what it is. `tests/scale_limits.py` works out the rest.

{runs:,} runs a day are {average:.1f} a second, and {peak_rate:.1f} at a peak of {peak:g} times the average.
At that peak {alive_short:,.0f} runs are alive if each lasts {short}, {alive_long:,.0f} if each lasts {long}.

## What breaks first

All of it in one stage and one account, with the quotas that an account begins with; for flows of {short} and of {long}.
*Enough for* is how far each thing suffices, all else as it is.

{breaks}
{first}

SQS has no limit of calls on standard queues. The agents' own log is {log_gb:.0f} GB a month. One poll reads up to
{poll_one} runs of a work pool, up to {poll_few} of each where there are {many_pools} or more, and a tick polls again
while that brings new ones: a pool with many due is served in turn with the others. A tick claims in
{claim_seconds:g} of each {cadence_seconds} s, and launches in what is left of them too.

## How stages and accounts carry it

A stage is one `make deploy` with a `STAGE`, work pools, a name (`PREFECT__CLOUD__AGENT__NAME`) and settings of its
own. Stages share nothing but the account's quotas, so each is given its part of the launches. Accounts are as many as
the rates of calls and launches ask for; their quotas of vCPUs and network interfaces, and their subnets, must be as
large as is said here. A function has {memory_mb} MB; more is also more CPU (`lambda_memory_size` in
`.chalice/config.json`).

{carried}
The cost is by the method of [what it costs](cost.md), each stage with alarms and a dashboard of its own. The flows are
{vcpus:g} vCPU and {gb:g} GB each, on demand.

**Prefect's API** is one for all stages: more of them do not make it larger. Of the {cloud:,.0f} requests a minute that
Prefect Cloud's Pro plan allows, the agents ask for {agents_requests} at the peak, and the flows themselves for
{flows_requests:,.0f}: it takes an Enterprise plan, or a server of one's own.
{cadence}
Of one such server an agent on the same machine got {server_rate} runs a second claimed and recorded
([measured](benchmarks.md)), {server_share} of the peak.

## What it rests on

{inputs}
*Not measured* means that the sheet is not there (`make bench`). What runs alive cost the sweep was measured on Prefect
1, and is taken for work pools too. For comparison: without quotas and with whole cores, one agent of Prefect 1 launched
{prefect1_rate} runs a second of 1,000 due, and {growth_rate} of 10,000.

{quotas}
As known on {quotas_date}, of an account and Region where they are AWS's: compare them with the pages before you rely on
them. Prefect 1 has no such limit on a server of one's own; its queue shows each agent the 75 oldest runs of a tenant.

Taken for granted:

* {peak:g} times the average at the peak.
* {definitions} task definitions a work pool, each registered anew once a day.
* Names of work pools of {name_length} characters; {other_bytes:,} of a function's {all_bytes:,} bytes for what else is
  set.
* {api_seconds:g} s for a request to Prefect, {describe_seconds:g} s for a DescribeTasks; a vCPU of Lambda
  ({mb_of_a_vcpu:,} MB) as fast as a core of the bench's machine.
* {poll_share:.0%} of a cadence for polling all work pools, {threads} at a time.
* For the end of a run {end_seconds:g} s of a function, {end_describes} DescribeTasks and {end_requests} request to
  Prefect.
* Of a flow itself {flow_requests} requests and {flow_lines} lines of log.
"""


def _first(rows: list[Limit], load: Load) -> str:
    """What breaks, in one sentence for each of those who have the limits."""
    broken = sorted((row for row in rows if (row.use(load) or 0.0) > 1), key=lambda row: -(row.use(load) or 0.0))
    parts = []
    for whose in ("account", "Prefect", "stage"):
        names = [row.name for row in broken if row.whose == whose]
        parts.append(
            f"Of the {whose}: {', then '.join(names) if names else 'nothing'}.".replace("Of the Prefect", "Of Prefect")
        )
    return f"With flows of {next(iter(DURATIONS))} this breaks, the first first. {' '.join(parts)}"


def _facts(measured: Measurements) -> dict[str, object]:
    stage, (short, long) = Stage(measured), loads().values()
    rows = {row.name: row for row in limits(stage)}
    agents = [rows[name].needs(short) for name in ("requests: polls and heartbeats", "requests: launches and ends")]
    month = Month(10, RUNS_A_DAY, stage.memory_mb, json.loads(MEASUREMENTS.read_text()), read_template())
    server_rate = measured["runs a second, work pools"]
    return {
        "runs": RUNS_A_DAY,
        "average": short.rate / PEAK,
        "peak_rate": short.rate,
        "peak": PEAK,
        "alive_short": short.alive,
        "alive_long": long.alive,
        "short": next(iter(DURATIONS)),
        "long": list(DURATIONS)[1],
        "first": _first(list(rows.values()), short),
        "log_gb": month.used()["CloudWatch, logs taken in"],
        "agents_requests": _shown(worked_out(lambda *each: sum(each), *agents)),
        "flows_requests": rows["requests: the flows' own"].needs(short),
        "cloud": QUOTAS["requests to Prefect Cloud"].value,
        "memory_mb": stage.memory_mb,
        "cadence": _cadence(measured),
        "cadence_seconds": stage.cadence_seconds,
        "claim_seconds": stage.cadence_seconds - CLAIM_MARGIN_SECONDS,
        "server_rate": _shown(server_rate),
        "server_share": _share(worked_out(lambda rate: rate / short.rate, server_rate)),
        "prefect1_rate": _shown(measured["runs a second, Prefect 1"]),
        "growth_rate": _shown(measured["runs a second of 10,000, Prefect 1"]),
    }


def _cadence(measured: Measurements) -> str:
    """From which cadence on the idle polls of all pools leave half of Prefect Cloud's requests to others."""
    polls = {seconds: Stage(measured, cadence_seconds=seconds).idle_requests(POOLS) for seconds in CADENCES_SECONDS}
    half = QUOTAS["requests to Prefect Cloud"].value / 2
    fitting = [(seconds, number) for seconds, number in polls.items() if number is not None and number <= half]
    if fitting:
        seconds, number = fitting[0]
        return f"With `AGENT_CADENCE_SECONDS={seconds}` the polls of {POOLS:,} pools are {_shown(number)} of them."
    least = polls[CADENCES_SECONDS[-1]]
    return (
        f"With `AGENT_CADENCE_SECONDS={CADENCES_SECONDS[-1]}` the polls of {POOLS:,} pools are {_shown(least)} of them."
    )


def _taken_for_granted() -> dict[str, object]:
    return {
        "vcpus": given.VCPUS_A_RUN,
        "gb": given.GB_A_RUN,
        "quotas_date": given.QUOTAS_DATE,
        "definitions": given.DEFINITIONS_A_POOL,
        "name_length": given.NAME_LENGTH,
        "other_bytes": given.OTHER_SETTINGS_BYTES,
        "all_bytes": ENVIRONMENT_BYTES,
        "api_seconds": API_SECONDS,
        "describe_seconds": given.DESCRIBE_SECONDS,
        "mb_of_a_vcpu": MB_OF_A_VCPU,
        "threads": THREADS,
        "poll_share": given.POLL_SHARE,
        "poll_one": POLL_LIMIT,
        "poll_few": LEAST_POLL_LIMIT,
        "many_pools": POLLED_RUNS // LEAST_POLL_LIMIT,
        "end_seconds": given.SECONDS_OF_AN_END,
        "end_describes": given.DESCRIBES_OF_AN_END,
        "end_requests": given.REQUESTS_OF_AN_END,
        "flow_requests": given.REQUESTS_OF_A_FLOW,
        "flow_lines": given.LINES_OF_A_FLOW,
    }


def scale_page(measured: Measurements | None = None) -> str:
    """The whole page, in Markdown: of what the sheets say, or of this."""
    known = read_measured() if measured is None else measured
    tables = {"breaks": _breaks(known), "carried": _carried(known), "inputs": _inputs(known), "quotas": _quotas()}
    return _PAGE.format(**tables, **_facts(known), **_taken_for_granted())


if __name__ == "__main__":
    print(scale_page(), end="")
