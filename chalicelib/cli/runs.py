"""`prefect-agent runs`: what this agent has claimed lately, where that is, and what the platform says of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from chalicelib.bootstrap import build_agent, build_credential, build_prefect1, build_prefect3
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential
from chalicelib.errors import LaunchError, PrefectRejected, shorten
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.work_pools import KINDS
from chalicelib.prefect_api.prefect1_recent import launch_text, recent_claims
from chalicelib.prefect_api.prefect1_rows import read_time
from chalicelib.prefect_api.prefect3_launches import FINAL, in_pools, open_runs
from chalicelib.prefect_api.prefect3_states import is_own_claim, read_notes
from chalicelib.settings import Settings
from chalicelib.sightings import Sighting

RECENT = timedelta(hours=1)
RecentRun = tuple[datetime, str, str, str, str]
"""A run that was claimed: since when it is in its state, id, name, state, and what it was launched as or ""."""


def run_runs(settings: Settings) -> int:
    """Print a line for each run, the newest state first; 1 if the platform cannot be asked, else 0.

    Raises PrefectError, and SettingsError when the platform cannot be spoken to. Prefect is only asked: that looks
    neither like a poll nor like a sign of life.
    """
    clients, trouble = AwsClients(), ""
    read = _of_work_pools if settings.work_pools else _of_prefect1
    rows = sorted(read(settings, build_credential(settings, clients)), reverse=True)
    seen: dict[str, Sighting] = {}
    try:
        if texts := [row[-1] for row in rows if row[-1]]:
            seen = {sighting.text: sighting for sighting in build_agent(settings, clients).launcher.look_at(texts)}
    except LaunchError as error:
        trouble = f"the platform cannot be asked: {error}"
    for since, run_id, name, state, text in rows:
        said = shorten(trouble or _words(seen.get(text))) if text else "nothing says that it was launched"
        print(f"{run_id}  {name}  {state} since {since:%Y-%m-%d %H:%M:%S} UTC  {text or '-'}  {said}")
    if not rows:
        print(f"{settings.name} has claimed nothing in the last hour")
    clients.close()
    return 1 if trouble else 0


def _of_prefect1(settings: Settings, credential: Credential) -> Iterator[RecentRun]:
    session, now = build_prefect1(settings, credential, SystemClock()), datetime.now(UTC)
    session.find_tenant()
    for row in session.ask(recent_claims(session.tenant_id, settings.name, now - RECENT)):
        since = read_time(row["state_timestamp"]) or now
        yield (since, row["id"], row["name"], row["state"], launch_text(row))


def _of_work_pools(settings: Settings, credential: Credential) -> Iterator[RecentRun]:
    """Every run of its pools that was launched: whoever else serves them launches alike."""
    client = build_prefect3(settings, credential, SystemClock(), runs_processes=True).client
    now = datetime.now(UTC)
    pools = client.filter("work_pools", {"work_pools": {"name": {"any_": list(settings.work_pools)}}})
    kinds = {pool["name"]: KINDS.get(pool["type"], "") for pool in pools}
    if missing := [name for name in settings.work_pools if name not in kinds]:
        raise PrefectRejected(f"Work pool {', '.join(missing)}: not there: create it, or correct --work-pool")
    ended = {"state": {"type": {"any_": FINAL}}, "end_time": {"after_": (now - RECENT).isoformat()}}
    rows = [*client.filter_all("flow_runs", open_runs(kinds)), *client.filter_all("flow_runs", in_pools(kinds, ended))]
    for row in rows:
        state, pid = row["state"], row["infrastructure_pid"]
        # Without a launch it is a claim of this agent's, failed by a fault of the agent's own, or somebody else's.
        if pid or is_own_claim(state, settings.name) or read_notes(state).get("agent") == settings.name:
            text = f"{kinds[row['work_pool_name']]} {pid}" if pid else ""
            yield (read_time(state["timestamp"]) or now, row["id"], row["name"], row["state_name"], text)


def _words(seen: Sighting | None) -> str:
    """What the platform says of one launch."""
    if seen is None:
        return "not known there (any more)"
    ended = f"ended: {seen.stop.reason}" if seen.stop else ""
    return seen.trouble or ended or ("runs" if seen.is_running else "on its way")
