"""What a Docker daemon says, as one of the three answers that a launch can have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import requests
from docker.errors import APIError, DockerException  # type: ignore[import-untyped]

from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected, LaunchUnknown, shorten
from chalicelib.launchers.rulings import Ruling, by_text

REFUSALS = (
    (r"network \S+ not found", Ruling(LaunchForbidden, "create the network, or name another (--network)")),
    (r"toomanyrequests|imeout|EOF|: 50\d", Ruling(LaunchDeferred, "the registry is too busy or away")),
    (
        r"(?i)no such image|manifest|pull access denied|unauthorized|repository",
        Ruling(LaunchRejected, "check the image's name and the login to its registry; --no-pull takes a local one"),
    ),
    (r"OCI runtime|executable file", Ruling(LaunchRejected, "check the image: Prefect must be in it")),
)
"""What the daemon says of images and containers; the first that fits. Else 4xx is for good, and 5xx for now."""

FAILURES = (
    (r"ermission", Ruling(LaunchForbidden, "let this user speak to the daemon: the group `docker`, or --base-url")),
    (
        r"refused|FileNotFoundError|NewConnectionError|resolve",
        Ruling(LaunchDeferred, "start the Docker daemon, or say where it is (--base-url)"),
    ),
)
"""What the client says without an answer of the daemon's; whatever else it is, nobody knows how far it came."""


@contextmanager
def answers(subject: str) -> Iterator[None]:
    """Raises what the daemon, or the client in its place, says as one of the three answers."""
    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        kind = LaunchRejected if (error.status_code or 500) < 500 else LaunchDeferred
        raise (by_text(REFUSALS, text) or Ruling(kind)).say(subject, shorten(text)) from error
    except (requests.RequestException, DockerException) as error:
        text = str(error)
        raise (by_text(FAILURES, text) or Ruling(LaunchUnknown)).say(subject, shorten(text)) from error
