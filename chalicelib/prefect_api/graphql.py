"""A GraphQL client that understands how Prefect 1 answers: HTTP 200 is not success, and each root field has its own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from chalicelib.errors import PrefectRejected, PrefectUnauthorized, PrefectUnreachable, shorten
from chalicelib.prefect_api.documents import RootField, compose
from chalicelib.prefect_api.portions import MOST_PORTIONS, Portions
from chalicelib.prefect_api.transport import HttpTransport

LOGGER = logging.getLogger(__name__)

READ_TIMEOUT_SECONDS = 10.0
READ_TIMEOUT_SECONDS_PER_FIELD = 0.5
"""A GraphQL server carries out aliased mutations one after the other, so a batch may take as long as its parts."""

REQUEST_BYTES = 2_000_000
"""How big a request may be, twice that for what concerns one run: a server refuses all of one over 5 MB."""

TRANSIENT_TEXTS = (
    "Unable to complete operation",  # the gateway, when the database or Hasura is away
    "failed, reason:",  # the gateway, when the GraphQL service is away
    "API_ERROR",  # Prefect Cloud's own code
)
UNAUTHORIZED_TEXTS = ("UNAUTHENTICATED", "Malformed Authorization header")


class Patience(NamedTuple):
    """Until when a request may be sent, None is for ever, and how long its answer is waited for."""

    send_until: datetime | None
    answer_seconds: float


@dataclass(frozen=True)
class FieldReply:
    """What one root field answered: its value, or the problem in the server's words."""

    value: Any = None
    problem: str | None = None
    is_transient: bool = False


class GraphQLClient:
    """Sends root fields over an HttpTransport and gives back one FieldReply for each alias."""

    def __init__(self, transport: HttpTransport) -> None:
        self.transport = transport
        self.read_timeout_seconds = READ_TIMEOUT_SECONDS
        self.portions = Portions()
        # No thread of it starts before it is needed.
        self._threads = ThreadPoolExecutor(MOST_PORTIONS + 1)

    def query(self, fields: Sequence[RootField]) -> dict[str, Any]:
        """The value of each field; a problem with any one raises PrefectUnreachable or PrefectRejected."""
        return self._query(fields, self._patience(fields))

    def begin_query(self, fields: Sequence[RootField], seconds: float) -> Future[dict[str, Any]]:
        """The same while something else is asked, and given up after so many seconds."""
        patience = Patience(self.transport.clock.now() + timedelta(seconds=seconds), seconds)
        return self._threads.submit(self._query, fields, patience)

    def mutate(self, fields: Sequence[RootField], send_until: datetime | None = None) -> dict[str, FieldReply]:
        """The reply of each field. Fields that failed for a transient reason are sent again, the others are not.

        Nothing is sent after `send_until`: a state that is written rests on a reading that must not be old. Where the
        server is slow, or they are big, they travel in several requests at once; those whose aliases are the same up to
        `_` stay together unless they alone are too big. One of these requests may be lost: its fields then have a
        transient problem, and may have been carried out.

        Raises PrefectUnreachable when no answer came at all (any of the fields may have been carried out then),
        PrefectUnauthorized, and PrefectRejected when the server does not understand a request; another one that was
        sent at the same time may have been carried out.
        """
        if not fields:
            return {}
        portions = [part for portion in self.portions.divide(fields) for part in _divide_by_size(portion)]
        begun = self.transport.clock.now()
        # A server that takes one request after the other needs for each as long as for all.
        patience = self._patience(fields, send_until)
        if len(portions) == 1:
            replies = self._exchange("mutation", fields, patience)
        else:
            replies = self._exchange_at_once(portions, patience)
        self.portions.learn(portions, (self.transport.clock.now() - begun).total_seconds())
        return replies

    def _patience(self, fields: Sequence[RootField], send_until: datetime | None = None) -> Patience:
        return Patience(send_until, self.read_timeout_seconds + READ_TIMEOUT_SECONDS_PER_FIELD * len(fields))

    def _query(self, fields: Sequence[RootField], patience: Patience) -> dict[str, Any]:
        return {alias: _value(reply) for alias, reply in self._exchange("query", fields, patience).items()}

    def _exchange_at_once(self, portions: Sequence[Sequence[RootField]], patience: Patience) -> dict[str, FieldReply]:
        under_way = [self._threads.submit(self._exchange, "mutation", portion, patience) for portion in portions]
        # Whatever comes of one, nothing is left under way when the tick goes on.
        wait(under_way)
        replies: dict[str, FieldReply] = {}
        lost: list[PrefectUnreachable] = []
        for portion, exchange in zip(portions, under_way, strict=True):
            try:
                replies |= exchange.result()
            except PrefectUnreachable as error:
                LOGGER.warning("A part of a request has no answer: %s", error)
                lost.append(error)
                replies |= {root_field.alias: FieldReply(None, str(error), True) for root_field in portion}
        if len(lost) == len(portions):
            raise lost[0]
        return replies

    def _exchange(self, operation: str, fields: Sequence[RootField], patience: Patience) -> dict[str, FieldReply]:
        try:
            replies = self._send(operation, fields, patience)
            for attempt in range(1, self.transport.attempts):
                again = [root_field for root_field in fields if replies[root_field.alias].is_transient]
                if not again:
                    break
                self.transport.pause(attempt, patience.send_until)
                replies.update(self._send(operation, again, patience))
            return replies
        except PrefectUnauthorized:
            self.transport.credential.forget()
            raise

    def _send(self, operation: str, fields: Sequence[RootField], patience: Patience) -> dict[str, FieldReply]:
        body = compose(operation, fields)
        status, answer = self.transport.post(body, patience.answer_seconds, patience.send_until)
        if not isinstance(answer, Mapping) or not ("data" in answer or "errors" in answer):
            raise PrefectUnreachable(f"{self.transport.base_url} answers JSON (HTTP {status}) that is not GraphQL's")
        errors = answer.get("errors") or []
        _raise_for_all(errors, status)
        return _by_alias(fields, answer.get("data") or {}, errors)


def _divide_by_size(fields: Sequence[RootField]) -> list[list[RootField]]:
    parts: list[list[RootField]] = [[]]
    run, room = "", REQUEST_BYTES
    for root_field in fields:
        size, before, run = len(json.dumps(root_field.variables)), run, root_field.alias.partition("_")[0]
        if parts[-1] and size > room + (REQUEST_BYTES if run == before else 0):
            parts, room = [*parts, []], REQUEST_BYTES
        parts[-1].append(root_field)
        room -= size
    return parts


def _raise_for_all(errors: Sequence[Mapping[str, Any]], status: int) -> None:
    """Problems that are not one field's but the request's."""
    text = str(errors)
    if any(mark in text for mark in UNAUTHORIZED_TEXTS):
        raise PrefectUnauthorized("Prefect refuses the API key; check PREFECT__CLOUD__API_KEY")
    if errors and status >= 400:
        raise PrefectRejected(f"Prefect does not understand the request: {shorten(_message(errors[0]))}")


def _by_alias(
    fields: Sequence[RootField], data: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]
) -> dict[str, FieldReply]:
    problems = {str(error["path"][0]): _message(error) for error in errors if error.get("path")}
    general = next((_message(error) for error in errors), None)
    return {root_field.alias: _reply(root_field.alias, data, problems, general) for root_field in fields}


def _reply(alias: str, data: Mapping[str, Any], problems: Mapping[str, str], general: str | None) -> FieldReply:
    value = data.get(alias)
    # A field that is null without a problem of its own was lost with the request that another field spoiled.
    problem = problems.get(alias) or (general if value is None else None)
    if problem is None:
        return FieldReply(value)
    return FieldReply(None, shorten(problem), any(mark in problem for mark in TRANSIENT_TEXTS))


def _message(error: Mapping[str, Any]) -> str:
    code = (error.get("extensions") or {}).get("code", "")
    message = str(error.get("message", "no message"))
    return f"{message} (API_ERROR)" if code == "API_ERROR" else message


def _value(reply: FieldReply) -> Any:
    if reply.problem is None:
        return reply.value
    if reply.is_transient:
        raise PrefectUnreachable(f"Prefect cannot answer: {reply.problem}")
    raise PrefectRejected(f"Prefect refuses: {reply.problem}")
