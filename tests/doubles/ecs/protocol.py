"""The AWS JSON protocol, read and written by botocore's model of the service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator

TARGET = "AmazonEC2ContainerServiceV20141113."


class Refusal(Exception):
    """An error answer: its code, its message, its status and what else its body carries."""

    def __init__(self, code: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.members = code, message, status, members

    @property
    def body(self) -> dict[str, Any]:
        """The error as the wire has it."""
        return {"__type": self.code, "message": self.message, **self.members}


def invalid(message: str) -> Refusal:
    """What ECS says to most requests that make no sense."""
    return Refusal("InvalidParameterException", message)


@cache
def service() -> ServiceModel:
    """botocore's model of ECS."""
    return botocore.session.get_session().get_service_model("ecs")


def operation(action: str) -> OperationModel:
    """The model of one action; refuses a name that ECS does not have."""
    if action not in service().operation_names:
        raise Refusal("UnknownOperationException", f"Unknown operation {action}")
    return service().operation_model(action)


def _shape(shape: StructureShape | None) -> StructureShape:
    """Every action of ECS has an input and an output; botocore's types allow for none."""
    assert shape is not None
    return shape


def read_input(action: str, body: bytes) -> dict[str, Any]:
    """The parameters of a request, checked against the model: types, required and unknown members."""
    try:
        parameters = json.loads(body or b"{}")
    except ValueError:
        raise Refusal("SerializationException", "the body is not JSON") from None
    report = ParamValidator().validate(parameters, _shape(operation(action).input_shape))
    if report.has_errors():
        raise invalid(report.generate_report())
    return dict(parameters)


def write_output(action: str, output: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as the wire has it. A member that the model does not know is a mistake of the double: KeyError."""
    written: dict[str, Any] = write_value(_shape(operation(action).output_shape), output)
    return written


def write_value(shape: Shape, value: Any) -> Any:
    """One value of an answer by its shape; members that are None are left out, times are seconds since 1970."""
    if isinstance(shape, StructureShape):
        return {name: write_value(shape.members[name], item) for name, item in value.items() if item is not None}
    if isinstance(shape, ListShape):
        return [write_value(shape.member, item) for item in value]
    if isinstance(shape, MapShape):
        return {name: write_value(shape.value, item) for name, item in value.items()}
    return value.timestamp() if isinstance(value, datetime) else value
