"""What the end of a launch means for its flow run: the whole table, and the rules that hold whatever happens."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.sightings import RESUBMIT_BUDGET, Consequence, Phase, Resubmit, Sighting, Standing, Stop, consequence_of

NOTHING, FAIL, RESUBMIT, CONFIRM = (
    Consequence.NOTHING,
    Consequence.FAIL,
    Consequence.RESUBMIT,
    Consequence.CONFIRM,
)
FAILED, PASSING, WELL = Stop("failed", True), Stop("passing", False, passes=True), Stop("well", True, went_well=True)
TAKEN = Stop("machine taken away", True, passes=True)

TABLE: dict[tuple[Phase | None, Resubmit], tuple[Consequence, ...]] = {
    # What Prefect says, then what follows when it failed, could not start for now, lost its machine, and ended well.
    (Phase.WAITING, Resubmit.NEVER): (FAIL, FAIL, FAIL, FAIL),
    (Phase.WAITING, Resubmit.START): (FAIL, RESUBMIT, RESUBMIT, FAIL),
    (Phase.WAITING, Resubmit.RUNNING): (FAIL, RESUBMIT, RESUBMIT, FAIL),
    (Phase.RUNNING, Resubmit.NEVER): (FAIL, FAIL, FAIL, NOTHING),
    (Phase.RUNNING, Resubmit.START): (FAIL, FAIL, FAIL, NOTHING),
    (Phase.RUNNING, Resubmit.RUNNING): (FAIL, RESUBMIT, RESUBMIT, NOTHING),
    **{(Phase.CANCELLING, resubmit): (CONFIRM,) * 4 for resubmit in Resubmit},
    **{(Phase.CANCELLED, resubmit): (NOTHING,) * 4 for resubmit in Resubmit},
    **{(None, resubmit): (NOTHING,) * 4 for resubmit in Resubmit},
}
ROWS = [
    pytest.param(
        stop, phase, resubmit, follows, id=f"{stop.reason}, {phase.value if phase else None}, {resubmit.value}"
    )
    for (phase, resubmit), row in TABLE.items()
    for stop, follows in zip((FAILED, PASSING, TAKEN, WELL), row, strict=True)
]


def test_the_table_is_complete() -> None:
    assert len(TABLE) == (len(Phase) + 1) * len(Resubmit)


@pytest.mark.parametrize(("stop", "phase", "resubmit", "follows"), ROWS)
def test_what_follows_from_an_end(stop: Stop, phase: Phase | None, resubmit: Resubmit, follows: Consequence) -> None:
    standing = Standing(phase, "key", resubmit=resubmit)
    assert consequence_of(Sighting("run", "key", "Task", stop=stop), standing) is follows


@pytest.mark.parametrize(("stop", "phase", "resubmit", "follows"), ROWS)
def test_a_running_run_that_comes_back_by_itself_is_left_alone_and_no_other(
    stop: Stop, phase: Phase | None, resubmit: Resubmit, follows: Consequence
) -> None:
    standing = Standing(phase, "key", resubmit=resubmit, comes_back=True)
    expected = NOTHING if phase is Phase.RUNNING else follows
    assert consequence_of(Sighting("run", "key", "Task", stop=stop), standing) is expected


@pytest.mark.parametrize(("stop", "phase", "resubmit", "follows"), ROWS)
def test_with_a_used_up_budget_a_run_fails_that_would_be_launched_again(
    stop: Stop, phase: Phase | None, resubmit: Resubmit, follows: Consequence
) -> None:
    standing = Standing(phase, "key", RESUBMIT_BUDGET, resubmit)
    expected = FAIL if follows is RESUBMIT else follows
    assert consequence_of(Sighting("run", "key", "Task", stop=stop), standing) is expected


# whatever happens

KEYS = st.sampled_from(["key", "another", "", None])
STOPS = st.builds(Stop, st.just("reason"), st.booleans(), st.booleans(), st.booleans())
SIGHTINGS = st.builds(Sighting, st.just("run"), KEYS, st.just("Task"), st.booleans(), st.none() | STOPS)
STANDINGS = st.builds(
    Standing,
    st.none() | st.sampled_from(Phase),
    KEYS,
    st.integers(0, 2 * RESUBMIT_BUDGET),
    st.sampled_from(Resubmit),
    st.booleans(),
)


@given(sighting=SIGHTINGS, standing=STANDINGS)
def test_a_key_that_is_not_the_one_that_a_run_stands_on_changes_nothing(sighting: Sighting, standing: Standing) -> None:
    if sighting.key == standing.key and sighting.key:
        sighting = replace(sighting, key=f"{sighting.key}-1")
    assert consequence_of(sighting, standing) is NOTHING


@given(sighting=SIGHTINGS, standing=STANDINGS)
def test_what_has_not_ended_changes_nothing(sighting: Sighting, standing: Standing) -> None:
    assert consequence_of(replace(sighting, stop=None), standing) is NOTHING


@given(sighting=SIGHTINGS, standing=STANDINGS, phase=st.sampled_from([None, Phase.CANCELLED]))
def test_a_run_that_is_over_or_paused_is_left_alone(
    sighting: Sighting, standing: Standing, phase: Phase | None
) -> None:
    assert consequence_of(sighting, replace(standing, phase=phase)) is NOTHING


@given(stop=STOPS, standing=STANDINGS)
def test_a_run_that_somebody_wants_to_end_is_confirmed_however_it_ended(stop: Stop, standing: Standing) -> None:
    sighting = Sighting("run", "key", "Task", stop=stop)
    assert consequence_of(sighting, replace(standing, phase=Phase.CANCELLING, key="key")) is CONFIRM


@given(sighting=SIGHTINGS, standing=STANDINGS)
def test_a_run_that_says_never_is_never_launched_again(sighting: Sighting, standing: Standing) -> None:
    standing = replace(standing, key=sighting.key, resubmit=Resubmit.NEVER)
    assert consequence_of(sighting, standing) is not RESUBMIT


@given(
    phases=st.lists(st.sampled_from([Phase.WAITING, Phase.RUNNING]), min_size=2 * RESUBMIT_BUDGET),
    resubmit=st.sampled_from(Resubmit),
)
def test_no_history_of_failures_launches_a_run_again_more_often_than_the_budget(
    phases: list[Phase], resubmit: Resubmit
) -> None:
    resubmitted = 0
    for phase in phases:
        standing = Standing(phase, "key", resubmitted, resubmit)
        follows = consequence_of(Sighting("run", "key", "Task", stop=PASSING), standing)
        if follows is not RESUBMIT:
            break
        resubmitted += 1
    assert follows is FAIL
    assert resubmitted <= RESUBMIT_BUDGET


@given(sighting=SIGHTINGS, standing=STANDINGS)
def test_only_what_passes_is_launched_again(sighting: Sighting, standing: Standing) -> None:
    if consequence_of(sighting, replace(standing, key=sighting.key)) is RESUBMIT:
        assert sighting.stop
        assert sighting.stop.passes
    stop = replace(sighting.stop or FAILED, passes=False)
    sighting = replace(sighting, stop=stop)
    assert consequence_of(sighting, replace(standing, key=sighting.key)) is not RESUBMIT
