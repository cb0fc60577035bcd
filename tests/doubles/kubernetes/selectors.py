"""Label and field selectors of lists."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.doubles.kubernetes.refusals import Row, bad_request
from tests.doubles.kubernetes.resources import EVENTS, JOBS, NAMESPACES, PODS, Resource

Selector = Callable[[Row], bool]

FIELDS = {
    JOBS: ("status.successful",),
    PODS: ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase"),
    EVENTS: (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "reason",
        "type",
    ),
    NAMESPACES: ("status.phase",),
}

_KEY = r"(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)"
_IN = re.compile(rf"{_KEY}\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUAL = re.compile(rf"{_KEY}\s*(?P<operator>==|=|!=)\s*(?P<values>[-A-Za-z0-9_.]*)")
_EXISTS = re.compile(rf"(?P<operator>!?)\s*{_KEY}")


def read_labels(text: str) -> list[Selector]:
    """The terms of a labelSelector, each asked of an object's labels; refuses what is none."""
    return [_label_term(part.strip(), text) for part in _split(text)]


def read_fields(resource: Resource, text: str) -> list[Selector]:
    """The terms of a fieldSelector, each asked of an object; refuses a field that the resource is not listed by."""
    return [_field_term(resource, part.strip()) for part in text.split(",") if part.strip()]


def _split(text: str) -> list[str]:
    """The terms of a selector: commas within parentheses part values."""
    return [part for part in re.split(r",(?![^()]*\))", text) if part.strip()]


def _label_term(part: str, whole: str) -> Selector:
    found = _IN.fullmatch(part) or _EQUAL.fullmatch(part) or _EXISTS.fullmatch(part)
    if found is None:
        raise bad_request(f"unable to parse requirement: found '{part}', expected: a requirement (in {whole!r})")
    key, operator = found["key"], found["operator"]
    if "values" not in found.groupdict():
        return (lambda labels: key not in labels) if operator else (lambda labels: key in labels)
    values = {value.strip() for value in found["values"].split(",")}
    # A label that is not there is not equal to anything, and in no set.
    if operator in ("notin", "!="):
        return lambda labels: labels.get(key) not in values
    return lambda labels: labels.get(key) in values


def _field_term(resource: Resource, part: str) -> Selector:
    found = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
    if found is None:
        raise bad_request(f"invalid selector: '{part}'; can't understand '{part}'")
    field, operator, wanted = found[1], found[2], found[3]
    if field not in ("metadata.name", "metadata.namespace", *FIELDS.get(resource, ())):
        raise bad_request(f"field label not supported: {field}")
    return lambda item: (_value(item, field) == wanted) is (operator != "!=")


def _value(item: Row, field: str) -> str:
    if field == "status.successful":
        return str(item["status"].get("succeeded", 0))
    value: Any = item
    for name in field.split("."):
        value = value.get(name, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, str) else ""
