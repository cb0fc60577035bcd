"""Who may do what: bearer tokens, RBAC, quotas and namespaces that end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime

from tests.doubles.kubernetes.refusals import Row, bad_request, forbidden, not_found, unauthorized
from tests.doubles.kubernetes.resources import JOBS, NAMESPACES, PODS, Resource
from tests.doubles.kubernetes.routes import Request
from tests.doubles.kubernetes.store import Clock, Store

USER = "system:serviceaccount:prefect:agent"


class Tokens:
    """The bearer tokens that the server knows, and until when."""

    def __init__(self, clock: Clock, tokens: Iterable[str]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, datetime | None] = dict.fromkeys(tokens)
        self.also: Callable[[str], bool] | None = None

    def add(self, token: str, expires_at: datetime | None = None) -> None:
        """Know a token, until `expires_at` or until it is removed."""
        with self._lock:
            self._known[token] = expires_at

    def remove(self, token: str) -> None:
        """Know a token no longer."""
        with self._lock:
            self._known.pop(token, None)

    def authenticate(self, token: str | None) -> None:
        """Refuse a request without a token that is known and not expired; `also` may know further ones."""
        with self._lock:
            known = token is not None and token in self._known
            expires_at = self._known[token] if token is not None and known else None
        if known and (expires_at is None or self._clock.now() < expires_at):
            return
        if token is None or known or self.also is None or not self.also(token):
            raise unauthorized()


def is_allowed(store: Store, verb: str, resource: str, namespace: str | None) -> bool:
    """Whether RBAC lets the caller do this."""
    return not {(verb, resource, namespace), (verb, resource, None)} & store.forbidden


def authorize(store: Store, request: Request) -> None:
    """Refuse what RBAC does not allow."""
    if request.resource is None or is_allowed(store, request.verb, request.what, request.namespace):
        return
    scope = f'in the namespace "{request.namespace}"' if request.namespace else "at the cluster scope"
    group = request.resource.group
    why = f'User "{USER}" cannot {request.verb} resource "{request.what}" in API group "{group}" {scope}'
    raise forbidden(request.resource, request.name or "", why)


def review(store: Store, request: Request) -> Row:
    """The answer to "may I?"."""
    document = request.document()
    asked = (document.get("spec") or {}).get("resourceAttributes")
    if not asked:
        raise bad_request("spec.resourceAttributes: exactly one of nonResourceAttributes or resourceAttributes")
    name = "/".join(part for part in (asked.get("resource", ""), asked.get("subresource", "")) if part)
    allowed = is_allowed(store, asked.get("verb", ""), name, asked.get("namespace") or None)
    head = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {}}
    return head | {"spec": document["spec"], "status": {"allowed": allowed}}


def enter_namespace(store: Store, resource: Resource, namespace: str, name: str) -> None:
    """Refuse to create anything in a namespace that is not there, or ends."""
    place = store.objects[NAMESPACES.plural].get(("", namespace))
    if place is None:
        raise not_found(NAMESPACES, namespace)
    if place["status"]["phase"] == "Terminating":
        text = f"namespace {namespace} is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": text, "field": "metadata.namespace"}
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise forbidden(resource, name, why, causes=[cause])


def pass_quota(store: Store, resource: Resource, namespace: str, name: str) -> None:
    """Refuse an object that is one too many. Finished pods do not count."""
    hard = store.quotas.get(namespace, {}).get(resource.plural)
    if hard is None:
        return
    rows = [item for (place, _), item in store.objects[resource.plural].items() if place == namespace]
    used = len([row for row in rows if resource is JOBS or row["status"]["phase"] not in ("Succeeded", "Failed")])
    if used >= hard:
        what = PODS.plural if resource is PODS else f"count/{resource.qualified}"
        limits = f"requested: {what}=1, used: {what}={used}, limited: {what}={hard}"
        raise forbidden(resource, name, f"exceeded quota: {namespace}-quota, {limits}")
