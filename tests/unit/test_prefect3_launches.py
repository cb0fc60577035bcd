"""What rows of Prefect 3 say of launches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.prefect_api.prefect3_launches import (
    from_claim,
    is_signed,
    pid_of,
    possible_ids,
    read_standing,
    with_key,
)
from chalicelib.prefect_api.prefect3_states import claim_sign, with_notes
from chalicelib.sightings import Phase, Resubmit, Sighting

PIDS = st.sampled_from(["", "c::1", "c::2"])


def row_of(kind: str, pid: str, **fields: Any) -> dict[str, Any]:
    own = {"state_type": kind, "infrastructure_pid": pid or None}
    return {"id": "run", "state_name": kind.title(), "empirical_policy": {}, "job_variables": {}, **own, **fields}


def claim_after(pid: str, key: str = "key", at: int = 1, agent: str = "agent", **notes: Any) -> dict[str, Any]:
    message = with_notes(claim_sign(agent), {**({"after": pid} if pid else {}), **notes})
    return {
        "id": key,
        "type": "PENDING",
        "name": "Pending",
        "message": message,
        "timestamp": f"2026-11-20T12:00:0{at}Z",
    }


@given(PIDS, PIDS)
def test_only_a_pid_that_was_not_there_before_the_claim_is_a_sign_of_launch(before: str, now: str) -> None:
    row = row_of("PENDING", now, state=claim_after(before))
    assert is_signed(row) == (now not in ("", before))


@given(st.sampled_from(["PENDING", "RUNNING", "CANCELLING"]), PIDS, PIDS, PIDS, st.sampled_from([None, "key", "old"]))
def test_a_sighting_speaks_by_the_key_of_the_latest_claim_or_by_the_recorded_pid(
    kind: str, before: str, recorded: str, seen: str, key: str | None
) -> None:
    sighting = Sighting("run", key, f"Task {seen}" if seen else "")
    standing = read_standing(row_of(kind, recorded), [claim_after(before)], {}, sighting)
    is_recorded = bool(seen) and seen == recorded and (kind != "PENDING" or recorded != before)
    assert (standing.key is not None and standing.key == with_key(sighting).key) == (key == "key" or is_recorded)


@pytest.mark.parametrize(("kind", "phase"), [("PENDING", None), ("RUNNING", Phase.RUNNING), ("COMPLETED", None)])
def test_of_a_run_that_waits_for_somebody_else_nothing_is_said(kind: str, phase: Phase | None) -> None:
    assert read_standing(row_of(kind, "c::1"), [], {}, Sighting("run", None, "Task c::1")).phase is phase


def test_only_the_latest_claim_counts_and_only_if_it_is_ours() -> None:
    own, newer = claim_after("", "own", 1), claim_after("", "newer", 2)
    moved = {**newer, "name": "InfrastructurePending", "id": "moved", "timestamp": "2026-11-20T12:00:03Z"}
    assert from_claim([moved, newer, own], "agent") == [newer, own]
    assert from_claim([claim_after("", "other", 2, agent="other"), own], "agent") == []
    assert from_claim([], "agent") == []


@pytest.mark.parametrize(
    ("run", "deployment", "policy", "choice"),
    [
        (None, None, {}, Resubmit.START),
        (None, "running", {}, Resubmit.RUNNING),
        ("never", "running", {}, Resubmit.NEVER),
        ("nonsense", "running", {}, Resubmit.START),
        ("running", None, {"retry_type": "in_process"}, Resubmit.NEVER),
    ],
)
def test_a_run_says_what_of_it_may_be_launched_again_else_its_deployment(
    run: str | None, deployment: str | None, policy: dict[str, str], choice: Resubmit
) -> None:
    def variables(text: str | None) -> dict[str, Any]:
        return {"job_variables": {"env": {"AGENT_RESUBMIT": text}} if text else {"env": None}}

    row = row_of("RUNNING", "c::1", **variables(run), empirical_policy=policy)
    standing = read_standing(row, [claim_after("", resubmitted=2)], variables(deployment), Sighting("run", "key", ""))
    assert (standing.resubmit, standing.resubmitted) == (choice, 2)


def test_a_pid_is_all_that_follows_the_first_word() -> None:
    assert pid_of("Task arn:cluster/c::arn:task 1") == "arn:cluster/c::arn:task 1"
    assert pid_of("") == ""


def test_only_what_is_an_id_is_asked_for() -> None:
    own = "0b5a8d4e-8f0b-4c59-9a55-1f6f7f8c2d11"
    assert possible_ids([own, "x", own.upper(), f"{own} "]) == [own]
