"""State documents: how the server completes, checks and classifies what a client sends as a run's state."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.doubles.prefect1.store import Refused, parse_time

Document = dict[str, Any]

CORE_VERSION = "1.4.1"
"""The version of prefect that the server itself runs on, which it writes into every document it completes."""

SCHEDULED = frozenset({"Scheduled", "Paused", "Queued", "Resume", "Retrying"})
"""States that the queue looks at."""
RUNNING = frozenset({"Running", "Cancelling"})
FAILED = frozenset({"Failed", "TimedOut", "TriggerFailed", "ValidationFailed"})
SUCCESSFUL = frozenset({"Success", "Cached", "Mapped", "Skipped"})
FINISHED = FAILED | SUCCESSFUL | {"Finished", "Cancelled", "Looped"}
META = frozenset({"Submitted", "Queued", "ClientFailed"})
"""States that wrap the state before them."""
TYPES = SCHEDULED | RUNNING | FINISHED | META | {"Pending"}

EXTRA_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "Retrying": {"run_count": 1},
    "Looped": {"loop_count": 1},
    "Mapped": {"n_map_states": 0},
    "Cached": {"cached_parameters": None, "hashed_inputs": None, "cached_result_expiration": None},
}


def complete_state(document: Any, now: datetime) -> Document:
    """The document as the server stores it: every field present, unknown ones gone.

    Raises Refused with the message of the server's schema when it is no state.
    """
    errors = _type_errors(document)
    if not errors:
        complete = _with_defaults(document, now)
        errors = _field_errors(complete)
    if errors:
        raise Refused(str(errors))
    return complete


def _type_errors(document: Any) -> dict[str, Any]:
    if not isinstance(document, Mapping):
        return {"_schema": f"Invalid data type: {document}"}
    if document.get("type") is None:
        return {"type": ["Missing data for required field."]}
    if document["type"] not in TYPES:
        return {"type": [f"Unsupported value: {document['type']}"]}
    return {}


def _with_defaults(document: Mapping[str, Any], now: datetime) -> Document:
    kind = document["type"]
    defaults = {"message": None, "context": {}, "cached_inputs": {}, **EXTRA_FIELDS.get(kind, {})}
    complete = {name: document.get(name, default) for name, default in defaults.items()}
    complete.update(type=kind, __version__=CORE_VERSION)
    for name in ("context", "cached_inputs"):
        if complete[name] is None:
            complete[name] = {}
    if kind != "Mapped":
        complete["_result"] = document.get("_result", {"type": "NoResultType", "__version__": CORE_VERSION})
    if kind in SCHEDULED:
        complete["start_time"] = document.get("start_time") or (None if kind == "Paused" else now.isoformat())
    if kind in META:
        inner = document.get("state")
        complete["state"] = inner if inner is None or _type_errors(inner) else _with_defaults(inner, now)
    return complete


def _field_errors(complete: Document) -> dict[str, Any]:
    errors: dict[str, Any] = {}
    if not isinstance(complete["message"], (str, type(None))):
        errors["message"] = ["Not a valid string."]
    for name in ("context", "cached_inputs"):
        if not isinstance(complete[name], Mapping):
            errors[name] = ["Not a valid mapping type."]
    if complete.get("_result", "absent") is None:
        errors["_result"] = ["Field may not be null."]
    if complete.get("start_time") is not None and not _normalize_start_time(complete):
        errors["start_time"] = ["Not a valid datetime."]
    inner = complete.get("state")
    inner_errors = {} if inner is None else _type_errors(inner) or _field_errors(inner)
    return {**errors, "state": inner_errors} if inner_errors else errors


def _normalize_start_time(complete: Document) -> bool:
    try:
        written = complete["start_time"].replace("Z", "+00:00")
        time = datetime.fromisoformat(written)
        complete["start_time"] = (time if time.tzinfo else parse_time(written)).isoformat()
    except (ValueError, AttributeError):
        return False
    return True
