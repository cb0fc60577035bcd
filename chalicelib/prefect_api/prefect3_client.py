"""A client of Prefect 3's REST API: answers, refusals, and states that are proposed only where they still fit."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from chalicelib.errors import PrefectError, PrefectRejected, PrefectUnauthorized, PrefectUnreachable, shorten
from chalicelib.flow_runs import Document
from chalicelib.prefect_api.transport import HttpTransport

LOGGER = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS_PER_RUN = 0.5
"""A server sets the states of a bulk one after the other."""

THREADS = 8
"""Requests under way at once. A server on SQLite writes one at a time anyway."""

PAGE_LIMIT = 200
"""How many rows a server gives at most in one answer."""

BULK_LIMIT = 50
"""How many runs a server sets at most in one request."""

NO_BULK_STATUSES = frozenset({404, 405, 422})
"""How servers before 3.6.16 answer where a bulk is asked for."""

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class PrefectRefusal(PrefectRejected):
    """An answer of the client's error range, with its HTTP `status`."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True)
class Proposal:
    """A state for runs that are of one of `types` and, if it is given, called `name`; all others are left alone."""

    run_ids: Sequence[str]
    state: Document
    types: tuple[str, ...]
    name: str = ""

    @property
    def condition(self) -> dict[str, Any]:
        """The same as a filter of flow runs."""
        state: dict[str, Any] = {"type": {"any_": list(self.types)}}
        if self.name:
            state["name"] = {"any_": [self.name]}
        return {"id": {"any_": list(self.run_ids)}, "state": state}

    def fits(self, row: Document) -> bool:
        """Whether a run that stands like this is meant."""
        return row["state_type"] in self.types and self.name in ("", row["state_name"])


class Prefect3Client:
    """Speaks to one API over an HttpTransport; several threads may use it."""

    def __init__(self, transport: HttpTransport) -> None:
        self.transport = transport
        self.read_timeout_seconds = READ_TIMEOUT_SECONDS
        self._has_bulk = True

    def send(
        self, method: str, path: str, body: Any = None, send_until: datetime | None = None, more_seconds: float = 0.0
    ) -> Any:
        """The JSON that is answered. Raises PrefectUnreachable, PrefectUnauthorized, or PrefectRefusal for 4xx."""
        try:
            status, answer = self.transport.send(
                method, path, body, self.read_timeout_seconds + more_seconds, send_until
            )
        except PrefectUnauthorized:
            self.transport.credential.forget()
            raise
        if status >= 400:
            raise PrefectRefusal(status, f"Prefect refuses {method} {path} (HTTP {status}): {_reason(answer)}")
        if status >= 300:
            raise PrefectUnreachable(f"{self.transport.base_url} answers HTTP {status}; check PREFECT_API_URL")
        return answer

    def find(self, path: str) -> Any:
        """What a GET answers; None where there is no such thing."""
        try:
            return self.send("GET", path)
        except PrefectRefusal as error:
            if error.status != 404:
                raise
            return None

    def filter(self, kind: str, body: Document, limit: int = PAGE_LIMIT) -> list[dict[str, Any]]:
        """The first rows of a kind (`flow_runs`, `deployments`, ...) that a filter lets through."""
        rows: list[dict[str, Any]] = self.send("POST", f"/{kind}/filter", {**body, "limit": limit})
        return rows

    def filter_all(self, kind: str, body: Document) -> list[dict[str, Any]]:
        """All rows that a filter lets through, page by page."""
        rows: dict[str, dict[str, Any]] = {}
        for offset in itertools.count(step=PAGE_LIMIT):
            page = self.filter(kind, {**body, "offset": offset})
            rows |= {row["id"]: row for row in page}
            if len(page) < PAGE_LIMIT:
                break
        return list(rows.values())

    def by_id(self, kind: str, ids: Iterable[str | None], body: Document | None = None) -> dict[str, dict[str, Any]]:
        """The rows with these ids, by id, as far as they exist and `body` lets them through."""
        own = (body or {}).get(kind, {})

        def read(some: Sequence[str]) -> list[dict[str, Any]]:
            return self.filter(kind, {**(body or {}), kind: {**own, "id": {"any_": some}}})

        pages = self.all_of(read, _batches(sorted({each for each in ids if each}), PAGE_LIMIT))
        return {row["id"]: row for page in pages for row in page}

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """All states that a run has been in, latest first."""
        found = self.send("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return sorted(found, key=lambda state: datetime.fromisoformat(state["timestamp"]), reverse=True)

    def all_of(self, ask: Callable[[Asked], Answered], subjects: Sequence[Asked]) -> list[Answered]:
        """What `ask` answers for each subject, THREADS at once; raises the first PrefectError once all were asked."""
        answers = self._try_all(ask, subjects)
        for error in (each for each in answers if isinstance(each, PrefectError)):
            raise error
        return [answer for answer in answers if not isinstance(answer, PrefectError)]

    def some_of(
        self, ask: Callable[[Asked], Answered], subjects: Sequence[Asked], problem: str, needs_one: bool = False
    ) -> list[tuple[Asked, Answered]]:
        """Each subject for which `ask` answers, with the answer. PrefectErrors are logged, beginning with `problem`.

        If it `needs_one`, the first PrefectError is raised when there is nothing else.
        """
        answers = self._try_all(ask, subjects)
        errors = [answer for answer in answers if isinstance(answer, PrefectError)]
        if needs_one and errors and len(errors) == len(answers):
            raise errors[0]
        for error in errors:
            LOGGER.error("%s: %s", problem, error)
        pairs = zip(subjects, answers, strict=True)
        return [(subject, answer) for subject, answer in pairs if not isinstance(answer, PrefectError)]

    def propose(self, proposal: Proposal, send_until: datetime) -> dict[str, Document]:
        """What the server made of a state, by run: its `status`, the `state` that holds now and the `details`.

        At most BULK_LIMIT runs. Those that it does not fit, or that are gone, are not in it; one that the server could
        not set now has an ABORT and no state. Raises PrefectError.
        """
        results: dict[str, Document] = {}
        for attempt in range(1, self.transport.attempts + 1):
            results |= self._propose_in_bulk(proposal, send_until) if self._has_bulk else {}
            if not self._has_bulk:
                return results | self._propose_singly(proposal, send_until)
            # An abort without any state is a database that was locked; the request as a whole did succeed.
            lost = [run_id for run_id, result in results.items() if not result["state"]]
            if not lost or self.transport.clock.now() > send_until:
                break
            proposal = replace(proposal, run_ids=lost)
            self.transport.clock.sleep(self.transport.pause_seconds(attempt))
        return results

    def _try_all(self, ask: Callable[[Asked], Answered], subjects: Sequence[Asked]) -> list[Answered | PrefectError]:
        def attempt(subject: Asked) -> Answered | PrefectError:
            try:
                return ask(subject)
            except PrefectError as error:
                return error

        if len(subjects) < 2:
            return [attempt(subject) for subject in subjects]
        with ThreadPoolExecutor(min(THREADS, len(subjects))) as threads:
            return list(threads.map(attempt, subjects))

    def _propose_in_bulk(self, proposal: Proposal, send_until: datetime) -> dict[str, Document]:
        body = {"flow_runs": proposal.condition, "state": proposal.state, "limit": BULK_LIMIT}
        more_seconds = READ_TIMEOUT_SECONDS_PER_RUN * len(proposal.run_ids)
        try:
            answer = self.send("POST", "/flow_runs/bulk_set_state", body, send_until, more_seconds)
        except PrefectRefusal as error:
            if error.status not in NO_BULK_STATUSES:
                raise
            self._has_bulk = False
            return {}
        return {result["flow_run_id"]: result for result in answer["results"]}

    def _propose_singly(self, proposal: Proposal, send_until: datetime) -> dict[str, Document]:
        def propose(run_id: str) -> Document:
            body = {"state": proposal.state}
            answer: Document = self.send("POST", f"/flow_runs/{run_id}/set_state", body, send_until)
            return answer

        fitting = [row["id"] for row in self.by_id("flow_runs", proposal.run_ids).values() if proposal.fits(row)]
        return dict(self.some_of(propose, fitting, "A state is not set", needs_one=True))


def _batches(items: Sequence[str], size: int) -> list[Sequence[str]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def _reason(answer: Any) -> str:
    known = answer if isinstance(answer, Mapping) else {}
    parts = [known.get(name) for name in ("exception_message", "detail", "exception_detail", "details")]
    return shorten("; ".join(str(part) for part in parts if part) or str(answer))
