"""A process with a real Prefect 3 server in it, and the way to ask it something."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import requests

from tests.prefect3 import postgres

START_PATIENCE_SECONDS = 90.0
LOCKED_PATIENCE_ATTEMPTS = 8
"""A server on SQLite answers 503 while its database is locked."""

SERVE = """
import socket, sys, uvicorn
server = uvicorn.Server(uvicorn.Config(sys.argv[1], factory=True, log_level="error", lifespan="on"))
server.run(sockets=[socket.socket(fileno=int(sys.argv[2]))])
"""
"""uvicorn's own `--fd` takes the socket for a Unix one and leaves its answers to Nagle: 44 ms more for each."""

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_ENABLED": "false",
}
"""Nothing that calls out, and no service that a flow run's life does not depend on."""


class ServerProcess:
    """Runs from `with` to its end. `url` ends in `/api`; `variables` are further settings of the server's.

    Its database is a PostgreSQL of its own if it `is_on_postgres`, else SQLite; PREFECT3_POSTGRES decides where nobody
    says so.
    """

    app = "prefect.server.api.server:create_app"
    """What makes the ASGI application, in the environment of `postgres.PYTHON`."""

    def __init__(
        self, auth_string: str = "", variables: Mapping[str, str] | None = None, is_on_postgres: bool | None = None
    ) -> None:
        self.auth_string = auth_string
        self._variables = dict(variables or {})
        if auth_string:
            self._variables["PREFECT_SERVER_API_AUTH_STRING"] = auth_string
        self.is_on_postgres = bool(os.environ.get("PREFECT3_POSTGRES")) if is_on_postgres is None else is_on_postgres
        self.url = ""
        self._home = Path()
        self._session = requests.Session()
        self._csrf: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._home = Path(tempfile.mkdtemp(prefix="prefect3-"))
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            database = f"sqlite+aiosqlite:///{self._home / 'prefect.db'}"
            if self.is_on_postgres:
                database = stack.enter_context(postgres.Postgres(self._home / "postgres")).url
            stack.callback(self._session.close)
            process = self._start(self._environment(database))
            stack.callback(_end, process)
            self._wait_until_ready(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def log(self) -> str:
        """What the server has printed."""
        return (self._home / "server.log").read_text(errors="replace")

    @property
    def home(self) -> Path:
        """A directory of its own, gone with the server; good as a PREFECT_HOME."""
        return self._home

    def client_environment(self) -> dict[str, str]:
        """What a real client, worker or flow run needs in its environment to speak to this server and to no other."""
        auth = {"PREFECT_API_AUTH_STRING": self.auth_string} if self.auth_string else {}
        own = {"PREFECT_API_URL": self.url, "PREFECT_HOME": str(self._home / "client"), **auth}
        return {**_foreign_environment(), **own, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

    def _start(self, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        arguments = [self.app, str(listener.fileno())]
        with listener, (self._home / "server.log").open("wb") as log:
            return subprocess.Popen(
                [str(postgres.PYTHON), "-c", SERVE, *arguments],
                env=environment,
                cwd=self._home,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )

    def _environment(self, database: str) -> dict[str, str]:
        own = {"PREFECT_HOME": str(self._home), "PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        return {**_foreign_environment(), **QUIET, **own, **self._variables}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + START_PATIENCE_SECONDS
        while time.monotonic() < give_up and process.poll() is None:
            try:
                if requests.get(f"{self.url}/health", timeout=2).ok:
                    return
            except requests.RequestException:
                time.sleep(0.1)
        raise RuntimeError(f"Prefect's server did not start: {self.log[-2000:]}")

    # Speaking to it

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of one answer, None where there is none; a refusal raises requests.HTTPError."""
        for attempt in range(LOCKED_PATIENCE_ATTEMPTS):
            answer = self._session.request(
                method, self.url + path, json=body, headers=self._csrf, auth=self._login, timeout=30
            )
            if answer.status_code == 403 and "CSRF token" in answer.text:
                self._fetch_csrf_token()
            elif answer.status_code == 503:
                time.sleep(0.1 * (attempt + 1))
            else:
                break
        if not answer.ok:
            raise requests.HTTPError(f"{method} {path}: {answer.status_code} {answer.text[:500]}", response=answer)
        return answer.json() if answer.content else None

    @property
    def _login(self) -> tuple[str, str] | None:
        name, _, password = self.auth_string.partition(":")
        return (name, password) if self.auth_string else None

    def _fetch_csrf_token(self) -> None:
        client = str(uuid4())
        token = self.request("GET", f"/csrf-token?client={client}")["token"]
        self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def _foreign_environment() -> dict[str, str]:
    """This process's environment without any setting of Prefect's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
