"""JSON over HTTP to Prefect: one kept-alive session, patience with what is transient, clear words for what is not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

import requests

from chalicelib.errors import PrefectUnauthorized, PrefectUnreachable, shorten
from chalicelib.ports import Clock

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
CONNECT_TIMEOUT_SECONDS = 3.05
MAX_ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.25
LONGEST_PAUSE_SECONDS = 10.0
"""A tick is short: an API that asks for a longer pause is away, as far as this tick is concerned."""


class Credential(Protocol):
    """The key or token to sign in with."""

    def value(self) -> str | None:
        """The key or token; None when the API asks for none."""

    def forget(self) -> None:
        """It was refused: read it again when it is next needed."""


class HttpTransport:
    """Posts JSON to one base URL and gives back the status and the decoded body."""

    def __init__(self, base_url: str, clock: Clock, credential: Credential) -> None:
        self.base_url = base_url.rstrip("/")
        self.clock = clock
        self.attempts = MAX_ATTEMPTS
        self.headers: dict[str, str] = {}
        self.credential = credential
        self._session = requests.Session()

    def post(
        self, body: Mapping[str, Any], timeout_seconds: float, send_until: datetime | None = None
    ) -> tuple[int, Any]:
        """Post `body`; the answer's status and JSON.

        Repeats what is transient (408, 429, 5xx, connection trouble) up to `attempts` times with jittered pauses or
        the Retry-After that was asked for; so the request may be carried out more than once. Nothing is sent after
        `send_until`. Raises PrefectUnreachable, or PrefectUnauthorized for 401 and 403.
        """
        attempt = 0
        if send_until is not None and self.clock.now() > send_until:
            raise PrefectUnreachable(f"{self.base_url}: this process stood still, and it is too late to send it")
        while True:
            attempt += 1
            answer, trouble = self._attempt(body, timeout_seconds)
            if answer is not None and answer.status_code not in TRANSIENT_STATUSES:
                return answer.status_code, self._read(answer)
            if attempt == self.attempts:
                raise PrefectUnreachable(f"{self.base_url}: {trouble} ({attempt} attempts)")
            self.pause(attempt, send_until, answer, trouble)

    def pause(
        self, attempt: int, send_until: datetime | None, answer: requests.Response | None = None, trouble: str = "away"
    ) -> None:
        """Wait before the next attempt; raises PrefectUnreachable when that would be too late."""
        seconds = self.pause_seconds(attempt, answer)
        if send_until is not None and self.clock.now() + timedelta(seconds=seconds) > send_until:
            raise PrefectUnreachable(f"{self.base_url}: {trouble}, and it is too late to send it again")
        self.clock.sleep(seconds)

    def pause_seconds(self, attempt: int, answer: requests.Response | None = None) -> float:
        """How long to wait after the failed attempt number `attempt`; raises PrefectUnreachable if that is too long."""
        asked = answer.headers.get("Retry-After", "") if answer is not None else ""
        if asked.isdigit():
            if int(asked) > LONGEST_PAUSE_SECONDS:
                raise PrefectUnreachable(f"{self.base_url} asks to wait {asked} s before the next request")
            return float(asked)
        longest: float = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
        return random.uniform(0.5, 1.0) * longest  # noqa: S311 (jitter, not a secret)

    def _attempt(self, body: Mapping[str, Any], timeout_seconds: float) -> tuple[requests.Response | None, str]:
        token = self.credential.value()
        headers = self.headers | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            answer = self._session.post(
                self.base_url,
                json=body,
                headers=headers,
                timeout=(CONNECT_TIMEOUT_SECONDS, timeout_seconds),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return None, _describe(error)
        return answer, f"HTTP {answer.status_code}"

    def _read(self, answer: requests.Response) -> Any:
        if answer.status_code in (401, 403):
            what = "refuses the API key" if self.credential.value() else "asks for an API key, and none is set"
            raise PrefectUnauthorized(
                f"{self.base_url} {what} (HTTP {answer.status_code}); "
                "check PREFECT__CLOUD__API_KEY, or PREFECT__CLOUD__AGENT__AUTH_TOKEN for an older token"
            )
        try:
            return answer.json()
        except requests.JSONDecodeError as error:
            kind = answer.headers.get("Content-Type", "no content type").split(";")[0]
            raise PrefectUnreachable(
                f"{self.base_url} answers HTTP {answer.status_code} with {kind} where JSON is expected; "
                "check that PREFECT__CLOUD__API is the address of the API, not of the UI"
            ) from error


def _describe(error: requests.RequestException) -> str:
    """One line without the request's headers or body."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause: BaseException = error
    while (inner := getattr(cause, "reason", None) or next(iter(cause.args), None)) and isinstance(inner, Exception):
        cause = inner
    # urllib3 puts the object before the reason: what stands last says most.
    return shorten(str(cause).rpartition(": ")[2] or type(error).__name__, 160)
