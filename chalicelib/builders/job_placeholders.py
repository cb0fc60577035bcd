"""Placeholders of work pool templates, `{{ name }}` and `$ref`, and what stands for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, Final
from uuid import UUID

from chalicelib.builders.run_configs import kind_of
from chalicelib.errors import UnsupportedRun, shorten
from chalicelib.flow_runs import Document

PLACEHOLDER = re.compile(r"{{\s*([\w.\-\[\]$]+)\s*}}")
BLOCKS = "prefect.blocks."
VARIABLES = "prefect.variables."
BLOCK_ID = "block_document_id:"
"""How the name of a block begins that is referred to by its id; a UUID follows."""

ABSENT: Final = object()
"""What stands for a name that nothing is known of."""

Lookup = Callable[[re.Match[str]], Any]
"""What a found placeholder becomes: its own text when it is somebody else's, else a value or ABSENT."""

_NUMBER = re.compile(r"-?\d+(_\d+)*")
_REMEDY = "create it, let this agent's key read it, or correct what names it: the pool's template or the job variables"


def fill_in(template: Any, look_up: Lookup, look_up_object: Callable[[Document], Any] = lambda _: None) -> Any:
    """A copy of `template` with its placeholders replaced, and each object for which `look_up_object` knows another.

    A placeholder that is all of a text becomes its value, of any type, and the entry is left out when that is absent;
    inside a longer text it becomes text, empty when absent. Names of entries are no template, and what was put in is
    not looked at again.
    """
    if isinstance(template, str):
        if whole := PLACEHOLDER.fullmatch(template):
            return look_up(whole)
        return PLACEHOLDER.sub(lambda found: "" if (value := look_up(found)) is ABSENT else str(value), template)
    if isinstance(template, list):
        items = (fill_in(item, look_up, look_up_object) for item in template)
        return [item for item in items if item is not ABSENT]
    if not isinstance(template, Mapping):
        return template
    if (other := look_up_object(template)) is not None:
        return other
    entries = {name: fill_in(value, look_up, look_up_object) for name, value in template.items()}
    return {name: value for name, value in entries.items() if value is not ABSENT}


def path_of(name: str) -> list[str]:
    """The steps of a dotted name; `[0]` is a step too."""
    return name.replace("[", ".").replace("]", "").split(".")


def value_at(values: Any, name: str) -> Any:
    """What is found in `values` under a dotted name, else ABSENT; a step that is a number never is an entry's name."""
    try:
        for step in path_of(name):
            values = values[int(step) if _NUMBER.fullmatch(step) else step]
    except (TypeError, KeyError, IndexError, ValueError):
        return ABSENT
    return values


def values_lookup(values: Document) -> Lookup:
    """A lookup of plain names in `values`. It raises UnsupportedRun for `{{ $NAME }}`."""

    def look_up(found: re.Match[str]) -> Any:
        if found[1].startswith("$"):
            reason = "is of the agent's own environment, which no run may read: use a job or Prefect variable instead"
            raise UnsupportedRun(f"{_shown(found)} {reason}")
        return found[0] if found[1].startswith((BLOCKS, VARIABLES)) else value_at(values, found[1])

    return look_up


class References:
    """Blocks and Prefect variables by the names that placeholders give them.

    `asked` has the names that were asked for, `problems` what could not be found, one line each without any value.
    """

    def __init__(self, known: Document) -> None:
        self._known = known
        self.asked: set[str] = set()
        self.problems: list[str] = []

    def resolve(self, template: Any) -> Any:
        """A copy of `template` with its blocks filled in, and then, also in their values, its variables."""
        return fill_in(fill_in(template, self._block, self._block_by_id), self._variable)

    def _block(self, found: re.Match[str]) -> Any:
        if not found[1].startswith(BLOCKS):
            return found[0]
        slug, name, path = [*found[1].replace(BLOCKS, "").split(".", 2), "", ""][:3]
        data = self._ask(BLOCKS, f"{slug}.{name}")
        if data is ABSENT:
            return self._refuse(f"{_shown(found)}: there is no such block, <type slug>.<name>: {_REMEDY}")
        if len(data) == 1 and "value" in data and path_of(path)[0] != "value":
            data = data["value"]
        value = value_at(data, path) if path else data
        if value is ABSENT:
            return self._refuse(f"{_shown(found)}: the block has nothing under this name: correct the placeholder")
        if found[0] != found.string and isinstance(value, (Mapping, list)):
            return self._refuse(f"{_shown(found)} is {kind_of(value)}, which cannot stand inside a text: name a part")
        return value

    def _block_by_id(self, document: Document) -> Any:
        reference = document.get("$ref")
        if not isinstance(reference, Mapping) or not reference.get("block_document_id"):
            return None
        try:
            block_id = UUID(str(reference["block_document_id"]))
        except ValueError:
            return self._refuse("the block_document_id of a $ref is not the id of a block: correct it")
        data = self._ask(BLOCK_ID, str(block_id))
        return self._refuse(f"there is no block with the id {block_id}: {_REMEDY}") if data is ABSENT else data

    def _variable(self, found: re.Match[str]) -> Any:
        if not found[1].startswith(VARIABLES):
            return found[0]
        value = self._ask(VARIABLES, found[1].replace(VARIABLES, ""))
        return "" if value is ABSENT else deepcopy(value)

    def _ask(self, kind: str, name: str) -> Any:
        # Prefect stores nothing under other names, and these can stand in an address as they are.
        if re.fullmatch(r"[\w-]+\.[\w-]+" if kind == BLOCKS else r"[\w-]+", name, re.ASCII):
            self.asked.add(kind + name)
        return self._known.get(kind + name, ABSENT)

    def _refuse(self, problem: str) -> str:
        self.problems.append(problem)
        return ""


def _shown(found: re.Match[str]) -> str:
    return f"{{{{ {shorten(found[1], 100)} }}}}"
