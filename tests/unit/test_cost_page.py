"""The page about the cost is what the calculation prints, and an idle month stays within its limits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cost_page import CADENCES, PRICES, RUNNING, WATCHING, months, worker_cost

ROOT = Path(__file__).parents[2]
RUNNING_USD, EVERYTHING_USD = 2.0, 7.0


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    command = [sys.executable, "-m", "tests.cost_page"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "cost.md").read_text() == made


@pytest.mark.parametrize("cadence", CADENCES.values())
def test_an_idle_month_stays_within_its_limits_without_any_free_tier(cadence: int) -> None:
    idle = months(cadence)[0]
    assert 0 < idle.cost(RUNNING) < RUNNING_USD
    assert idle.cost(RUNNING) < idle.cost((*RUNNING, *WATCHING)) < EVERYTHING_USD
    assert idle.cost((*RUNNING, *WATCHING), has_free_tier=True) < idle.cost((*RUNNING, *WATCHING))


def test_more_runs_cost_more_and_a_day_of_a_hundred_thousand_less_than_a_worker() -> None:
    costs = [month.cost((*RUNNING, *WATCHING)) for month in months(10)]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)
    assert costs[-1] < worker_cost()
    assert worker_cost() == pytest.approx(36.04, abs=0.01)


def test_every_price_has_its_page() -> None:
    assert all(price.page.startswith("https://aws.amazon.com/") and price.usd > 0 for price in PRICES.values())
    assert {*RUNNING, *WATCHING} == months(10)[0].used().keys()
