"""What callers do to Jobs: create, delete and patch them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.doubles.kubernetes import access, controller, schema, validation
from tests.doubles.kubernetes.defaults import fill_job
from tests.doubles.kubernetes.refusals import (
    Refusal,
    Row,
    already_exists,
    bad_request,
    conflict,
    details,
    invalid,
    unreadable_kind,
)
from tests.doubles.kubernetes.resources import JOBS
from tests.doubles.kubernetes.routes import Request
from tests.doubles.kubernetes.store import Store

ORPHANS_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)
POLICIES = ("Background", "Foreground", "Orphan")
PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
IMMUTABLE = ("completions", "completionMode", "selector", "template")


def create(store: Store, request: Request) -> tuple[Row, dict[str, str]]:
    """Take in a Job, with the headers of the answer.

    What refuses first is as with the API server: the document, the namespace, validation, the quota and only then the
    name, so that with a full quota a Job that is already there is refused by the quota and not as a duplicate.
    """
    namespace = request.namespace or ""
    given, unknown = _read(request, namespace)
    job = fill_job(given, namespace)
    name = job["metadata"]["name"]
    access.enter_namespace(store, JOBS, namespace, name)
    causes = validation.check_job(job)
    if causes:
        raise invalid(JOBS, name, causes)
    access.pass_quota(store, JOBS, namespace, name)
    if (namespace, name) in store.objects[JOBS.plural]:
        raise already_exists(JOBS, name)
    headers = _warnings(f'unknown field "{path}"' for path in unknown) if _asks(request) == "Warn" else {}
    if request.query.get("dryRun") == "All":
        return job, headers
    return store.add(JOBS, job), headers


def delete(store: Store, request: Request) -> tuple[Row, dict[str, str]]:
    """Delete a Job, with the headers of the answer. Its pods go at once in the background, and stay with Orphan.

    Without a policy they stay, with a warning: `batch/v1` keeps its oldest behaviour.
    """
    job = store.get(JOBS, request.namespace, request.name or "")
    options = request.document() if request.content else {}
    _meet(job, options.get("preconditions") or {})
    policy = _policy(options, request.query)
    headers = {} if policy else _warnings([ORPHANS_WARNING])
    if request.query.get("dryRun") != "All":
        controller.remove_job(store, job, with_pods=policy in ("Background", "Foreground"))
    if policy == "Background":
        found = details(JOBS, job["metadata"]["name"], uid=job["metadata"]["uid"])
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": found}
        return status, headers
    finalizer = "foregroundDeletion" if policy == "Foreground" else "orphan"
    ending = {"deletionTimestamp": store.now_text(), "finalizers": [finalizer]}
    return {**job, "metadata": {**job["metadata"], **ending}}, headers


def patch(store: Store, request: Request) -> Row:
    """Merge a patch into a Job; lists are replaced. Refuses other kinds of patch, and to change what is fixed."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind not in PATCHES:
        raise unreadable_kind(*PATCHES)
    job = store.get(JOBS, request.namespace, request.name or "")
    name = job["metadata"]["name"]
    merged, _ = schema.read_job(JOBS, _merge(job, request.document()))
    fixed = [row for row in IMMUTABLE if merged["spec"].get(row) != job["spec"].get(row)]
    causes = [validation.invalid(f"spec.{row}", merged["spec"].get(row), "field is immutable") for row in fixed]
    causes += validation.check_labels(merged["metadata"])
    if causes:
        raise invalid(JOBS, name, causes)
    kept = {field: job["metadata"][field] for field in ("name", "namespace", "uid", "creationTimestamp")}
    generation = job["metadata"]["generation"] + (merged["spec"] != job["spec"])
    merged["metadata"] |= {**kept, "generation": generation}
    return store.put(JOBS, {**merged, "status": job["status"]})


def _asks(request: Request) -> str:
    """What is to become of unknown fields: Strict, Warn or Ignore."""
    return request.query.get("fieldValidation") or "Warn"


def _read(request: Request, namespace: str) -> tuple[Row, list[str]]:
    """The Job that a request has, and its unknown fields; refuses what is none."""
    document = request.document()
    version, kind = document.get("apiVersion") or JOBS.api_version, document.get("kind") or JOBS.kind
    if version != JOBS.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({JOBS.api_version})"
        )
    if kind != JOBS.kind:
        scheme = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30"
        raise bad_request(f'no kind "{kind}" is registered for version "{version}" in scheme "{scheme}"')
    job, unknown = schema.read_job(JOBS, document)
    if unknown and _asks(request) == "Strict":
        found = ", ".join(f'unknown field "{path}"' for path in unknown)
        raise schema.unreadable(JOBS, f"strict decoding error: {found}")
    if job.get("metadata", {}).get("namespace", namespace) != namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    return {part: job[part] for part in ("metadata", "spec") if part in job}, unknown


def _meet(job: Row, preconditions: Row) -> None:
    """Refuse to delete another Job than the caller means."""
    for field, words in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted, found = preconditions.get(field), job["metadata"][field]
        if wanted is not None and wanted != found:
            why = f"the {words} in the precondition ({wanted}) does not match the {words} in record ({found})."
            rest = " The object might have been deleted and then recreated" if field == "uid" else ""
            raise conflict(JOBS, job["metadata"]["name"], f"{why.rstrip('.')}.{rest}".rstrip())


def _policy(options: Row, query: Mapping[str, str]) -> str | None:
    policy = options.get("propagationPolicy") or query.get("propagationPolicy")
    if policy is not None and policy not in POLICIES:
        cause = validation.unsupported("propagationPolicy", policy, '"Foreground", "Background", "Orphan", "nil"')
        text = f'DeleteOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}'
        raise Refusal(422, "Invalid", text, {"group": "meta.k8s.io", "kind": "DeleteOptions"})
    return policy


def _merge(old: Any, new: Any) -> Any:
    """RFC 7396: what is null goes, objects are merged, all else is replaced."""
    if not isinstance(new, dict):
        return new
    merged = copy.deepcopy(old) if isinstance(old, dict) else {}
    for name, value in new.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _warnings(texts: Any) -> dict[str, str]:
    """The header that clients show as warnings."""
    rows = [text.replace('"', '\\"') for text in texts]
    return {"warning": ", ".join(f'299 - "{text}"' for text in rows)} if rows else {}
