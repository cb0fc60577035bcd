"""The index of what waits says what reading all rows would say, whatever has become of the runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles.prefect1 import Prefect1Server
from tests.unit.prefect1_double.asking import Asker, TurnedClock

FIRST = """query($tenant:uuid!, $labels:jsonb!, $before:timestamptz!) {{
  flow_run(
    where: {{tenant_id:{{_eq:$tenant}}, state:{{_eq:"Scheduled"}}, labels:{{_contained_in:$labels}},
             state_start_time:{{_lte:$before}}}},
    order_by: {{state_start_time: asc}}, limit: 7{more}
  ) {{ id state_start_time }}
}}"""
INDEXED, READ_ALL = FIRST.format(more=""), FIRST.format(more=", offset: 0")
QUEUE = "mutation($input: get_runs_in_queue_input!){get_runs_in_queue(input: $input){flow_run_ids}}"

LATER = st.sampled_from(["stays", "Submitted", "Scheduled", "Retrying", "Success", "deleted"])
RUN = st.tuples(st.integers(-90, 30), st.sampled_from([[], ["a"], ["b"]]), LATER)


def arrange(server: Prefect1Server, clock: TurnedClock, history: list[tuple[int, list[str], str]]) -> None:
    flow = server.add_flow()
    for seconds, labels, later in history:
        start = clock.now() + timedelta(seconds=seconds)
        run_id = server.add_flow_run(flow, labels=labels, start_time=start)
        if later == "deleted":
            server.delete_flow_run(run_id)
        elif later != "stays":
            server.set_state(run_id, {"type": later})


def starts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["state_start_time"] for row in rows]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(RUN, max_size=25))
def test_the_first_of_the_scheduled_runs_are_those_that_reading_all_of_them_finds(
    server: Prefect1Server, clock: TurnedClock, ask: Asker, history: list[tuple[int, list[str], str]]
) -> None:
    arrange(server, clock, history)
    wanted: dict[str, Any] = {"tenant": server.tenant_id, "labels": ["a"], "before": clock.now().isoformat()}
    indexed, all_read = (ask.data(query, **wanted)["flow_run"] for query in (INDEXED, READ_ALL))
    # Of equal start times either may be left out.
    assert starts(indexed) == starts(all_read)
    assert len({row["id"] for row in indexed}) == len(indexed)


def test_asking_takes_nothing_out_of_the_queue(server: Prefect1Server, clock: TurnedClock, ask: Asker) -> None:
    arrange(server, clock, [(-seconds, ["a"], "stays") for seconds in range(30)])
    asked = {"tenant_id": server.tenant_id, "labels": ["a"], "before": clock.now().isoformat()}
    first, again = (ask.data(QUEUE, input=asked)["get_runs_in_queue"]["flow_run_ids"] for _ in range(2))
    assert first == again
    assert len(first) == 25


def test_a_run_that_was_scheduled_anew_is_in_the_queue_once(
    server: Prefect1Server, clock: TurnedClock, ask: Asker
) -> None:
    run_id = server.add_flow_run()
    for _ in range(3):
        server.set_state(run_id, {"type": "Scheduled"})
    asked = {"tenant_id": server.tenant_id, "before": clock.now().isoformat()}
    assert ask.data(QUEUE, input=asked)["get_runs_in_queue"]["flow_run_ids"] == [run_id]
