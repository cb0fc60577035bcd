"""What the published schemas of Kubernetes say about a manifest."""

from __future__ import annotations

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

NEWEST: str = kubernetes_validate.latest_version()
OLDEST = "1.25.0"


def schema_problem(manifest: dict[str, Any], version: str = NEWEST, strict: bool = True) -> str:
    """The first thing that is wrong, "" when nothing is; unknown fields are wrong only if `strict`."""
    try:
        kubernetes_validate.validate(manifest, version, strict)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    return ""
