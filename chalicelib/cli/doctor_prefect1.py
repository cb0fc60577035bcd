"""What `doctor` looks at in a Prefect 1 API. Nothing is registered there, polled or claimed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from chalicelib.bootstrap import build_prefect1
from chalicelib.cli.findings import Finding, Found, either, examine, ok, warn, wrong
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential
from chalicelib.errors import PrefectRejected, PrefectUnreachable
from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.prefect1_recent import ROWS_LIMIT, due_labels, gets, polling_agents
from chalicelib.prefect_api.prefect1_session import Prefect1Session
from chalicelib.settings import Settings

POLLING_AGE = timedelta(minutes=5)
"""An agent that has not looked into the queue for so long is gone."""


def check_prefect1(settings: Settings, credential: Credential) -> Found:
    """API, key and tenant; then, if these are fine, whether what is due is served. Raises PrefectError."""
    session, told = build_prefect1(settings, credential, SystemClock()), {}
    session.client.transport.attempts = 2
    try:
        told = session.ask(RootField("api", "api { backend version }"))
    except PrefectRejected:
        pass  # Not every Cloud has told this.
    except PrefectUnreachable as error:
        yield wrong(f"Prefect API: {error}; if this is Prefect 3, name its work pools (--work-pool)")
        return
    kind = str(told.get("backend", settings.backend)).lower()
    yield ok(f"Prefect API: {settings.api_url} is Prefect 1, {kind} {told.get('version', '')}")
    if kind != settings.backend:
        advice = f"set PREFECT__BACKEND={kind}, and no key for a server"
        yield wrong(f"API key: this is a {kind}, not a {settings.backend}: {advice}")
        return
    session.find_tenant()
    names = {str(row["id"]): row["name"] for row in session.ask(RootField("tenants", "tenant { id name }"))}
    yield ok("API key: accepted" if kind == "cloud" else "API key: none is asked for")
    own = session.tenant_id
    bad = f"Tenant: {own} is not there, or not for this key: correct PREFECT__CLOUD__TENANT_ID"
    yield either(own in names, f"Tenant: {names.get(own)} ({own})", bad)
    if len(names) > 1 and not settings.tenant_id:
        yield warn(f"Tenant: this is any one of {len(names)}: say which by PREFECT__CLOUD__TENANT_ID")
    yield from examine("Labels", lambda: _check_labels(settings, session))


def _check_labels(settings: Settings, session: Prefect1Session) -> Found:
    now, own = session.clock.now(), settings.labels
    asked = [due_labels(session.tenant_id, now), polling_agents(session.tenant_id, now - POLLING_AGE)]
    answers = session.client.query(asked)
    agents, due = answers["polling"], Counter(tuple(row["labels"]) for row in answers["due"])
    namesakes = {tuple(sorted(row["labels"])) for row in agents if row["name"] == settings.name} - {tuple(own)}
    for who in (f"{settings.name} with {_words(labels)}" for labels in sorted(namesakes)):
        yield warn(f"Name: an agent {who} polls too: two of one name mix up their claims")
    number = sum(due[labels] for labels in due if gets(own, labels))
    more = " at least" if due.total() == ROWS_LIMIT else ""
    yield ok(f"Labels: {number} due runs{more} match {_words(own)} of this agent")
    for labels in (labels for labels in due if not gets(own, labels)):
        # What polled under this name is this agent before its settings were changed, or to be told apart from it.
        others = [row["name"] for row in agents if row["name"] != settings.name and gets(row["labels"], labels)]
        yield _judge_others(own, labels, due[labels], others)


def _judge_others(own: Sequence[str], labels: Sequence[str], number: int, others: Sequence[str]) -> Finding:
    who = f"Labels: {number} due runs have {_words(labels)}"
    if others:
        return ok(f"{who}, which agent {others[0]} serves")
    if not labels:
        return wrong(f"{who}, and an agent with labels never gets these: label their flow, or start one without labels")
    lacking = " ".join(f"--label {label}" for label in labels if label not in own)
    advice = f"give {lacking}, or change the flow's labels"
    return wrong(f"{who} that this agent lacks, and no other agent that polls has: {advice}")


def _words(labels: Sequence[str]) -> str:
    return f"labels {', '.join(labels)}" if labels else "no labels"
