"""Flow runs of a world with Kubernetes, led to where a test begins, and what must be true of them at its end."""

from __future__ import annotations

from tests.integration.kubernetes_world import KubernetesWorld
from tests.integration.world import ROUND_SECONDS

NO_IMAGE = 'Back-off pulling image "flows:1": pull access denied'


def tick_again(world: KubernetesWorld, *after_seconds: float) -> None:
    for seconds in after_seconds:
        world.clock.turn(seconds)
        world.tick()


def assert_launched_once(world: KubernetesWorld, run_id: str, at: int, jobs: int = 1) -> None:
    """It is Submitted, has one living Job of `jobs`, and that one's key in its claim and its sign of launch."""
    row = world.prefect.flow_run(run_id)
    assert row["state"] == "Submitted", f"at effect {at}"
    key = world.key_of_living(run_id)
    assert (key, len(world.jobs_of(run_id))) == (row["serialized_state"]["context"]["key"], jobs), f"at effect {at}"
    assert world.has_sign(run_id, key), f"at effect {at}"


def assert_failed_once(world: KubernetesWorld, run_id: str, *parts: str, at: int) -> None:
    """It is Failed, once, and the same reason, which has all these parts, stands in its log."""
    message = world.prefect.flow_run(run_id)["state_message"]
    assert [state["state"] for state in world.prefect.states(run_id)].count("Failed") == 1, f"at effect {at}"
    assert world.prefect.flow_run(run_id)["state"] == "Failed", f"at effect {at}"
    assert [part for part in parts if part not in message] == []
    assert message in [line["message"] for line in world.prefect.logs(run_id) if line["level"] == "ERROR"]


def launch_and_let_it_go_silent(world: KubernetesWorld, is_alive: bool) -> str:
    """A run that was launched, and that Lazarus then rescheduled because nothing was heard of it for ten minutes."""
    run_id = world.launch()
    if not is_alive:
        world.kubernetes.finish_pod(world.pod_of(run_id), exit_code=1)
    world.clock.turn(700)
    world.prefect.set_state(run_id, {"type": "Scheduled", "start_time": world.clock.now().isoformat()})
    return run_id


def assert_resubmitted_once(world: KubernetesWorld, run_id: str, at: int) -> None:
    # Two rounds may end right after it was given back; it is launched by the tick after that.
    tick_again(world, 40, ROUND_SECONDS)
    assert_launched_once(world, run_id, at, jobs=2)
    counts = [state["serialized_state"]["context"].get("resubmitted") for state in world.prefect.states(run_id)]
    assert {count for count in counts if count} == {1}, f"at effect {at}"
