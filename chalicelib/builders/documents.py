"""Checks of JSON documents that people wrote, said in terms of where the fault is and never of what stands there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.errors import shorten
from chalicelib.flow_runs import Document


def kind_of(value: object) -> str:
    """What a JSON value is, for a message: `a list`, `null`, `an object`..."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    names = {str: "text", int: "a number", float: "a number", list: "a list", tuple: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else "neither text nor number")


def canonical(document: Document) -> dict[str, Any]:
    """A deep copy with all keys sorted, so that the order in which a database keeps keys never shows."""
    copy: dict[str, Any] = json.loads(canonical_text(document))
    return copy


def canonical_text(document: Document) -> str:
    """The one compact JSON text of a document."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), default=_as_plain)


def _as_plain(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{kind_of(value)} is not JSON")


def null_problems(value: object, where: str) -> list[str]:
    """One line for each null inside `value`: AWS takes none, and in YAML a key without a value is one."""
    if value is None:
        return [f"{where} is null: give it a value or leave it out"]
    if isinstance(value, Mapping):
        prefix = f"{where}." if where else ""
        return _each_null((f"{prefix}{shorten(str(key), 60)}", item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return _each_null((f"{where}[{index}]", item) for index, item in enumerate(value))
    return []


def _each_null(items: Iterable[tuple[str, object]]) -> list[str]:
    return [problem for where, item in items for problem in null_problems(item, where)]


def environment_problems(env: Mapping[Any, Any], where: str) -> list[str]:
    """One line for each variable of `env` that no container can be given."""
    problems = []
    for name, value in env.items():
        shown = f"{where}: {shorten(str(name), 60)}"
        if not isinstance(name, str) or not name or "\x00" in name:
            problems.append(f"{shown} is not a usable name")
        elif not isinstance(value, str):
            problems.append(f"{shown} is {kind_of(value)}: ECS takes text only, put it in quotes")
        elif "\x00" in value:
            problems.append(f"{shown} has a NUL character, which no environment can hold")
    return problems


def pairs_problems(entries: object, where: str, name_field: str = "name", value_field: str = "value") -> list[str]:
    """What is wrong with a list of `{name_field: text, value_field: text}`; empty when nothing is."""
    if not isinstance(entries, (list, tuple)):
        return [f"{where} is {kind_of(entries)}, not a list"]
    problems = []
    for index, entry in enumerate(entries):
        at = f"{where}[{index}]"
        if not isinstance(entry, Mapping) or not isinstance(entry.get(name_field), str):
            problems.append(f"{at} is not an object with a {name_field}")
        else:
            problems += environment_problems({entry[name_field]: entry.get(value_field, "")}, at)
    return problems


def pairs_of(entries: Iterable[Document], name_field: str = "name") -> dict[str, str]:
    """A list of named values as a mapping; of two with one name the later stays."""
    return {entry[name_field]: entry.get("value", "") for entry in entries}


def list_of(pairs: Mapping[str, str], name_field: str = "name") -> list[dict[str, str]]:
    """A mapping as AWS's list of named values, sorted by name: the order has no meaning there."""
    return [{name_field: name, "value": value} for name, value in sorted(pairs.items())]
