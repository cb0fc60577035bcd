"""How values of the scalar types are read and written.

The gateway passes what it cannot judge, and the service refuses it while resolving: a malformed id, time or document
is an error of its field, with HTTP 200, and not of the request.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from graphql import GraphQLScalarType, GraphQLSchema, ValueNode

from tests.doubles.prefect1.store import Refused, parse_time


@dataclass(frozen=True)
class Unusable:
    """A value that passed the gateway and that the service cannot read, with what the service says of it."""

    message: str


def usable(value: Any) -> Any:
    """The input as it is. Raises Refused with what the service says of the first part that it cannot read."""
    if isinstance(value, Unusable):
        raise Refused(value.message)
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        usable(inner)
    return value


def bind_scalars(built: GraphQLSchema) -> None:
    """Give the scalars of a schema their meaning."""
    for name, coerce in (("UUID", _uuid), ("DateTime", _date_time)):
        scalar = _scalar(built, name)
        scalar.coerce_input_value = coerce
        scalar.coerce_input_literal = lambda node, coerce=coerce: coerce(getattr(node, "value", None))
    _scalar(built, "JSON").coerce_input_literal = _json_literal
    _scalar(built, "timestamptz").coerce_output_value = format_time
    _scalar(built, "jsonb").coerce_output_value = as_jsonb


def _scalar(built: GraphQLSchema, name: str) -> GraphQLScalarType:
    kind = built.type_map[name]
    assert isinstance(kind, GraphQLScalarType)
    return kind


def _uuid(value: Any) -> str | Unusable:
    try:
        return str(uuid.UUID(value))
    except (ValueError, TypeError, AttributeError):
        return Unusable(f"Could not parse UUID: {value}")


def _date_time(value: Any) -> datetime | Unusable:
    try:
        return parse_time(value)
    except (ValueError, TypeError, AttributeError):
        return Unusable(f"Unable to parse string [{value}]")


def _json_literal(node: ValueNode, variables: Any = None) -> Any:
    """A JSON value that stands in the query itself: only one written as a string is read."""
    text = getattr(node, "value", None)
    if not isinstance(text, str):
        return Unusable(f"'{type(node).__name__}' object has no attribute 'value'")
    try:
        return json.loads(text)
    except ValueError as error:
        return Unusable(str(error))


def format_time(value: datetime) -> str:
    """A time as PostgreSQL writes it in JSON: microseconds without trailing zeros, none when whole."""
    text = value.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{value.microsecond:06d}".rstrip("0")
    return f"{text}.{fraction}+00:00" if fraction else f"{text}+00:00"


def as_jsonb(value: Any) -> Any:
    """A document as `jsonb` keeps it: keys by length, then by name."""
    if isinstance(value, Mapping):
        return {key: as_jsonb(value[key]) for key in sorted(value, key=lambda key: (len(key.encode()), key))}
    return [as_jsonb(inner) for inner in value] if isinstance(value, list) else value
