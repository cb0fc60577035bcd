"""JSON over HTTP to Prefect: one kept-alive session, patience with what is transient, clear words for what is not."""

from __future__ import annotations

import base64
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import requests

from chalicelib.errors import PrefectUnauthorized, PrefectUnreachable, shorten
from chalicelib.ports import Clock

TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
CONNECT_TIMEOUT_SECONDS = 3.05
MAX_ATTEMPTS = 4
FIRST_PAUSE_SECONDS = 0.25
PATIENCE_SECONDS = 12.0
"""After this a request is not sent once more: a tick whose API hangs must end before its function is ended."""
LONGEST_PAUSE_SECONDS = 10.0
"""A tick is short: an API that asks for a longer pause is away, as far as this tick is concerned."""


CSRF_TOKEN = "Prefect-Csrf-Token"  # noqa: S105 (the name of a header)
CSRF_CLIENT = "Prefect-Csrf-Client"


@dataclass(frozen=True)
class SignIn:
    """How an API wants to be signed in to: the scheme (`Bearer` or `Basic`), and the settings to name in its errors."""

    scheme: str
    key_settings: str
    url_setting: str


PREFECT1 = SignIn(
    "Bearer", "PREFECT__CLOUD__API_KEY, or PREFECT__CLOUD__AGENT__AUTH_TOKEN for an older token", "PREFECT__CLOUD__API"
)
PREFECT3_KEY = SignIn(
    "Bearer", "PREFECT_API_KEY, or PREFECT_API_AUTH_STRING for a server of your own", "PREFECT_API_URL"
)
PREFECT3_AUTH_STRING = SignIn("Basic", "PREFECT_API_AUTH_STRING", "PREFECT_API_URL")


class Credential(Protocol):
    """The key or token to sign in with."""

    def value(self) -> str | None:
        """The key or token; None when the API asks for none."""

    def forget(self) -> None:
        """It was refused: read it again when it is next needed."""


class HttpTransport:
    """Sends JSON below one base URL and gives back the status and the decoded body; several threads may use it."""

    def __init__(self, base_url: str, clock: Clock, credential: Credential, sign_in: SignIn = PREFECT1) -> None:
        self.base_url = base_url.rstrip("/")
        self.clock = clock
        self.attempts = MAX_ATTEMPTS
        self.headers: dict[str, str] = {}
        self.credential = credential
        self.sign_in = sign_in
        self._session = requests.Session()
        self._csrf_lock = threading.Lock()

    def post(self, body: Any, timeout_seconds: float, send_until: datetime | None = None) -> tuple[int, Any]:
        """Post `body` to the base URL itself, in all else as `send`."""
        return self.send("POST", "", body, timeout_seconds, send_until)

    def send(
        self, method: str, path: str, body: Any, timeout_seconds: float, send_until: datetime | None = None
    ) -> tuple[int, Any]:
        """Send `body`, if there is one, to what `path` is below the base URL; the answer's status and JSON.

        Repeats what is transient (408, 429, 5xx, connection trouble) up to `attempts` times with jittered pauses or
        the Retry-After that was asked for; so the request may be carried out more than once. A CSRF token is fetched
        when the server asks for one. Nothing is sent after `send_until`. Raises PrefectUnreachable, or
        PrefectUnauthorized for 401 and 403.
        """
        attempt, give_up = 0, self.clock.now() + timedelta(seconds=PATIENCE_SECONDS)
        if send_until is not None and self.clock.now() > send_until:
            raise PrefectUnreachable(f"{self.base_url}: this process stood still, and it is too late to send it")
        while True:
            attempt += 1
            csrf_token = self.headers.get(CSRF_TOKEN)
            answer, trouble = self._attempt(method, path, body, timeout_seconds)
            if answer is not None and attempt < self.attempts and _asks_for_csrf_token(answer):
                self._renew_csrf_token(csrf_token, timeout_seconds)
                continue
            if answer is not None and answer.status_code not in TRANSIENT_STATUSES:
                return answer.status_code, self._read(answer)
            if attempt == self.attempts or self.clock.now() > give_up:
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
        if asked.isdecimal():
            if int(asked) > LONGEST_PAUSE_SECONDS:
                raise PrefectUnreachable(f"{self.base_url} asks to wait {asked} s before the next request")
            return float(asked)
        longest: float = min(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1), LONGEST_PAUSE_SECONDS)
        return random.uniform(0.5, 1.0) * longest  # noqa: S311 (jitter, not a secret)

    def _attempt(
        self, method: str, path: str, body: Any, timeout_seconds: float
    ) -> tuple[requests.Response | None, str]:
        try:
            answer = self._session.request(
                method,
                self.base_url + path,
                json=body,
                headers=self.headers | self._authorization(),
                timeout=(CONNECT_TIMEOUT_SECONDS, timeout_seconds),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            return None, _describe(error)
        return answer, f"HTTP {answer.status_code}"

    def _authorization(self) -> dict[str, str]:
        key = self.credential.value()
        if not key:
            return {}
        if self.sign_in.scheme == "Basic":
            key = _encode(key)
        return {"Authorization": f"{self.sign_in.scheme} {key}"}

    def _without_key(self, status: int, document: Any) -> Any:
        """The document; where it is a refusal, without the key: a gateway may tell in it what it was sent."""
        key = self.credential.value()
        if key and status >= 400:
            return _hide((key, _encode(key)), document)
        if key and isinstance(document, dict) and document.get("errors"):
            return {**document, "errors": _hide((key, _encode(key)), document["errors"])}
        return document

    def _renew_csrf_token(self, refused: str | None, timeout_seconds: float) -> None:
        with self._csrf_lock:
            if self.headers.get(CSRF_TOKEN) != refused:
                return  # Another thread was faster, and a second token would spoil the first.
            client = self.headers.get(CSRF_CLIENT) or str(uuid4())
            answer, _ = self._attempt("GET", f"/csrf-token?client={client}", None, timeout_seconds)
            if answer is not None and answer.status_code == 200:
                self.headers |= {CSRF_CLIENT: client, CSRF_TOKEN: str(self._read(answer)["token"])}

    def _read(self, answer: requests.Response) -> Any:
        if answer.status_code in (401, 403):
            what = "refuses the API key" if self.credential.value() else "asks for an API key, and none is set"
            raise PrefectUnauthorized(
                f"{self.base_url} {what} (HTTP {answer.status_code}); check {self.sign_in.key_settings}"
            )
        if answer.status_code == 204:
            return None
        try:
            return self._without_key(answer.status_code, answer.json())
        except requests.JSONDecodeError as error:
            kind = answer.headers.get("Content-Type", "no content type").split(";")[0]
            raise PrefectUnreachable(
                f"{self.base_url} answers HTTP {answer.status_code} with {kind} where JSON is expected; "
                f"check that {self.sign_in.url_setting} is the address of the API, not of the UI"
            ) from error


def _encode(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


def _hide(words: Sequence[str], document: Any) -> Any:
    """The document with `***` for these words in all of its texts."""
    if isinstance(document, dict):
        return {name: _hide(words, value) for name, value in document.items()}
    if isinstance(document, list):
        return [_hide(words, each) for each in document]
    for word in words if isinstance(document, str) else ():
        document = document.replace(word, "***")
    return document


def _asks_for_csrf_token(answer: requests.Response) -> bool:
    return answer.status_code == 403 and "CSRF token" in answer.text


def _describe(error: requests.RequestException) -> str:
    """One line without the request's headers or body."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause: BaseException = error
    while (inner := getattr(cause, "reason", None) or next(iter(cause.args), None)) and isinstance(inner, Exception):
        cause = inner
    # urllib3 puts the object before the reason: what stands last says most.
    return shorten(str(cause).rpartition(": ")[2] or type(error).__name__, 160)
