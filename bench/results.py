"""What was measured, as lines of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One number. `promise` is what it should be, "" when nothing is promised; `holds` whether it is."""

    what: str
    measured: str
    promise: str = ""
    holds: bool = True


def at_most(what: str, measured: float, limit: float, unit: str = "") -> Result:
    """A number that is promised not to exceed a limit."""
    return Result(what, f"{measured:g}{unit}", f"at most {limit:g}{unit}", measured <= limit)


def at_least(what: str, measured: float, limit: float, unit: str = "") -> Result:
    """A number that is promised to reach a limit."""
    return Result(what, f"{measured:.3g}{unit}", f"at least {limit:g}{unit}", measured >= limit)


def exactly(what: str, measured: int, promised: int) -> Result:
    """A count that is promised."""
    return Result(what, str(measured), str(promised), measured == promised)


def render(title: str, results: Sequence[Result]) -> str:
    """The table of one measurement."""
    lines = [title]
    for result in results:
        verdict = "" if not result.promise else "holds" if result.holds else "DOES NOT HOLD"
        lines.append(f"  {result.what:<66}{result.measured:>14}  {result.promise:<16}{verdict}".rstrip())
    return "\n".join(lines)
