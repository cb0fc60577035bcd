"""What is wrong with a Job, in the words of the API server's validation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.doubles.kubernetes.refusals import Cause, Row

LABEL_LENGTH = 63
NAME_LENGTH = 253
ANNOTATIONS_SIZE = 256 * 1024

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
NAME_PART = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
VALUE = rf"({NAME_PART})?"

DNS_LABEL_WORDS = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
SUBDOMAIN_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{SUBDOMAIN}')"
)
VALUE_WORDS = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{VALUE}')"
)
KEY_WORDS = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME_PART}')"
)

COUNTS = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
JOB_POLICIES = '"OnFailure", "Never"'
POD_POLICIES = ("Always", "Never", "OnFailure")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")


def required(field: str, detail: str = "") -> Cause:
    """A field that must be there."""
    return Cause(field, "FieldValueRequired", f"Required value: {detail}" if detail else "Required value")


def invalid(field: str, value: Any, detail: str) -> Cause:
    """A field whose value is not of the right form."""
    return Cause(field, "FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {detail}")


def unsupported(field: str, value: Any, supported: str) -> Cause:
    """A field whose value is none of a few."""
    text = f"Unsupported value: {json.dumps(value)}: supported values: {supported}"
    return Cause(field, "FieldValueNotSupported", text)


def check_job(job: Row) -> list[Cause]:
    """Everything that is wrong with a Job whose defaults are filled in."""
    template = job["spec"]["template"]
    return [
        *_check_metadata(job["metadata"]),
        *_check_counts(job["spec"]),
        *_check_labels(template["metadata"].get("labels", {}), "spec.template.labels"),
        *_check_pod(template["spec"], "spec.template.spec"),
    ]


def check_labels(metadata: Row) -> list[Cause]:
    """What is wrong with an object's labels and annotations."""
    return [*_check_labels(metadata.get("labels", {}), "metadata.labels"), *_check_annotations(metadata)]


def _check_metadata(metadata: Row) -> Iterator[Cause]:
    name = metadata["name"]
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif len(name) > NAME_LENGTH:
        yield invalid("metadata.name", name, f"must be no more than {NAME_LENGTH} bytes")
    elif not re.fullmatch(SUBDOMAIN, name):
        yield invalid("metadata.name", name, SUBDOMAIN_WORDS)
    yield from check_labels(metadata)


def _check_annotations(metadata: Row) -> Iterator[Cause]:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.get("annotations", {}).items())
    if size > ANNOTATIONS_SIZE:
        text = f"Too long: may not be more than {ANNOTATIONS_SIZE} bytes"
        yield Cause("metadata.annotations", "FieldValueTooLong", text)


def _check_labels(labels: Row, field: str) -> Iterator[Cause]:
    for key, value in labels.items():
        prefix, _, name = key.rpartition("/")
        if prefix and not re.fullmatch(SUBDOMAIN, prefix):
            yield invalid(field, key, f"prefix part {SUBDOMAIN_WORDS}")
        if len(name) > LABEL_LENGTH:
            yield invalid(field, key, f"name part must be no more than {LABEL_LENGTH} bytes")
        if not re.fullmatch(NAME_PART, name):
            yield invalid(field, key, KEY_WORDS)
        if len(value.encode()) > LABEL_LENGTH:
            yield invalid(field, value, f"must be no more than {LABEL_LENGTH} bytes")
        elif not re.fullmatch(VALUE, value):
            yield invalid(field, value, VALUE_WORDS)


def _check_counts(spec: Row) -> Iterator[Cause]:
    for name in COUNTS:
        if spec.get(name, 0) < 0:
            yield invalid(f"spec.{name}", spec[name], "must be greater than or equal to 0")


def _check_pod(spec: Row, field: str) -> Iterator[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        yield required(f"{field}.containers")
    names: set[str] = set()
    for at, container in enumerate(containers):
        yield from _check_container(container, f"{field}.containers[{at}]", names)
    policy = spec["restartPolicy"]
    if policy not in POD_POLICIES:
        yield unsupported(f"{field}.restartPolicy", policy, ", ".join(f'"{row}"' for row in POD_POLICIES))
        yield unsupported(f"{field}.restartPolicy", policy, JOB_POLICIES)
    elif policy == "Always":
        yield required(f"{field}.restartPolicy", f"valid values: {JOB_POLICIES}")


def _check_container(container: Row, field: str, names: set[str]) -> Iterator[Cause]:
    name = container.get("name", "")
    if not name:
        yield required(f"{field}.name")
    elif len(name) > LABEL_LENGTH or not re.fullmatch(LABEL, name):
        yield invalid(f"{field}.name", name, DNS_LABEL_WORDS)
    elif name in names:
        yield Cause(f"{field}.name", "FieldValueDuplicate", f"Duplicate value: {json.dumps(name)}")
    names.add(name)
    image = container.get("image", "")
    if not image:
        yield required(f"{field}.image")
    elif image != image.strip():
        yield invalid(f"{field}.image", image, "must not have leading or trailing whitespace")
    if container["imagePullPolicy"] not in PULL_POLICIES:
        supported = ", ".join(f'"{row}"' for row in PULL_POLICIES)
        yield unsupported(f"{field}.imagePullPolicy", container["imagePullPolicy"], supported)
    for at, variable in enumerate(container.get("env", [])):
        if not variable.get("name"):
            yield required(f"{field}.env[{at}].name")
