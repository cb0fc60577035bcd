"""The page about scale is what the calculation prints, whatever was measured, and its arithmetic holds together."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results import Figure
from bench.sheets import Sheet, Sheets
from tests.scale_inputs import MEASURED, QUOTAS, read_measured
from tests.scale_limits import Limit, Load, Stage, limits
from tests.scale_page import NOT_MEASURED, loads, plan, scale_page

ROOT = Path(__file__).parents[2]
MADE_UP = dict(zip(MEASURED, (1.1, 6.0, 30.0, 200.0, 150.0, 10.0, 100.0, 16.0, 196.0, 65.0, 11.0, 90.0), strict=True))
STAGE = Stage(MADE_UP)
LIMITS = {limit.name: limit for limit in limits(STAGE)}


def sheets_of(numbers: dict[str, float]) -> dict[str, Sheet]:
    sheets: dict[str, Sheet] = {}
    for name, each in MEASURED.items():
        sheet = sheets.setdefault(each.sheet, Sheet(each.sheet, "", ""))
        sheet.figures.append(Figure(each.agent, each.quantity, numbers[name]))
    return sheets


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    command = [sys.executable, "-m", "tests.scale_page"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "scale.md").read_text() == made


def test_what_a_whole_sheet_should_say_it_says() -> None:
    sheets, measured = Sheets().read(), read_measured()
    whole = {name for name, each in MEASURED.items() if each.sheet in sheets and sheets[each.sheet].complete}
    assert [name for name in sorted(whole) if measured[name] is None] == []


def test_what_was_measured_is_read_from_the_sheets() -> None:
    assert read_measured(sheets_of(MADE_UP)) == MADE_UP


def test_without_any_measurement_the_page_says_so_and_tells_what_it_can() -> None:
    page = scale_page(read_measured({}))
    assert page.count(NOT_MEASURED) > len(MEASURED)
    assert "| Fargate vCPUs at once | account | 6 vCPU | 2,604 vCPU" in page


def test_with_all_measurements_nothing_is_missing() -> None:
    page = scale_page(MADE_UP)
    assert NOT_MEASURED not in page
    assert 90 < len(page.splitlines()) < 130


def test_every_quota_has_its_page() -> None:
    assert all(quota.page.startswith("https://docs.") and quota.value > 0 for quota in QUOTAS.values())


@pytest.mark.parametrize("limit", LIMITS.values(), ids=list(LIMITS))
@pytest.mark.parametrize("load", loads().values(), ids=list(loads()))
def test_each_thing_suffices_up_to_where_the_page_says_and_no_further(limit: Limit, load: Load) -> None:
    at = limit.breaks_at(load)
    assert at is not None

    def at_times(factor: float) -> Load:
        number = at * factor
        return replace(load, pools=number) if limit.grows_with == "pools" else replace(load, runs_a_day=number)

    assert (limit.use(at_times(0.999)) or 0.0) <= 1 < (limit.use(at_times(1.001)) or 0.0)


@given(st.floats(1e3, 1e7), st.integers(1, 5_000), st.floats(10, 3_600), st.sampled_from([256, 512, 1024, 3008]))
def test_a_stage_of_a_plan_can_do_what_it_is_for(runs: float, pools: int, seconds: float, memory_mb: int) -> None:
    load, stage = Load(runs, pools, seconds, peak=3.0), Stage(MADE_UP, memory_mb)
    planned = plan(load, stage)
    assert planned.stages is not None
    assert planned.stages % planned.accounts == 0
    own = load.divided(round(planned.stages))
    # Work pools are not divided: one stage may have one more than another.
    asked = [
        limit.use(replace(own, pools=load.pools / planned.stages)) for limit in limits(stage) if limit.whose == "stage"
    ]
    assert len(asked) == 6
    assert max(use or 0.0 for use in asked) <= 1 + 1e-9
