"""Lists: chosen by selectors, in pages that show one moment."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

from tests.doubles.kubernetes.refusals import Row, bad_request, expired
from tests.doubles.kubernetes.resources import Resource
from tests.doubles.kubernetes.routes import Request
from tests.doubles.kubernetes.selectors import Selector, read_fields, read_labels
from tests.doubles.kubernetes.store import Key, Store

LIST_LIFE = timedelta(minutes=5)
"""How long an earlier state can be gone on with: what etcd is compacted to by default."""

CURRENT = -1
"""The version of a continue token that goes on in what there is now."""


def list_objects(store: Store, request: Request) -> Row:
    """A page of a list. Refuses selectors, limits and continue tokens that make no sense, or are too old."""
    resource = request.served
    version, start = _read_token(request.query.get("continue", ""))
    objects = _objects(store, resource, version, start)
    version = store.version if version in (None, CURRENT) else version
    chosen = _choose(objects, request, start)
    limit = _limit(request)
    page = chosen[:limit] if limit else chosen
    metadata: Row = {"resourceVersion": str(version)}
    if len(page) < len(chosen):
        metadata["continue"] = _write_token(version or 0, page[-1][0])
        store.lists[(resource.plural, version or 0)] = (store.clock.now(), dict(objects))
        # With selectors the server would have to read everything to know how much is left.
        if not (request.query.get("labelSelector") or request.query.get("fieldSelector")):
            metadata["remainingItemCount"] = len(chosen) - len(page)
    kind = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
    return kind | {"metadata": metadata, "items": [item for _, item in page]}


def _objects(store: Store, resource: Resource, version: int | None, start: Key) -> dict[Key, Row]:
    """What a list is taken from: what there is now, or was when its first page was answered."""
    oldest = store.clock.now() - LIST_LIFE
    store.lists = {key: row for key, row in store.lists.items() if row[0] >= oldest}
    if version in (None, CURRENT):
        return store.objects[resource.plural]
    if (resource.plural, version) not in store.lists:
        raise expired(_write_token(CURRENT, start))
    return store.lists[(resource.plural, version or 0)][1]


def _choose(objects: dict[Key, Row], request: Request, start: Key) -> list[tuple[Key, Row]]:
    labels = read_labels(request.query.get("labelSelector", ""))
    fields = read_fields(request.served, request.query.get("fieldSelector", ""))
    rows = sorted(objects.items(), key=lambda row: row[0])
    return [
        (key, item)
        for key, item in rows
        if key > start and request.namespace in (None, key[0]) and _matches(item, labels, fields)
    ]


def _matches(item: Row, labels: list[Selector], fields: list[Selector]) -> bool:
    item_labels = item["metadata"].get("labels", {})
    return all(term(item_labels) for term in labels) and all(term(item) for term in fields)


def _limit(request: Request) -> int:
    text = request.query.get("limit") or "0"
    try:
        return max(0, int(text))
    except ValueError:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def _write_token(version: int, start: Key) -> str:
    token = {"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(start)}
    return base64.urlsafe_b64encode(json.dumps(token).encode()).decode().rstrip("=")


def _read_token(text: str) -> tuple[int | None, Key]:
    """The version and the last key of a continue token; no version when there is none."""
    if not text:
        return None, ("", "")
    try:
        token = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, _, name = token["start"].partition("/")
        return int(token["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError):
        raise bad_request("continue key is not valid: failed to decode") from None
