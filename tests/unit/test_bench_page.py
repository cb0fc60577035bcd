"""What the bench has measured is kept, and the pages say what the sheets say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import INTERRUPTED, keep
from bench.machine import THIS_PROJECT
from bench.markdown import between_marks
from bench.measurements import PLACES
from bench.page import README, TESTING, names, page
from bench.plots import can_draw, draw
from bench.results import ECS_AGENT, ONE_PROCESS, PER_TICK, Curve, Figure, Measurement, Plot
from bench.sheets import DIRECTORY, POINTS, Sheet, Sheets, sheet_of, text_of, thinned
from bench.shortfalls import SHORTFALLS
from bench.summary import summary
from bench.surroundings import TookTooLong
from tests.unit.bench_samples import FAST, PEER, SLOW, line_of, sheet

PLOT = Plot("Drain", "seconds", "runs launched")
CURVE = Curve("Drain", ONE_PROCESS, tuple((number / 7, float(number)) for number in range(1000)))
NUMBERS = st.floats(allow_nan=False)


# The pages of the project


def test_the_page_says_what_the_sheets_say() -> None:
    assert DIRECTORY.with_suffix(".md").read_text() == page(Sheets().read(), DIRECTORY)


def test_the_table_of_the_readme_says_what_the_sheets_say() -> None:
    text = README.read_text()
    assert text == between_marks(text, "benchmarks", summary(Sheets().read()))


def test_the_page_about_testing_names_every_measurement() -> None:
    text = TESTING.read_text()
    assert text == between_marks(text, "measurements", names())


def test_every_sheet_has_a_measurement_and_every_curve_a_plot() -> None:
    sheets = Sheets().read()
    assert sheets.keys() <= PLACES.keys()
    for kept in sheets.values():
        assert {curve.plot for curve in kept.curves} <= {plot.title for plot in kept.plots}


def test_every_reason_is_of_a_promise_that_is_on_a_sheet() -> None:
    promised = {
        (name, each.quantity) for name, kept in Sheets().read().items() for each in kept.figures if each.promise
    }
    assert SHORTFALLS.keys() <= promised


# How a sheet is shown


def test_agents_stand_side_by_side() -> None:
    text = page({"drain": sheet(PEER, FAST)}, Path("benchmarks"))
    assert f"|  | {ONE_PROCESS} | {ECS_AGENT} | promised | holds? |" in text
    assert "| runs a second | 210 | 32 | at least 200 | yes |" in text.splitlines()


def test_a_promise_that_does_not_hold_is_shown_so() -> None:
    text = page({"drain": sheet(FAST, SLOW)}, Path("benchmarks"))
    assert "| runs a second | 210 | **90** | at least 200 | **no** |" in text.splitlines()
    (shortfall,) = [line for line in text.splitlines() if line.startswith("* [`drain`](#drain): runs a second: ")]
    reason = SHORTFALLS.get(("drain", "runs a second"), "the reason is not known yet")
    assert shortfall.endswith(f" 90 ({PER_TICK}), promised at least 200. {reason[0].upper()}{reason[1:]}.")
    assert "1 of 2 hold" in text


def test_nothing_falls_short_when_everything_holds() -> None:
    assert "Everything that was measured holds" in page({"drain": sheet(FAST)}, Path("benchmarks"))


def test_an_incomplete_sheet_is_shown_so() -> None:
    text = page({"drain": sheet(FAST, complete=False, reason="it was interrupted")}, Path("benchmarks"))
    assert "**Incomplete: it was interrupted.**" in text
    assert "**incomplete**" in line_of(text, "| [`drain`]")


@pytest.mark.skipif(not can_draw(), reason="matplotlib is of the extra `bench`")
def test_the_same_curves_give_the_same_small_picture(tmp_path: Path) -> None:
    made, few = sheet(plots=[PLOT], curves=[CURVE]), sheet(plots=[PLOT])
    few.add(CURVE)
    pictures = []
    for _ in range(2):
        draw(few, tmp_path)
        pictures.append((tmp_path / "drain-1.svg").read_bytes())
    assert pictures[0] == pictures[1]
    assert f"![Drain]({tmp_path.name}/drain-1.svg)" in page({"drain": made}, tmp_path)
    assert len(pictures[0]) < 50_000


def test_a_page_without_its_pictures_says_how_to_get_them(tmp_path: Path) -> None:
    text = page({"drain": sheet(plots=[PLOT], curves=[CURVE])}, tmp_path)
    assert "Its pictures are not drawn: `make .venv/.bench`" in text


# How a sheet is kept


@given(
    st.builds(
        Sheet,
        *[st.text()] * 3,
        plots=st.lists(st.builds(Plot)),
        versions=st.dictionaries(st.text(), st.text()),
        complete=st.booleans(),
        figures=st.lists(st.builds(Figure, value=NUMBERS)),
        curves=st.lists(st.builds(Curve, points=st.lists(st.tuples(NUMBERS, NUMBERS)).map(tuple))),
    )
)
def test_a_sheet_is_read_as_it_was_written(written: Sheet) -> None:
    assert sheet_of(json.loads(text_of(written))) == written


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 9999)), max_size=3 * POINTS))
def test_a_curve_keeps_its_ends_and_so_many_points(points: list[tuple[int, int]]) -> None:
    kept = thinned(points)
    assert len(kept) == min(len(points), POINTS)
    assert (kept[:1], kept[-1:]) == (tuple(points[:1]), tuple(points[-1:]))


def measured(*items: Figure | Curve | BaseException, ended: list[bool] | None = None) -> Measurement:
    """A measurement that yields these and raises those."""

    def measure() -> Iterator[Figure | Curve]:
        try:
            for item in items:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            (ended if ended is not None else []).append(True)

    return Measurement("A backlog", "About it.", measure, plots=(PLOT,))


def test_what_was_measured_is_kept_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheets = Sheets(tmp_path / "benchmarks")
    assert keep("drain", measured(FAST, CURVE), sheets) == 0
    kept = sheets.read()["drain"]
    assert (kept.complete, kept.figures, len(kept.curves[0].points)) == (True, [FAST], POINTS)
    assert kept.machine
    assert kept.versions.keys() >= {THIS_PROJECT, "chalice", "boto3", "requests"}
    assert "210  (at least 200: holds)" in capsys.readouterr().out
    assert "## drain" in (tmp_path / "benchmarks.md").read_text()


def test_what_does_not_hold_is_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert keep("drain", measured(FAST, SLOW), Sheets(tmp_path)) == 1
    assert "90  (at least 200: DOES NOT HOLD)" in capsys.readouterr().out


def test_an_interrupted_measurement_keeps_what_it_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheets, ended = Sheets(tmp_path / "benchmarks"), list[bool]()
    assert keep("drain", measured(FAST, KeyboardInterrupt(), SLOW, ended=ended), sheets) == INTERRUPTED
    kept = sheets.read()["drain"]
    assert (kept.figures, kept.complete, kept.reason) == ([FAST], False, "it was interrupted")
    assert "drain.json: figures 1, curves 0" in capsys.readouterr().out
    assert "Incomplete: it was interrupted" in (tmp_path / "benchmarks.md").read_text()
    assert ended == [True]


def test_a_measurement_that_is_killed_leaves_a_sheet_that_says_so(tmp_path: Path) -> None:
    sheets, seen = Sheets(tmp_path), []

    def measure() -> Iterator[Figure]:
        yield FAST
        seen.append(sheets.read()["drain"])

    keep("drain", Measurement("A backlog", "About it.", measure), sheets)
    assert [(kept.figures, kept.complete, kept.reason) for kept in seen] == [
        ([FAST], False, "it was ended before it was done")
    ]


def test_a_measurement_that_fails_says_why_and_keeps_what_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheets = Sheets(tmp_path)
    assert keep("drain", measured(FAST, TookTooLong("It was not done")), sheets) == 1
    assert sheets.read()["drain"].reason == "TookTooLong: It was not done"
    assert "not measured to its end: TookTooLong: It was not done" in capsys.readouterr().out


def test_a_measurement_that_knew_nothing_yet_leaves_the_sheet_before(tmp_path: Path) -> None:
    sheets = Sheets(tmp_path)
    keep("drain", measured(FAST), sheets)
    keep("drain", measured(TookTooLong("It did not begin")), sheets)
    assert (sheets.read()["drain"].figures, sheets.read()["drain"].complete) == ([FAST], True)


def test_a_new_measurement_never_mixes_with_the_one_before(tmp_path: Path) -> None:
    sheets = Sheets(tmp_path)
    keep("drain", measured(FAST, PEER), sheets)
    keep("drain", measured(SLOW, KeyboardInterrupt()), sheets)
    assert sheets.read()["drain"].figures == [SLOW]
