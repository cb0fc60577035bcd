"""The resources that the double serves, and the documents by which clients discover them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.2",
    "gitCommit": "0" * 40,
    "gitTreeState": "clean",
    "buildDate": "2025-11-01T00:00:00Z",
    "goVersion": "go1.24.9",
    "compiler": "gc",
    "platform": "linux/amd64",
}

SUBRESOURCES = ("jobs/status", "pods/log", "pods/status")


@dataclass(frozen=True)
class Resource:
    """A resource type: where it is served, and how it is called in answers."""

    group: str
    plural: str
    kind: str
    verbs: tuple[str, ...]
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """The `apiVersion` of its objects."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """Its name with its group, as messages have it: `jobs.batch`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """Its kind with its group, as validation has it: `Job.batch`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


JOBS = Resource("batch", "jobs", "Job", ("create", "delete", "get", "list", "patch"))
PODS = Resource("", "pods", "Pod", ("delete", "get", "list"))
EVENTS = Resource("", "events", "Event", ("get", "list"))
NAMESPACES = Resource("", "namespaces", "Namespace", ("get", "list"), namespaced=False)
REVIEWS = Resource(
    "authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", ("create",), namespaced=False
)
RESOURCES = (JOBS, PODS, EVENTS, NAMESPACES, REVIEWS)


def find(group: str, plural: str) -> Resource | None:
    """A resource by its group and its name in paths."""
    return next((row for row in RESOURCES if (row.group, row.plural) == (group, plural)), None)


def document(path: str) -> Any:
    """What is served at a path that names no resource: the version, health, discovery. None when it is nothing."""
    if path in ("/livez", "/readyz", "/healthz"):
        return "ok"
    if path == "/version":
        return VERSION
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _groups()]}
    group = path.removeprefix("/apis/").removesuffix("/v1") if path.startswith("/apis/") else ""
    if path == "/api/v1" or (group in _groups() and path == f"/apis/{group}/v1"):
        return _resource_list(group)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group)} if group in _groups() else None


def _groups() -> list[str]:
    return sorted({row.group for row in RESOURCES if row.group})


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str) -> dict[str, Any]:
    rows = [
        {"name": row.plural, "singularName": row.kind.lower(), "namespaced": row.namespaced, "kind": row.kind}
        | {"verbs": list(row.verbs)}
        for row in RESOURCES
        if row.group == group
    ]
    version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": rows}
