"""The summary: its numbers are those that the bench can tell, and it says how sure they are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bench
from bench.measurements import PLACES
from bench.results import ECS_AGENT, PER_TICK, Figure
from bench.sheets import Sheets
from bench.summary import ROWS, Number, Row, summary, verdict
from tests.unit.bench_samples import FAST, PEER, SLOW, line_of, sheet

NAMED = [number for row in ROWS for number in row.numbers]
BENCH = Path(bench.__file__).parent


def modules_of(name: str) -> set[str]:
    """The module of the bench that measures this, and those that it imports."""
    found, left = set[str](), {PLACES[name].partition(":")[0]}
    while left:
        module = left.pop()
        found.add(module)
        imports = re.findall(r"^from bench\.(\w+) import", (BENCH / f"{module}.py").read_text(), re.MULTILINE)
        left |= set(imports) - found
    return found


def texts_of(module: str) -> Iterator[str]:
    """As regular expressions the texts that stand in a module, and those that its f-strings with a word make."""
    for node in ast.walk(ast.parse((BENCH / f"{module}.py").read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.escape(node.value)
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "" for part in node.values]
            if re.search(r"[A-Za-z]{3}", "".join(parts)):
                yield "".join(re.escape(part) or ".+" for part in parts)


@pytest.mark.parametrize("number", NAMED, ids=lambda it: it.quantity)
def test_every_number_of_the_summary_is_one_that_its_measurement_can_tell(number: Number) -> None:
    texts = [text for module in modules_of(number.sheet) for text in texts_of(module)]
    for quantity in filter(None, (number.quantity, number.asked, number.peers)):
        assert [text for text in texts if re.fullmatch(text, quantity)], quantity


@pytest.mark.parametrize("number", NAMED, ids=lambda it: it.quantity)
def test_every_number_of_the_summary_stands_on_its_sheet_once_that_is_complete(number: Number) -> None:
    kept = Sheets().read().get(number.sheet)
    if kept and kept.complete:
        assert kept.find(number.quantity, number.agent)
        assert kept.find(number.asked or number.quantity, number.agent)


def test_a_summary_shows_the_best_peer_and_a_dash_for_what_is_not_measured() -> None:
    sheets = {"drain": sheet(FAST, PEER, Figure("Kubernetes agent 1.4.1", "runs a second", 54))}
    text = summary(sheets, [Row("rate", "200", (Number("drain", "runs a second", best=max), Number("pools", "rate")))])
    assert line_of(text, "| rate") == "| rate | 54 / - (Kubernetes agent 1.4.1) | 210 / - | 200 | - |"


def test_numbers_that_were_not_measured_to_their_end_are_marked_in_the_summary() -> None:
    rows = [Row("rate", "200", (Number("drain", "runs a second"),))]
    for figures, verdict_ in (((FAST, PEER), "-"), ((FAST, PEER, SLOW), f"- ({PER_TICK}: **no**)")):
        text = summary({"drain": sheet(*figures, complete=False)}, rows)
        mark = "(incomplete: drain)"
        assert line_of(text, "| rate") == f"| rate | 32 ({ECS_AGENT}) {mark} | 210 {mark} | 200 | {verdict_} |"


def test_a_summary_shows_the_peers_own_quantity_where_it_is_another_one() -> None:
    kept = sheet(FAST, PEER, Figure(ECS_AGENT, "on ECS: runs a second", 31))
    text = summary(
        {"drain": kept}, [Row("rate", "200", (Number("drain", FAST.quantity, peers="on ECS: runs a second"),))]
    )
    assert line_of(text, "| rate") == f"| rate | 31 ({ECS_AGENT}) | 210 | 200 | yes |"


def test_a_verdict_needs_every_promise_but_one_that_is_broken_is_enough() -> None:
    assert [verdict([FAST]), verdict([FAST, None]), verdict([PEER]), verdict([])] == ["yes", "-", "-", "-"]
    assert verdict([FAST, None, SLOW]) == "**no**"


def test_a_verdict_names_the_form_of_ours_for_which_it_is_another() -> None:
    rows = [Row("rate", "200", (Number("drain", "runs a second"),))]
    assert line_of(summary({"drain": sheet(FAST, SLOW)}, rows), "| rate").endswith(f"| yes ({PER_TICK}: **no**) |")
