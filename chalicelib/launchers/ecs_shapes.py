"""What botocore's own model of ECS finds wrong with a request, before anything is asked of AWS."""

from __future__ import annotations

import difflib
import functools
from typing import Any

from chalicelib.builders.run_configs import kind_of
from chalicelib.errors import shorten
from chalicelib.flow_runs import Document

_KINDS = {"dict": "an object", "list": "a list", "str": "text", "bool": "true or false"}
_PATH_LENGTH = 120
_LIKENESS = 0.75


def shape_problems(operation: str, request: Document) -> list[str]:
    """What ECS would never take in a request of `operation`, one line each: by its path, and never by its value.

    `request` may lack what only the whole request must have.
    """
    from botocore.validate import ParamValidator

    report: Any = ParamValidator().validate(request, _ecs_model().operation_model(operation).input_shape)
    # The report as text would show the values.
    return [
        _line(shorten(path.lstrip("."), _PATH_LENGTH), reason, details, operation)
        for reason, path, details in report._errors
        if path or reason != "missing required field"
    ]


@functools.cache
def _ecs_model() -> Any:
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")


def _line(path: str, reason: str, details: dict[str, Any], operation: str) -> str:
    if reason == "missing required field":
        return f"{path} has no {details['required_name']}, without which ECS refuses it"
    if reason == "unknown field":
        name = str(details["unknown_param"])
        near = difflib.get_close_matches(name, details["valid_names"], 1, _LIKENESS)
        hint = f"did you mean {near[0]}?" if near else "leave it out"
        what = f"{path} has no field" if path else f"ECS's {operation} has no argument"
        return f"{what} {shorten(name, _PATH_LENGTH)}: {hint}"
    if reason == "invalid type" and details["param"] is None:
        return f"{path} is null: give it a value or leave it out"
    if reason == "invalid type":
        expected = _KINDS.get(details["valid_types"][0].split("'")[1], "a number")
        return f"{path} is {kind_of(details['param'])}, not {expected}"
    return f"{path} has an {reason}" + (f", less than {details['min_allowed']}" if "min_allowed" in details else "")
