"""One real server for all tests of this folder: its start costs seconds, so each test has pools of its own instead."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.prefect3.proxy import Proxy
from tests.prefect3.server import Prefect3Server


@pytest.fixture(scope="session")
def server() -> Iterator[Prefect3Server]:
    """A server without sign-in. Names that a test chooses must be its own."""
    with Prefect3Server() as running:
        yield running


@pytest.fixture
def proxy(server: Prefect3Server) -> Iterator[Proxy]:
    """A way to the server that counts what passes, and fails as it is told."""
    between = Proxy(server.url)
    yield between
    between.stop()
