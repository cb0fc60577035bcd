"""State documents of Prefect 1 (pure), in the shape that its own clients write and read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from chalicelib.flow_runs import Document

SCHEMA_VERSION = "1.4.1"
"""The Prefect release whose state schema these documents follow."""


def submitted(previous: Document, message: str, context: Document) -> dict[str, Any]:
    """A claim on a flow run or task run that was in the state `previous`."""
    return _state("Submitted", message, context) | {"state": dict(previous)}


def failed(message: str, context: Document) -> dict[str, Any]:
    """The end of a flow run, with the reason."""
    return _state("Failed", message, context)


def scheduled(start_time: datetime, message: str, context: Document) -> dict[str, Any]:
    """A flow run or task run that may be taken by anybody from `start_time` on."""
    return _state("Scheduled", message, context) | {"start_time": start_time.isoformat()}


def _state(kind: str, message: str, context: Document) -> dict[str, Any]:
    return {
        "type": kind,
        # PostgreSQL refuses NUL, and with it the whole request.
        "message": message.replace("\x00", ""),
        "context": dict(context),
        "cached_inputs": {},
        "_result": {"type": "NoResultType", "__version__": SCHEMA_VERSION},
        "__version__": SCHEMA_VERSION,
    }
