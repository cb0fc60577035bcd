"""Tenants, projects, flows and agents: what is registered before anything can run."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Mapping
from typing import Any

from tests.doubles.prefect1.backend import Call
from tests.doubles.prefect1.store import Refused, Row
from tests.doubles.prefect1.transitions import cancel_flow_run

FLOW_GROUP_SETTINGS = {"heartbeat_enabled": True, "lazarus_enabled": True, "version_locking_enabled": False}


def create_tenant(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A tenant; its slug is unique."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", wanted["slug"]):
        raise Refused('Slug must be "slugified" (lowercase; no spaces)')
    if any(row["slug"] == wanted["slug"] for row in call.store.rows("tenant")):
        raise Refused("Uniqueness violation.")
    return {"id": call.store.insert("tenant", name=wanted["name"], slug=wanted["slug"])["id"]}


def create_project(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A project; its name is unique in its tenant."""
    if any(row["name"] == wanted["name"] for row in call.store.owned("project", "tenant_id", wanted["tenant_id"])):
        raise Refused("Uniqueness violation.")
    return {"id": call.store.insert("project", **wanted)["id"]}


def register_agent(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The agent with this identity, or a new one. A name or core version that is not given matches any."""
    if not wanted.get("tenant_id"):
        raise Refused("No tenant found.")
    identity = {
        "tenant_id": wanted["tenant_id"],
        "name": wanted.get("name"),
        "type": wanted["type"],
        "core_version": call.headers.get("x-prefect-core-version"),
        "labels": sorted(wanted.get("labels") or []),
    }
    for agent in call.store.shuffled(call.store.rows("agent")):
        if all(value is None or agent[column] == value for column, value in identity.items()):
            return {"id": agent["id"]}
    return {"id": call.store.insert("agent", **identity, agent_config_id=wanted.get("agent_config_id"))["id"]}


def create_flow_from_compressed_string(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """As `create_flow`, with the flow as base64 of gzipped JSON, which is what the client sends."""
    try:
        flow = json.loads(gzip.decompress(base64.b64decode(wanted["serialized_flow"])))
    except (ValueError, OSError):
        raise Refused("Unable to decompress serialized flow") from None
    return create_flow(call, {**wanted, "serialized_flow": flow})


def create_flow(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """A new version of a flow; earlier ones are archived. The same idempotency key twice in a row is one version."""
    project = call.existing("project", wanted["project_id"], "Invalid project.")
    serialized = wanted["serialized_flow"]
    group = _flow_group(call, project, wanted.get("version_group_id") or _version_group(call, project, serialized))
    siblings = call.store.owned("flow", "flow_group_id", group["id"])
    living = [row for row in siblings if not row["archived"]]
    key = wanted.get("idempotency_key")
    if key and key == group["settings"].get("idempotency_key") and living:
        return {"id": max(living, key=lambda row: row["version"])["id"]}
    call.store.update(group, settings={**group["settings"], "idempotency_key": key})
    flow = call.store.insert(
        "flow",
        **_flow_columns(serialized),
        tenant_id=project["tenant_id"],
        project_id=project["id"],
        version_group_id=group["name"],
        flow_group_id=group["id"],
        version=max((row["version"] for row in siblings), default=0) + 1,
        description=wanted.get("description"),
    )
    register_tasks(call, {"flow_id": flow["id"], "serialized_tasks": serialized.get("tasks") or []})
    for row in living:
        archive_flow(call, row)
    return {"id": flow["id"]}


def _flow_columns(serialized: Mapping[str, Any]) -> dict[str, Any]:
    names = ("name", "environment", "run_config", "storage", "schedule")
    columns = {name: serialized.get(name) for name in names}
    parameters = serialized.get("parameters") or []
    core_version = serialized.get("__version__")
    return {**columns, "parameters": parameters, "core_version": core_version, "serialized_flow": serialized}


def _version_group(call: Call, project: Row, serialized: Mapping[str, Any]) -> str:
    named = [row for row in call.store.owned("flow", "project_id", project["id"]) if row["name"] == serialized["name"]]
    return str(named[-1]["version_group_id"]) if named else call.store.new_id()


def _flow_group(call: Call, project: Row, name: str) -> Row:
    for group in call.store.owned("flow_group", "tenant_id", project["tenant_id"]):
        if group["name"] == name:
            return group
    return call.store.insert("flow_group", tenant_id=project["tenant_id"], name=name, settings=FLOW_GROUP_SETTINGS)


def archive_flow(call: Call, flow: Row) -> None:
    """Nothing of an archived flow runs any more: runs of a schedule are deleted, others that wait are cancelled."""
    call.store.update(flow, archived=True)
    for run in call.store.owned("flow_run", "flow_id", flow["id"]):
        if run["state"] == "Scheduled" and run["auto_scheduled"]:
            call.store.delete("flow_run", run["id"])
        elif run["state"] == "Scheduled":
            cancel_flow_run(call, run["id"], f"Flow {flow['id']} was archived.")


def register_tasks(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Add tasks to a flow; those whose slug is there already are left alone."""
    flow = call.existing("flow", wanted["flow_id"], "Foreign key violation.")
    known = {row["slug"] for row in call.store.owned("task", "flow_id", flow["id"])}
    new = [task for task in wanted["serialized_tasks"] if task["slug"] not in known]
    columns = ("name", "slug", "type", "cache_key", "max_retries")
    for task in new:
        values = {column: task.get(column) for column in columns}
        more = {"tags": task.get("tags") or [], "auto_generated": bool(task.get("auto_generated"))}
        call.store.insert("task", flow_id=flow["id"], tenant_id=flow["tenant_id"], **values, **more)
    serialized = flow["serialized_flow"] or {}
    call.store.update(flow, serialized_flow={**serialized, "tasks": [*(serialized.get("tasks") or []), *new]})
    return {"success": True}


def register_edges(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Check that the edges join tasks of the flow; nobody can read them here."""
    known = {row["slug"] for row in call.store.owned("task", "flow_id", wanted["flow_id"])}
    for edge in wanted["serialized_edges"]:
        for end in ("upstream_task", "downstream_task"):
            slug = edge[end]["slug"] if isinstance(edge[end], Mapping) else edge[end]
            if slug not in known:
                raise Refused(
                    "Edges could not be registered - some edges reference tasks that do not exist within this flow."
                )
    return {"success": True}


def set_schedule_active(call: Call, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Remember that the flow's schedule is on; runs of schedules are made by `Prefect1Server.add_flow_run` only."""
    flow = call.existing("flow", wanted["flow_id"], "Invalid flow id.")
    call.store.update(flow, is_schedule_active=bool(flow["schedule"]))
    return {"success": bool(flow["schedule"])}
