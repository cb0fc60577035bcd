"""What `doctor` finds: a line each, which says what to do wherever something is not fine."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple

from chalicelib.errors import AgentError, LaunchDeferred, LaunchUnknown, shorten

COLOURS = {"ok": 32, "warn": 33, "wrong": 31, "not checked": 36}
"""How fine things are, and a terminal's colour for it; what could not be looked at is never fine."""

TEXT_LIMIT = 600
DENIED_CODES = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
"""How AWS's services say that the caller has no right to ask."""


class Finding(NamedTuple):
    """One line: how fine it is, one of COLOURS; and what was looked at, what is so, and what to do."""

    level: str
    text: str


Found = Iterator[Finding]
Check = Callable[[], Iterable[Finding]]
Judge = Callable[[str], Finding]
ok, warn, wrong, not_checked = (partial(Finding, level) for level in COLOURS)


def either(is_fine: object, good: str, bad: str) -> Finding:
    """What is ok, or wrong."""
    return ok(good) if is_fine else wrong(bad)


def examine(subject: str, check: Check, advice: str = "", bad: Judge = wrong, unknown: Judge = not_checked) -> Found:
    """What `check` finds, and what its error means: this raises none.

    A refusal is `bad`, with the advice, no answer is `unknown`; without the right to look it is not checked.
    """
    try:
        yield from check()
    except AgentError as error:
        judge = unknown if isinstance(error, LaunchDeferred | LaunchUnknown) else bad
        if action := denied_action(error):
            yield not_checked(f"{subject}: needs {action}")
        else:
            yield judge(f"{subject}: {error}{f': {advice}' if advice else ''}")
    except Exception as error:
        # What it says may hold anything.
        yield not_checked(f"{subject}: the look at it failed with {type(error).__name__}; please report that")


def denied_action(error: BaseException) -> str:
    """What the caller has no right to, of AWS or of Kubernetes; "" when the error is about something else."""
    if found := re.search(r'cannot (\w+) resource "(\S+)"', str(error)):
        return " ".join(found.groups())
    code = (getattr(error.__cause__, "response", None) or {}).get("Error", {}).get("Code")
    if code not in DENIED_CODES:
        return ""
    asked = re.match(r"[a-z0-9]+:[A-Z]\w+", str(error))
    return asked[0] if asked else str(getattr(error.__cause__, "operation_name", ""))


def tell(findings: Iterable[Finding], secret: str | None) -> int:
    """Print a line for each as it is found, without the secret; 1 if anything is wrong, else 0.

    There are colours on a terminal alone, and none where NO_COLOR is set (https://no-color.org).
    """
    code, is_coloured = 0, sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for level, text in findings:
        word = f"\x1b[{COLOURS[level]}m{level:<11}\x1b[0m" if is_coloured else f"{level:<11}"
        print(f"{word}  {shorten(text.replace(secret, '***') if secret else text, TEXT_LIMIT)}", flush=True)
        code |= level == "wrong"
    return code
