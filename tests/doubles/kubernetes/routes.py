"""What a request asks for: the verb, resource and names that its method and path stand for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.doubles.kubernetes import resources
from tests.doubles.kubernetes.refusals import Refusal, bad_request, no_such_path, unreadable_kind
from tests.doubles.kubernetes.resources import Resource

BODY_LIMIT = 3 * 1024 * 1024
"""Bytes of a request's body that the server reads at most."""


class Call(NamedTuple):
    """A call that reached the server, whatever became of it.

    `resource` has its subresource (`pods/log`), or is the path when that names none. `body` is None when there was no
    JSON, `token` when there was no bearer.
    """

    verb: str
    resource: str
    namespace: str | None
    name: str | None
    query: Mapping[str, str]
    body: Any
    at: datetime
    token: str | None

    @property
    def what(self) -> str:
        """Verb and resource, as faults and counts name them: `create jobs`."""
        return f"{self.verb} {self.resource}"


@dataclass(frozen=True)
class Request:
    """One request, read as far as its path goes; `resource` is None when the path names no resource."""

    verb: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: bytes
    resource: Resource | None = None
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None

    @property
    def served(self) -> Resource:
        """The resource; refuses a path that names none."""
        if self.resource is None:
            raise no_such_path()
        return self.resource

    @property
    def what(self) -> str:
        """The resource with its subresource, or the path."""
        if self.resource is None:
            return self.path
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    @property
    def token(self) -> str | None:
        """The bearer token."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" and token else None

    def call(self, at: datetime) -> Call:
        """What is remembered of this request."""
        try:
            body = json.loads(self.content)
        except ValueError:
            body = None
        return Call(self.verb, self.what, self.namespace, self.name, self.query, body, at, self.token)

    def document(self) -> dict[str, Any]:
        """The body as a JSON object; refuses one that is none, or too large."""
        kind = self.headers.get("content-type", "").partition(";")[0]
        if kind and kind != "application/json" and not kind.endswith("+json"):
            raise unreadable_kind("application/json")
        if len(self.content) > BODY_LIMIT:
            text = f"Request entity too large: limit is {BODY_LIMIT}"
            raise Refusal(413, "RequestEntityTooLarge", text, {})
        try:
            document = json.loads(self.content)
        except ValueError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
        if not isinstance(document, dict):
            kind = {list: "array", str: "string", bool: "bool"}.get(type(document), "number")
            text = f"json: cannot unmarshal {kind} into Go value of type struct"
            raise bad_request(f"couldn't get version/kind; json parse error: {text}")
        return document


def read(method: str, target: str, headers: Mapping[str, str], content: bytes) -> Request:
    """The request that a method, a target and a body are; headers are by their names in lower case."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    resource, namespace, name, subresource = _place([unquote(part) for part in parts.path.strip("/").split("/")])
    verb = _verb(method, name, query) if resource else method.lower()
    path = parts.path.rstrip("/") or "/"
    return Request(verb, path, query, headers, content, resource, namespace, name, subresource)


def _place(parts: list[str]) -> tuple[Resource | None, str | None, str | None, str | None]:
    """Resource, namespace, name and subresource of a path."""
    group, rest = ("", parts[2:]) if parts[:2] == ["api", "v1"] else (parts[1] if len(parts) > 1 else "", parts[3:])
    if group and (parts[0] != "apis" or parts[2:3] != ["v1"]):
        return None, None, None, None
    namespace = None
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = resources.find(group, rest[0]) if rest else None
    if resource is None:
        return None, None, None, None
    return resource, namespace, rest[1] if len(rest) > 1 else None, rest[2] if len(rest) > 2 else None


def _verb(method: str, name: str | None, query: Mapping[str, str]) -> str:
    """The verb as RBAC has it."""
    if method == "GET" and query.get("watch") in ("1", "true"):
        return "watch"
    verbs = {"GET": "get" if name else "list", "POST": "create", "PUT": "update", "PATCH": "patch"}
    return verbs.get(method) or ("delete" if name else "deletecollection")
