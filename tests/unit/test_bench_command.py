"""What is typed to measure, and what it answers before anything is measured."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import INTERRUPTED, main, tell_lacking
from bench.machine import UNKNOWN, Environment, version_of_project
from bench.measurements import PLACES, measurement_of
from bench.results import at_least, at_most
from bench.sheets import DIRECTORY
from bench.surroundings import PROJECT, wait_until


def test_an_unknown_name_is_told_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wake", "nonsense"]) == 2
    said = capsys.readouterr().err
    assert "no bench 'nonsense'" in said
    assert [name for name in PLACES if name not in said] == []


@pytest.mark.parametrize("into", [[], ["--into", str(DIRECTORY)]])
def test_other_sizes_are_not_kept_where_the_pages_read(
    into: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_RUNS", "50")
    assert main(["kills", *into]) == 2
    assert "--into DIRECTORY" in capsys.readouterr().err


def test_the_names_are_listed_with_what_they_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(PLACES)
    assert [line for line in listed if line.endswith(measurement_of("wake").title)]


def test_the_version_of_the_project_is_its_commit_and_unknown_outside_of_git(tmp_path: Path) -> None:
    assert version_of_project(tmp_path) == UNKNOWN
    author = ("-c", "user.name=bench", "-c", "user.email=bench@example.com")
    for words in (("init", "--quiet"), (*author, "commit", "--quiet", "--allow-empty", "--message", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert re.fullmatch("[0-9a-f]{7,}", version_of_project(tmp_path))
    assert version_of_project(tmp_path / "nowhere") == UNKNOWN


def test_what_is_not_installed_is_told_with_the_command_that_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    there = Environment(lambda: True, Path("python"), (), "make this")
    lacking = Environment(lambda: False, Path("python"), (), "make that")
    environments = {"prefect1": there, "prefect3": lacking}
    assert [tell_lacking(needs, environments) for needs in ((), ("prefect1",), ("prefect1", "prefect3"))] == [0, 0, 1]
    assert "prefect3 is not installed; `make that` does it" in capsys.readouterr().out


def test_a_limit_is_kept_when_it_is_reached_exactly() -> None:
    assert [at_most("", "calls", value, 3).holds for value in (2, 3, 4)] == [True, True, False]
    assert [at_least("", "rate", value, 3).holds for value in (2, 3, 4)] == [False, True, True]


def test_a_bench_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "bench", "kills", "--into", str(tmp_path / "sheets")]
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(scratch), "BENCH_RUNS": "50"}
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: bool(list(scratch.glob("*/run_task.yaml"))), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == INTERRUPTED
    assert list(scratch.iterdir()) == []
