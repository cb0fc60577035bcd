"""Lambda without Amazon: a zip under AWS's own runtime client, and the HTTP API that this client speaks to."""

from __future__ import annotations

import importlib.metadata
import json
import os
import queue
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from zipfile import ZipFile

from tests.doubles.connections import HttpServer

INVOCATION = "/2018-06-01/runtime/invocation/"
INIT_ERROR = "/2018-06-01/runtime/init/error"
TIMEOUT_SECONDS = 60.0
RUNTIMES_OWN = (
    "awslambdaric", "simplejson", "snapshot-restore-py", "boto3", "botocore", "s3transfer", "jmespath",
    "python-dateutil", "six", "urllib3",
)  # fmt: skip
"""What the Lambda runtime brings: its client, the AWS SDK, and what these need. Nothing else is to be seen."""


class Ended(NamedTuple):
    """How an invocation ended: `payload` is the handler's answer or the error's description, unless it was cut off."""

    kind: str
    payload: Any


def unpack(package: Path, directory: Path) -> Path:
    """Unpack a zip as Lambda does; where."""
    with ZipFile(package) as archive:
        archive.extractall(directory)
    return directory


def runtime_directory(directory: Path) -> Path:
    """A folder with RUNTIMES_OWN and nothing else of this environment."""
    for name in RUNTIMES_OWN:
        distribution = importlib.metadata.distribution(name)
        for file in distribution.files or ():
            top = file.parts[0]
            target = directory / top
            if top not in ("..", "__pycache__") and not target.exists():
                target.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return directory


class Container:
    """One container of one function, a context manager: it starts, answers what it is asked, and ends.

    `log` is what the function has written.
    """

    def __init__(self, task: Path, runtime: Path, handler: str, environment: Mapping[str, str], log: Path) -> None:
        self._events: queue.Queue[tuple[str, float, Any] | None] = queue.Queue()
        self._ends: queue.Queue[Ended] = queue.Queue()
        self._server = HttpServer(type("Exchange", (_Exchange,), {"container": self}))
        self._log = log
        variables = {
            **environment,
            "AWS_LAMBDA_RUNTIME_API": self._server.url.removeprefix("http://"),
            "AWS_LAMBDA_FUNCTION_NAME": "prefect-agent-zip-" + handler.rpartition(".")[2],
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.11",
            "LAMBDA_TASK_ROOT": str(task),
            "PYTHONPATH": f"{task}{os.pathsep}{runtime}",
            "PATH": os.environ["PATH"],
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with log.open("ab") as output:
            # Without -S the packages of this environment would be there too, and hide what the zip lacks.
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-m", "awslambdaric", handler],
                cwd=task, env=variables, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __enter__(self) -> Container:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._events.put(None)
        self._server.stop()

    @property
    def process_id(self) -> int:
        """The process of the function, while the container lives."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All lines of the function so far, its earlier containers' too."""
        return self._log.read_text()

    def invoke(self, event: Any, times_out_when: Callable[[], bool] = lambda: False) -> Ended:
        """Invoke the function. It times out at the moment that is wanted: the container is killed, as Lambda does."""
        self._events.put((str(uuid.uuid4()), time.time() + TIMEOUT_SECONDS, event))
        while not times_out_when():
            try:
                return self._ends.get(timeout=0.05)
            except queue.Empty:
                if self._process.poll() is not None:  # What it said last may just have come.
                    return self._ends.get(timeout=1)
        self._process.kill()
        return Ended("timed out", None)

    # what the runtime client asks

    def next_event(self) -> tuple[str, float, Any] | None:
        """The next invocation's id, deadline and event; None at the end."""
        return self._events.get()

    def end(self, kind: str, body: bytes) -> None:
        """An invocation, or the beginning, has ended so."""
        self._ends.put(Ended(kind, json.loads(body)))


class _Exchange(BaseHTTPRequestHandler):
    """The requests of the runtime client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    container: Container

    def do_GET(self) -> None:
        asked = self.container.next_event()
        if asked is None:
            self.close_connection = True
            return
        name, deadline, event = asked
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", name)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(int(deadline * 1000)))
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:zip")
        self._send(json.dumps(event).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        kind = "init error" if self.path == INIT_ERROR else self.path.rpartition("/")[2]
        self.container.end(kind, body)
        self.send_response(202)
        self._send(b"")

    def _send(self, body: bytes) -> None:
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""
