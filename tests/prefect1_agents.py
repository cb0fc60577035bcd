"""Agents of ours on the Prefect 1 double, put together as the bootstrap does, with a clock of the test's."""

from __future__ import annotations

from collections.abc import Sequence

from chalicelib.credentials import Credential
from chalicelib.ports import Clock
from chalicelib.prefect_api.graphql import GraphQLClient
from chalicelib.prefect_api.prefect1 import Prefect1API
from chalicelib.prefect_api.prefect1_records import Identity, Recorder
from chalicelib.prefect_api.transport import HttpTransport
from tests.doubles.prefect1 import Prefect1Server


def make_api(
    server: Prefect1Server,
    clock: Clock,
    labels: Sequence[str] = (),
    name: str = "lambda",
    key: str | None = None,
    backend: str = "server",
    tenant_id: str = "",
    defer_deadline_seconds: float = 3600.0,
) -> Prefect1API:
    """A client of its own for `server`: nothing is shared between two, as between two Lambda containers."""
    client = GraphQLClient(HttpTransport(server.url, clock, Credential(key)))
    recorder = Recorder(Identity("ECSAgent", name, tuple(labels)), defer_deadline_seconds)
    return Prefect1API(client, recorder, clock, backend, tenant_id)
