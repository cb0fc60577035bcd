"""The API server's refusals: `Status` objects in its own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tests.doubles.kubernetes.resources import Resource

Row = dict[str, Any]

PLAIN = {429: "Too many requests, please try again later.\n"}
"""What the server says in plain text instead of a `Status`: its fair queueing stands before all that knows of those."""

WORDS = {
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "Timeout: request did not complete within the allotted timeout"),
}


class Refusal(Exception):
    """An answer that is a `Status` of failure; `headers` go with it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Row | None = None,
        headers: Mapping[str, str] | None = None,
        list_metadata: Row | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details, self.headers, self.list_metadata = details, dict(headers or {}), list_metadata or {}

    @property
    def body(self) -> Row:
        """The `Status` as the wire has it."""
        status: Row = {"kind": "Status", "apiVersion": "v1", "metadata": self.list_metadata, "status": "Failure"}
        status |= {"message": self.message, "reason": self.reason, "code": self.code}
        return status if self.details is None else status | {"details": self.details}


class Cause(NamedTuple):
    """What is wrong with one field of an object."""

    field: str
    reason: str
    message: str


def details(resource: Resource, name: str = "", **more: Any) -> Row:
    """The `details` of a refusal that is about an object."""
    group = {"group": resource.group} if resource.group else {}
    return ({"name": name} if name else {}) | group | {"kind": resource.plural} | more


def bad_request(message: str) -> Refusal:
    """400: the request makes no sense."""
    return Refusal(400, "BadRequest", message)


def unauthorized() -> Refusal:
    """401: no token, or none that is known."""
    return Refusal(401, "Unauthorized", "Unauthorized")


def forbidden(resource: Resource, name: str, why: str, **more: Any) -> Refusal:
    """403: by RBAC, a quota or a namespace that ends."""
    subject = f'{resource.qualified} "{name}"' if name else resource.qualified
    return Refusal(403, "Forbidden", f"{subject} is forbidden: {why}", details(resource, name, **more))


def not_found(resource: Resource, name: str) -> Refusal:
    """404: no such object."""
    return Refusal(404, "NotFound", f'{resource.qualified} "{name}" not found', details(resource, name))


def no_such_path() -> Refusal:
    """404: nothing is served there."""
    return Refusal(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> Refusal:
    """405: served, but not for this verb."""
    text = "the server does not allow this method on the requested resource"
    return Refusal(405, "MethodNotAllowed", text, {})


def already_exists(resource: Resource, name: str) -> Refusal:
    """409: the name is taken."""
    return Refusal(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> Refusal:
    """409: the object is not as the request supposes."""
    text = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return Refusal(409, "Conflict", text, details(resource, name))


def expired(fresh_token: str) -> Refusal:
    """410: the list that a continue token belongs to is gone; `fresh_token` goes on in what there is now."""
    text = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    return Refusal(410, "Expired", text, list_metadata={"continue": fresh_token})


def unreadable_kind(*kinds: str) -> Refusal:
    """415: a body of a kind that is not read."""
    text = f"the body of the request was in an unknown format - accepted media types include: {', '.join(kinds)}"
    return Refusal(415, "UnsupportedMediaType", text, {})


def invalid(resource: Resource, name: str, causes: Iterable[Cause]) -> Refusal:
    """422: what is wrong with the object, field by field; the message says each thing once, the causes all of them."""
    rows = list(causes)
    texts = list(dict.fromkeys(f"{row.field}: {row.message}" for row in rows))
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    found = [{"reason": row.reason, "message": row.message, "field": row.field} for row in rows]
    more: Row = {"name": name, "group": resource.group, "kind": resource.kind, "causes": found}
    return Refusal(422, "Invalid", f'{resource.qualified_kind} "{name}" is invalid: {text}', more)
