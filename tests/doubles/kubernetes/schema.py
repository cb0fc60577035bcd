"""What the API knows of an object's fields: unknown ones are found, wrong types refused.

The knowledge is lightkube's models, which are generated from Kubernetes' own OpenAPI document.
"""

from __future__ import annotations

import re
import types
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec
from lightkube.models.batch_v1 import Job

from tests.doubles.kubernetes.refusals import Row, bad_request
from tests.doubles.kubernetes.resources import Resource

TEXT_MAPS = {"annotations", "labels", "matchLabels", "nodeSelector"}
QUANTITY_MAPS = {"limits", "requests"}
QUANTITY = re.compile(r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$")
LONG_FIELDS = {"activeDeadlineSeconds", "terminationGracePeriodSeconds", "runAsUser", "runAsGroup", "fsGroup"}

JSON_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}


class WrongType(Exception):
    """A value that the field's Go type cannot take."""


class Reader:
    """Reads one document: `unknown` are the paths of the fields that no model has."""

    def __init__(self) -> None:
        self.unknown: list[str] = []

    def read_struct(self, model: type, value: Any, path: str, go_path: str, where: str) -> Row:
        """A copy of an object with the fields that its model has; null is as good as absent."""
        if not isinstance(value, dict):
            raise WrongType(_mismatch(value, where, model.__name__))
        fields = _fields(model)
        known: Row = {}
        for name, item in value.items():
            field = f"{path}.{name}".lstrip(".")
            if name not in fields:
                self.unknown.append(field)
            elif item is not None:
                here = f"{go_path}.{name}".lstrip(".")
                known[name] = self._read(fields[name], item, field, here, f"{model.__name__}.{here}")
        return known

    def _read(self, kind: Any, value: Any, path: str, go_path: str, where: str) -> Any:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self.read_struct(kind, value, path, go_path, where)
        if get_origin(kind) is list:
            if not isinstance(value, list):
                raise WrongType(_mismatch(value, where, f"[]{_go_name(get_args(kind)[0], path)}"))
            item_kind = get_args(kind)[0]
            return [self._read(item_kind, row, f"{path}[{at}]", go_path, where) for at, row in enumerate(value)]
        if kind is dict:
            return _read_map(value, path.rpartition(".")[2], where)
        if kind in (str, int, bool) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise WrongType(_mismatch(value, where, _go_name(kind, path)))
        return value


def read_job(resource: Resource, document: Row) -> tuple[Row, list[str]]:
    """A Job as far as the API knows its fields, and the fields that it does not know; refuses wrong types."""
    reader = Reader()
    try:
        return reader.read_struct(Job, document, "", "", "Job"), reader.unknown
    except WrongType as error:
        raise unreadable(resource, str(error)) from None


def unreadable(resource: Resource, why: str) -> Exception:
    """The refusal of an object that cannot be taken in."""
    return bad_request(f'{resource.kind} in version "v1" cannot be handled as a {resource.kind}: {why}')


def _read_map(value: Any, name: str, where: str) -> Any:
    if not isinstance(value, dict):
        raise WrongType(_mismatch(value, where, "map[string]string"))
    for item in value.values():
        if name in TEXT_MAPS and not isinstance(item, str):
            raise WrongType(_mismatch(item, where, "string"))
        if name in QUANTITY_MAPS and not QUANTITY.match(str(item)):
            raise WrongType(f"quantities must match the regular expression '{QUANTITY.pattern}'")
    return dict(value)


def _mismatch(value: Any, where: str, wanted: str) -> str:
    return f"json: cannot unmarshal {JSON_NAMES[type(value)]} into Go struct field {where} of type {wanted}"


def _go_name(kind: Any, path: str) -> str:
    if kind is int:
        return "int64" if path.rpartition(".")[2] in LONG_FIELDS else "int32"
    return {str: "string", bool: "bool"}.get(kind, str(getattr(kind, "__name__", kind)))


@cache
def _fields(model: type) -> dict[str, Any]:
    """The fields of a model by their names on the wire, None taken out of their types."""
    return {field.encode_name: _without_none(field.type) for field in msgspec.structs.fields(model)}


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    rest = [part for part in get_args(kind) if part is not type(None)]
    return rest[0] if len(rest) == 1 else Any
