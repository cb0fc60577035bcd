"""When a mutation is divided, and that nothing of it is lost then."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from chalicelib.prefect_api.documents import RootField
from chalicelib.prefect_api.portions import MOST_PORTIONS, Portions

TRIP_SECONDS = 0.03


def some(count: int) -> list[RootField]:
    return [RootField(f"r{number}", "hello") for number in range(count)]


class Server:
    """Takes its time for each root field; with one hand it carries out one request after the other."""

    def __init__(self, field_seconds: float, hands: int = 100) -> None:
        self.portions = Portions()
        self.field_seconds = field_seconds
        self.hands = hands
        self.answer(1)

    def answer(self, count: int) -> int:
        """In how many requests so many fields came."""
        portions = self.portions.divide(some(count))
        self.portions.learn(portions, TRIP_SECONDS + self.field_seconds * self._longest(portions))
        return len(portions)

    def _longest(self, portions: Sequence[Sequence[RootField]]) -> int:
        hands = [0] * self.hands
        for portion in portions:
            hands[hands.index(min(hands))] += len(portion)
        return max(hands)


def test_what_takes_no_longer_than_its_way_stays_one_request() -> None:
    server = Server(field_seconds=0.001)
    assert [server.answer(25) for _ in range(5)] == [1] * 5


def test_a_server_that_takes_its_time_for_each_field_is_asked_several_at_once() -> None:
    server = Server(field_seconds=0.03)
    assert [server.answer(25) for _ in range(4)] == [1, 7, 7, 7]
    assert server.answer(3) == 1


def test_it_is_one_request_again_once_the_server_is_quick_again() -> None:
    server = Server(field_seconds=0.03)
    server.answer(25)
    server.field_seconds = 0.001
    assert [server.answer(25) for _ in range(3)] == [7, 1, 1]


def test_a_server_with_one_hand_is_left_in_peace_for_longer_each_time() -> None:
    server = Server(field_seconds=0.03, hands=1)
    tries = [number for number in range(60) if server.answer(25) > 1]
    assert tries == [1, 4, 9, 18, 35]


def test_one_answer_that_is_late_by_chance_is_soon_forgotten() -> None:
    server = Server(field_seconds=0.03)
    server.answer(25)
    server.portions.learn(server.portions.divide(some(25)), 3.0)
    assert [server.answer(25) for _ in range(5)] == [1, 1, 7, 7, 7]


def test_a_first_request_that_takes_long_hides_nothing() -> None:
    server = Server(field_seconds=0.03)
    late = Portions()
    late.learn([some(1)], 1.0)
    server.portions = late
    server.answer(1)
    assert [server.answer(25) for _ in range(4)] == [1, 7, 7, 7]


def test_a_long_way_alone_divides_nothing() -> None:
    portions = Portions()
    portions.learn([some(1)], 2.0)
    portions.learn([some(25)], 2.1)
    assert len(portions.divide(some(25))) == 1


@given(
    requests=st.lists(st.tuples(st.integers(1, 200), st.floats(0, 100)), max_size=10),
    count=st.integers(1, 500),
)
def test_whatever_was_learnt_the_portions_are_the_fields_in_order(
    requests: list[tuple[int, float]], count: int
) -> None:
    portions = Portions()
    for fields, seconds in requests:
        portions.learn(portions.divide(some(fields)), seconds)
    divided = portions.divide(some(count))
    assert [field for portion in divided for field in portion] == some(count)
    assert len(divided) <= MOST_PORTIONS
    assert all(divided)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.floats(0, 10))
def test_what_concerns_one_run_stays_together_and_in_order(sizes: list[int], seconds: float) -> None:
    fields = [RootField(f"r{run}_{number}", "hello") for run, size in enumerate(sizes) for number in range(size)]
    portions = Portions()
    portions.learn([some(1)], 0.0)
    portions.learn([some(2)], seconds)
    divided = portions.divide(fields)
    assert [field for portion in divided for field in portion] == fields
    runs = [{field.alias.partition("_")[0] for field in portion} for portion in divided]
    assert sum(len(each) for each in runs) == len(sizes)


def test_portions_of_one_field_each_forget_nothing() -> None:
    server = Server(field_seconds=0.2)
    assert [server.answer(5) for _ in range(5)] == [1, 5, 5, 5, 5]
