"""Into how many requests a mutation is divided, as a server carries out the fields of one after each other."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from itertools import groupby

from chalicelib.prefect_api.documents import RootField

SLOW_SECONDS = 0.25
"""A mutation that would take less than this, beside its way there and back, stays one request."""

PORTION_SECONDS = 0.1
"""What the fields of each portion of a slow one should take."""

MOST_PORTIONS = 8
"""Requests under way at once: what a few processes of a small server carry, and no pool of connections overflows."""

GAIN = 0.75
"""If the portions together take more than this part of the time of the undivided one, they were in vain."""

LONGEST_REST = 64
"""Mutations that are left undivided at most before it is tried again: 2 after the first time in vain, then 4, ..."""


class Portions:
    """Learns from the time that requests take. Several threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._trip_seconds = math.inf
        self._field_seconds = 0.0
        self._rest = 0
        self._next_rest = 2

    def divide(self, fields: Sequence[RootField]) -> list[list[RootField]]:
        """The fields in order, in as many portions as are worth being sent at once: one, unless fields are slow.

        What concerns one run stays together, as it must be carried out in order: aliases that are the same up to `_`.
        """
        with self._lock:
            seconds = self._field_seconds * len(fields)
            rests, self._rest = self._rest > 0, max(0, self._rest - 1)
        count = 1 if rests or seconds < SLOW_SECONDS else math.ceil(seconds / PORTION_SECONDS)
        size = math.ceil(len(fields) / min(count, MOST_PORTIONS))
        portions: list[list[RootField]] = [[]]
        for _, of_one_run in groupby(fields, lambda root_field: root_field.alias.partition("_")[0]):
            if len(portions[-1]) >= size:
                portions.append([])
            portions[-1] += of_one_run
        return portions

    def learn(self, portions: Sequence[Sequence[RootField]], seconds: float) -> None:
        """So long took what was sent at once in these portions."""
        size, total = max(map(len, portions)), sum(map(len, portions))
        with self._lock:
            # The way there and back, and what a first field takes: no request is quicker. One that is slow by chance
            # says little of it.
            self._trip_seconds = min(seconds, self._trip_seconds * (2 if total == 1 else 1))
            others_seconds = seconds - self._trip_seconds
            if size < total and others_seconds > GAIN * self._field_seconds * (total - 1):
                # A server with one hand gets no more done by being asked more at a time.
                self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, LONGEST_REST)
                return
            if size < total:
                self._next_rest = 2
            if size > 1:
                self._field_seconds = others_seconds / (size - 1)
