"""The page about the settings is the table of settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chalicelib.settings import SETTINGS
from tests.settings_page import settings_page

ROOT = Path(__file__).parents[2]


def test_the_page_in_the_documentation_is_up_to_date() -> None:
    command = [sys.executable, "-m", "tests.settings_page"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "docs" / "settings.md").read_text() == made


def test_every_setting_is_a_row_of_four_columns() -> None:
    table, _, _ = settings_page().partition("## In a flow run's own env")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [setting.env for setting in SETTINGS]
    assert {row.count("|") for row in rows} == {5}
