"""One agent signed in to a Prefect 1 API: its tenant, its registration, and what every request of it has in common."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import PrefectRejected, PrefectUnauthorized, PrefectUnreachable
from chalicelib.ports import Clock
from chalicelib.prefect_api import prefect1_fields as fields
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.graphql import FieldReply, GraphQLClient
from chalicelib.prefect_api.prefect1_records import Recorder

LOGGER = logging.getLogger(__name__)

CORE_VERSION = "1.4.1+lambda"
"""Sent as our Prefect version. Constant, because the server takes an agent of another version for another agent."""

WRITE_PATIENCE_SECONDS = 5.0
"""How long a request that sets states may be sent again: what its reading said may not hold any longer."""


class Prefect1Session:
    """Who this agent is there. `backend` is `server` or `cloud`; `tenant_id` is asked for when empty."""

    def __init__(
        self, client: GraphQLClient, recorder: Recorder, clock: Clock, backend: str, tenant_id: str = ""
    ) -> None:
        self.client = client
        self.recorder = recorder
        self.identity = recorder.identity
        self.clock = clock
        self.backend = backend
        self.tenant_id = tenant_id
        self._is_registered = False
        client.transport.headers["X-PREFECT-CORE-VERSION"] = CORE_VERSION

    def sign_in(self) -> None:
        """At most two requests, once: whose tenant this is, and under which id this agent is known there."""
        if self._is_registered:
            return
        self.find_tenant()
        agent = fields.register_agent(self.identity.kind, self.identity.name, self.identity.labels, self.tenant_id)
        answer = required(self.client.mutate([agent])["agent"])
        self.client.transport.headers["X-PREFECT-AGENT-ID"] = str(answer["id"])
        self._is_registered = True

    def find_tenant(self) -> None:
        """Ask whose tenant this is, unless that is known. Raises PrefectError."""
        self.tenant_id = self.tenant_id or self._ask_for_tenant()
        if self.backend == "cloud":
            self.client.transport.headers["X-PREFECT-TENANT-ID"] = self.tenant_id

    def ask(self, root_field: RootField) -> Any:
        """The value of one field of a query of its own. Raises PrefectError."""
        return self.client.query([root_field])[root_field.alias]

    def _ask_for_tenant(self) -> str:
        if self.backend == "cloud":
            own = (self.ask(fields.token_tenant()) or {}).get("tenant_id")
            if own:
                return str(own)
        rows = self.ask(fields.tenants())
        if not rows and self.backend == "cloud":
            raise PrefectUnauthorized(
                "This token belongs to no tenant; check the API key, or set PREFECT__CLOUD__TENANT_ID"
            )
        if not rows:
            raise PrefectRejected(
                "This Prefect Server has no tenant; create one with `prefect server create-tenant --name default`"
            )
        return str(rows[0]["id"])

    def latest_write(self) -> datetime:
        """Until when a request may be sent that sets states read now."""
        return self.clock.now() + timedelta(seconds=WRITE_PATIENCE_SECONDS)

    def report_problems(self, replies: Mapping[str, FieldReply], writes: Sequence[RootField]) -> None:
        """Log what was not taken of `writes`."""
        for root_field in writes:
            problem = replies[root_field.alias].problem
            if problem is not None:
                LOGGER.warning("Prefect did not take %s: %s", root_field.text.split("(")[0], problem)


def required(reply: FieldReply) -> Mapping[str, Any]:
    """The value of a field without which there is no going on."""
    if reply.problem is not None:
        raise (PrefectUnreachable if reply.is_transient else PrefectRejected)(f"Prefect refuses: {reply.problem}")
    value: Mapping[str, Any] = reply.value
    return value
