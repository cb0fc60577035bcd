"""What the double remembers: its objects by resource, and the versions that they and their lists had."""

from __future__ import annotations

import copy
import secrets
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from tests.doubles.kubernetes.refusals import not_found
from tests.doubles.kubernetes.resources import JOBS, RESOURCES, Resource

Row = dict[str, Any]
Key = tuple[str, str]

SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""What the server makes names of: no vowels and nothing that looks like one, so that no words come out."""

SUFFIX_LENGTH = 5
GENERATED_NAME_LENGTH = 63


class Clock(Protocol):
    """The time that the double lives in."""

    def now(self) -> datetime:
        """The current time, in UTC."""


class SystemClock:
    """The real time."""

    def now(self) -> datetime:
        """The current time, in UTC."""
        return datetime.now(UTC)


def key_of(item: Row) -> Key:
    """Namespace (empty without one) and name of an object: its place in a list."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def generate_name(prefix: str) -> str:
    """A name as the server completes one: the prefix is cut so that its five letters fit."""
    letters = "".join(secrets.choice(SUFFIX_LETTERS) for _ in range(SUFFIX_LENGTH))
    return prefix[: GENERATED_NAME_LENGTH - SUFFIX_LENGTH] + letters


def time_text(moment: datetime) -> str:
    """A time as objects have it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def time_of(text: str) -> datetime:
    """A time of an object."""
    return datetime.fromisoformat(text)


@dataclass
class Store:
    """All state; hold `lock` while touching it.

    An object is never changed once it is here: a change puts a new one in its place, so that what was read stays as it
    was and an earlier list can be gone on with. `logs` and `quotas` are by pod uid and by namespace; `forbidden` is
    what RBAC refuses: verb, resource, and the namespace or None for every one. `unsettled` are the Jobs that the Job
    controller has to look at.
    """

    clock: Clock
    lock: threading.RLock = field(default_factory=threading.RLock)
    objects: dict[str, dict[Key, Row]] = field(default_factory=lambda: {row.plural: {} for row in RESOURCES})
    version: int = 1000
    lists: dict[tuple[str, int], tuple[datetime, dict[Key, Row]]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    quotas: dict[str, dict[str, int]] = field(default_factory=dict)
    forbidden: set[tuple[str, str, str | None]] = field(default_factory=set)
    unsettled: set[Key] = field(default_factory=set)
    _owned: defaultdict[str, dict[Key, Row]] = field(default_factory=lambda: defaultdict(dict))

    def now_text(self) -> str:
        """The current time as objects have it."""
        return time_text(self.clock.now())

    def add(self, resource: Resource, item: Row) -> Row:
        """Take in a new object, which gets its uid, version and time of creation."""
        item["metadata"].setdefault("uid", str(uuid.uuid4()))
        item["metadata"].setdefault("creationTimestamp", self.now_text())
        return self.put(resource, item)

    def put(self, resource: Resource, item: Row) -> Row:
        """Let an object stand as it is now."""
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        self._disown(self.objects[resource.plural].get(key_of(item)))
        self.objects[resource.plural][key_of(item)] = item
        if resource is JOBS:
            self.unsettled.add(key_of(item))
        for owner, owned in self._owners(item):
            owned[key_of(item)] = item
            self.unsettled.add(owner)
        return item

    @contextmanager
    def change(self, resource: Resource, item: Row) -> Iterator[Row]:
        """A copy of an object to change, which then takes its place."""
        changed = copy.deepcopy(self.objects[resource.plural][key_of(item)])
        yield changed
        self.put(resource, changed)

    def remove(self, resource: Resource, item: Row) -> None:
        """Forget an object."""
        self.version += 1
        self._disown(self.objects[resource.plural].pop(key_of(item), None))

    def pods_of(self, job: Row) -> list[Row]:
        """The pods that a Job owns."""
        return list(self._owned[job["metadata"]["uid"]].values())

    def _disown(self, item: Row | None) -> None:
        if item is None:
            return
        for owner, owned in self._owners(item):
            owned.pop(key_of(item), None)
            self.unsettled.add(owner)

    def _owners(self, item: Row) -> Iterator[tuple[Key, dict[Key, Row]]]:
        """Each owner of an object, with all that it owns."""
        for owner in item["metadata"].get("ownerReferences", ()):
            yield (key_of(item)[0], owner["name"]), self._owned[owner["uid"]]

    def get(self, resource: Resource, namespace: str | None, name: str) -> Row:
        """An object; refuses one that is not there."""
        item = self.objects[resource.plural].get((namespace or "", name))
        if item is None:
            raise not_found(resource, name)
        return item

    def named(self, resource: Resource, name: str, namespace: str | None = None) -> Row:
        """An object by name, in whatever namespace when none is given. Raises KeyError."""
        for (place, its_name), item in self.objects[resource.plural].items():
            if its_name == name and namespace in (None, place):
                return item
        raise KeyError(name)
