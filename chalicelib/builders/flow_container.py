"""What runs inside a Prefect 1 flow-run container: its image and its command."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from chalicelib.builders.documents import kind_of
from chalicelib.errors import UnsupportedRun
from chalicelib.flow_runs import Document, Flow

_VERSION = re.compile(r"\s*v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(.*)", re.DOTALL)
_BEFORE_THE_RELEASE = re.compile(r"[._-]?(a|b|c|rc|alpha|beta|pre|preview|dev)(?![a-z])", re.IGNORECASE)


def flow_image(flow: Flow, asked: str | None, default: str | None) -> str:
    """The image that can run `flow`: that of its Docker storage, else what the run asks for, else `default`.

    Without any of them it is Prefect's own image of the flow's version, whatever was built locally upon that version
    (after `+`) left out. Raises UnsupportedRun when the Docker storage does not say which image.
    """
    if is_docker_storage(flow.storage):
        return _docker_storage_image(flow.storage)
    own = (flow.core_version or "latest").split("+")[0]
    return asked or default or f"prefecthq/prefect:{own}"


def is_docker_storage(storage: Document) -> bool:
    """Whether the flow is inside its own image."""
    return storage.get("type") == "Docker"


def _docker_storage_image(storage: Document) -> str:
    parts: dict[str, Any] = {name: storage.get(name) for name in ("registry_url", "image_name", "image_tag")}
    problems = [f"{name} is {kind_of(part)}" for name, part in parts.items() if part and not isinstance(part, str)]
    problems += [f"{name} is missing" for name in ("image_name", "image_tag") if parts[name] in (None, "")]
    if problems:
        raise UnsupportedRun(f"the flow's Docker storage names no image ({', '.join(problems)}): register it again")
    return f"{PurePosixPath(parts['registry_url'] or '', parts['image_name'])}:{parts['image_tag']}"


def flow_run_command(core_version: str | None) -> list[str]:
    """The command of the container; flows registered before 0.13.0, or by nobody knows what, know an older name."""
    name = "cloud-flow" if is_older(core_version or "0.0.0", (0, 13, 0)) else "flow-run"
    return ["/bin/sh", "-c", f"prefect execute {name}"]


def is_older(version: str, release: tuple[int, int, int]) -> bool:
    """Whether `version` comes before `release`, its pre-releases included; a text without numbers does not."""
    match = _VERSION.match(version)
    if match is None:
        return False
    numbers = tuple(int(number or 0) for number in match.groups()[:3])
    if numbers == release:
        return _BEFORE_THE_RELEASE.match(match[4]) is not None
    return numbers < release
