"""One double and somebody who asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.doubles.prefect1 import Prefect1Server
from tests.unit.prefect1_double.asking import Asker, TurnedClock


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[Prefect1Server]:
    with Prefect1Server(clock=clock) as running:
        yield running


@pytest.fixture
def ask(server: Prefect1Server) -> Iterator[Asker]:
    asker = Asker(server)
    yield asker
    asker.session.close()
