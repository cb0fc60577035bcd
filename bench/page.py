"""`python -m bench.page`: the page `docs/benchmarks.md`, and what other pages say of what was measured.

All of it is written from the sheets that are kept and from the table of measurements, nothing by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.markdown import between_marks, table
from bench.measurements import PLACES, measurement_of
from bench.plots import INSTALL, draw, pictures
from bench.results import (
    ECS_AGENT,
    ECS_WORKER,
    KUBERNETES_AGENT,
    LINGERING_ZIP,
    ONE_PROCESS,
    PER_TICK,
    REAL_ZIP,
    Figure,
    Measurement,
)
from bench.sheets import DIRECTORY, Sheet, Sheets
from bench.shortfalls import SHORTFALLS
from bench.summary import NO, UNKNOWN, summary
from tests.scale_page import scale_page

PROJECT = Path(__file__).parents[1]
README, TESTING, SCALE = (PROJECT / name for name in ("README.md", "docs/testing.md", "docs/scale.md"))
COLUMNS = ("", ONE_PROCESS, PER_TICK, REAL_ZIP, LINGERING_ZIP, ECS_AGENT, KUBERNETES_AGENT, ECS_WORKER)
INTRODUCTION = """# Benchmarks

Written by the bench from what it measured (`docs/benchmarks/*.json`), nothing by hand: `make bench` measures all of it
again, `make bench NAMES="drain start"` some of it; `.venv/bin/python -m bench.page` writes this page from what is kept.

The peers are the real ones of Prefect, in environments of their own. They and ours are run in turn on one machine,
against the same doubles of Prefect 1, ECS and Kubernetes, or a real Prefect 3 server. *One process* is
`prefect-agent start`, *a process per tick* a new process for each tick, *the real zip* what is deployed, run as Lambda
runs it, with a whole core to itself: a function of 256 MB has about 0.145 of a vCPU, so that rates and lateness of the
zip are those of a function with more memory. Where lateness is measured its containers are warm. A number in bold
breaks its promise.
"""


def write_pages(sheets: Sheets) -> None:
    """The page beside the sheets; and when they are the project's, the README's table and the page on large loads."""
    known = sheets.read()
    sheets.directory.with_suffix(".md").write_text(page(known, sheets.directory))
    if sheets.directory == DIRECTORY:
        README.write_text(between_marks(README.read_text(), "benchmarks", summary(known)))
        SCALE.write_text(scale_page())


def page(sheets: Mapping[str, Sheet], directory: Path) -> str:
    """The page; `directory` is where the pictures are."""
    known = [sheets[name] for name in sorted(sheets, key=_place)]
    parts = [
        INTRODUCTION,
        "## Summary\n\n" + summary(sheets),
        "## What does not hold\n\n" + _shortfalls(known),
        "## What was measured\n\n" + _contents(known),
        *(_section(sheet, directory) for sheet in known),
    ]
    return "\n".join(parts)


def _place(name: str) -> tuple[int, str]:
    names = list(PLACES)
    return (names.index(name) if name in names else len(names), name)


def _shortfalls(sheets: Iterable[Sheet]) -> str:
    broken = [(sheet, figure.quantity) for sheet in sheets for figure in sheet.broken()]
    lines = dict.fromkeys(_shortfall(sheet, quantity) for sheet, quantity in broken)
    return "".join(lines) or "Everything that was measured holds.\n"


def _shortfall(sheet: Sheet, quantity: str) -> str:
    """One line for all forms of ours for which this promise does not hold."""
    figures = [figure for figure in sheet.broken() if figure.quantity == quantity]
    values = ", ".join(f"{figure}" + (f" ({figure.agent})" if figure.agent else "") for figure in figures)
    promises = "; ".join(dict.fromkeys(figure.promise for figure in figures))
    reason = SHORTFALLS.get((sheet.name, quantity), "The reason is not known yet")
    told = f"{reason[0].upper()}{reason[1:]}."
    return f"* [`{sheet.name}`](#{sheet.name}): {quantity}: {values}, promised {promises}. {told}\n"


def _contents(sheets: Sequence[Sheet]) -> str:
    rows = [
        (
            f"[`{sheet.name}`](#{sheet.name})",
            sheet.title,
            f"`python -m bench {sheet.name}`",
            _took(sheet),
            _state(sheet),
        )
        for sheet in sheets
    ]
    missing = [f"`{name}`" for name in PLACES if name not in {sheet.name for sheet in sheets}]
    text = table(("name", "what", "command", "took", "promises"), rows)
    return text + (f"\nNot measured yet: {', '.join(missing)}.\n" if missing else "")


def _took(sheet: Sheet) -> str:
    return f"{sheet.seconds / 60:.1f} min" if sheet.seconds >= 60 else f"{sheet.seconds:.0f} s"


def _state(sheet: Sheet) -> str:
    if not sheet.complete:
        return "**incomplete**"
    promised = sum(bool(figure.promise) for figure in sheet.figures)
    return f"{promised - len(sheet.broken())} of {promised} hold" if promised else UNKNOWN


def _section(sheet: Sheet, directory: Path) -> str:
    versions = ", ".join(f"{name.rpartition('/')[2]} {version}" for name, version in sheet.versions.items())
    warning = "" if sheet.complete else f"\n**Incomplete: {sheet.reason}.** What follows was known by then.\n"
    return (
        f"## {sheet.name}\n\n**{sheet.title}.** {sheet.about}\n\n"
        f"`python -m bench {sheet.name}`, {sheet.measured_at}, in {_took(sheet)}: {sheet.machine}; {versions}.\n"
        f"{warning}\n{_pivot(sheet)}{_pictures(sheet, directory)}"
    )


def _pivot(sheet: Sheet) -> str:
    """A row for each quantity, a column for each agent."""
    agents = sorted({figure.agent for figure in sheet.figures}, key=COLUMNS.index)
    quantities = list(dict.fromkeys(figure.quantity for figure in sheet.figures))
    rows = [_row(sheet, quantity, agents) for quantity in quantities]
    return table(("", *(agent or "measured" for agent in agents), "promised", "holds?"), rows)


def _row(sheet: Sheet, quantity: str, agents: Sequence[str]) -> tuple[str, ...]:
    figures = [sheet.find(quantity, agent) for agent in agents]
    promised = [figure for figure in figures if figure and figure.promise]
    promises = dict.fromkeys(figure.promise for figure in promised)
    holds = ("yes" if all(figure.holds for figure in promised) else NO) if promised else ""
    return quantity, *(_cell(figure) for figure in figures), "; ".join(promises), holds


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return UNKNOWN
    return str(figure) if figure.holds else f"**{figure}**"


def _pictures(sheet: Sheet, directory: Path) -> str:
    found = pictures(sheet, directory)
    shown = [f"\n![{title}]({directory.name}/{path.name})\n" for title, path in found.items() if path.exists()]
    lacking = len(found) - len(shown)
    hint = f"\nIts pictures are not drawn: `{INSTALL}`, then `.venv/bin/python -m bench.page`.\n"
    return "".join(shown) + (hint if lacking else "")


def names() -> str:
    """What each name measures, for the page about testing."""
    return table(("name", "measures", "needs"), [_named(name, measurement_of(name)) for name in PLACES])


def _named(name: str, measurement: Measurement) -> tuple[str, str, str]:
    return f"`{name}`", measurement.title, ", ".join(measurement.needs) or UNKNOWN


def main() -> None:
    """Draw and write everything anew from what is kept."""
    sheets = Sheets()
    for sheet in sheets.read().values():
        draw(sheet, sheets.directory)
    write_pages(sheets)
    TESTING.write_text(between_marks(TESTING.read_text(), "measurements", names()))


if __name__ == "__main__":
    main()
