"""The address of the process form: what it answers while the agent polls, hangs, fails or is misconfigured."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from urllib.parse import urlsplit

import pytest
import requests

from chalicelib.cli.address import serve_address
from chalicelib.cli.polling import Bell, Ticking, keep_ticking
from chalicelib.errors import PrefectUnreachable, SettingsError
from chalicelib.outcomes import Answer, TickReport
from chalicelib.settings import Settings, load_settings
from tests.doubles.clock import TurnedClock

LIMIT_SECONDS = 180
LAUNCHED = Counter({Answer.LAUNCHED: 1})


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def settings_for(address: str | None) -> Settings:
    return load_settings({}, {"agent_address": address})


class World:
    """An agent that answers by a script, the clock that it lives by, and the address that it is watched at."""

    def __init__(self) -> None:
        self.clock = TurnedClock()
        self.bell = Bell()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.answer: TickReport | Exception = TickReport()
        self.ticks = 0

    def tick(self, deadline: datetime, recovers: bool = False) -> TickReport:
        self.ticks += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    @contextmanager
    def served(self) -> Iterator[Ticking]:
        with serve_address(self, settings_for(self.url), self.clock, self.bell.poke) as ticking:
            yield ticking

    def health(self) -> tuple[int, str]:
        answer = requests.get(f"{self.url}/api/health", timeout=5)
        assert answer.json()["status"] == ("ok" if answer.status_code == 200 else "unhealthy")
        return answer.status_code, answer.json()["reason"]

    def tick_once(self, ticking: Ticking) -> None:
        """One tick of the loop, which takes failures as the loop does."""
        keep_ticking(ticking, self.clock, 1, lambda _: False)
        self.clock.turn(11)  # A verdict is used again for 10 s.


@pytest.fixture
def world() -> World:
    return World()


def test_it_is_well_from_the_beginning_while_it_polls(world: World) -> None:
    with world.served() as ticking:
        assert world.health()[0] == 200
        for _ in range(30):
            world.tick_once(ticking)
            assert world.health()[0] == 200
    assert world.ticks == 30


def test_a_tick_that_hangs_turns_it_red_at_the_limit_and_not_before(world: World) -> None:
    with world.served():
        world.clock.turn(LIMIT_SECONDS - 1)
        assert world.health()[0] == 200
        world.clock.turn(11)
        code, reason = world.health()
    assert code == 503
    assert "The latest poll is 190 s old" in reason


def test_ticks_that_fail_turn_it_red_and_one_that_does_its_work_green_again(world: World) -> None:
    world.answer = PrefectUnreachable("away")
    with world.served() as ticking:
        codes = []
        for _ in range(20):
            world.tick_once(ticking)
            codes.append(world.health()[0])
        world.answer = TickReport(errors=["something of it failed later"])
        world.tick_once(ticking)
        assert world.health()[0] == 200
    assert codes == [200] * 16 + [503] * 4


def test_a_fault_of_the_agents_own_is_red_until_something_is_launched_or_for_a_quarter_of_an_hour(world: World) -> None:
    with world.served() as ticking:
        world.answer = TickReport(agent_fault="no such cluster")
        world.tick_once(ticking)
        world.answer = TickReport()
        world.tick_once(ticking)
        assert world.health() == (503, "The agent itself is misconfigured: no such cluster")
        world.answer = TickReport(answers=LAUNCHED)
        world.tick_once(ticking)
        assert world.health()[0] == 200
        world.answer = TickReport(agent_fault="no such cluster")
        world.tick_once(ticking)
        world.answer = TickReport()
        world.clock.turn(15 * 60)
        world.tick_once(ticking)
        assert world.health()[0] == 200


@pytest.mark.parametrize("code", [200, 503])
def test_head_is_answered_as_get_is_without_a_body(world: World, code: int) -> None:
    with world.served():
        world.clock.turn(0 if code == 200 else LIMIT_SECONDS + 1)
        got = requests.get(f"{world.url}/api/health", timeout=5)
        with socket.create_connection(("127.0.0.1", urlsplit(world.url).port), timeout=5) as connection:
            connection.sendall(b"HEAD /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert (got.status_code, int(head.split()[1])) == (code, code)
    assert f"Content-Length: {len(got.content)}".encode() in head
    assert body == b""


def test_head_does_not_poke(world: World) -> None:
    pokes: list[bool] = []
    with serve_address(world, settings_for(world.url), world.clock, lambda: pokes.append(True)):
        assert requests.head(f"{world.url}/api/poke", timeout=5).status_code == 404
        assert pokes == []
        assert requests.get(f"{world.url}/api/poke", timeout=5).status_code == 202
    assert pokes == [True]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_poke_ends_the_wait_and_says_nothing_of_stopping(world: World, method: str) -> None:
    with world.served():
        for _ in range(3):
            answer = requests.request(method, f"{world.url}/api/poke", timeout=5)
            assert (answer.status_code, answer.json()) == (202, {"status": "poked"})
        assert world.bell.wait(60) is False
        # The three were one: nothing is left to end the next wait.
        assert world.bell.wait(0.01) is False


def test_a_stop_is_heard_whatever_was_poked_before_it() -> None:
    bell = Bell()
    bell.poke()
    bell.stop()
    bell.poke()
    assert bell.wait(60) is True


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("GET", "/api"), ("POST", "/api/health")])
def test_nothing_else_is_there(world: World, method: str, path: str) -> None:
    with world.served():
        assert requests.request(method, f"{world.url}{path}", timeout=5).status_code == 404


def test_a_port_in_use_is_one_line_that_says_so(world: World) -> None:
    with world.served(), pytest.raises(SettingsError, match="in use") as caught, world.served():
        raise AssertionError("nobody may listen there twice")
    (problem,) = caught.value.problems
    assert problem.startswith(f"--agent-address: cannot listen at {world.url} (")


def test_a_port_that_cannot_be_is_one_line(world: World) -> None:
    world.url = "http://localhost:99999"
    with pytest.raises(SettingsError, match="ports end at 65535"), world.served():
        raise AssertionError("nobody can listen there")


def test_the_address_is_free_again_afterwards(world: World) -> None:
    for _ in range(2):
        with world.served():
            assert world.health()[0] == 200
    with pytest.raises(requests.ConnectionError):
        world.health()


@pytest.mark.parametrize(
    ("address", "is_right"),
    [
        ("http://localhost:8080", True),
        ("http://:8080", True),
        ("http://[::1]:8080/", True),
        ("localhost:8080", False),
        ("http://localhost", False),
        ("https://localhost:8080", False),
        ("http://me:pw@localhost:8080", False),
    ],
)
def test_an_address_is_a_url_with_a_port(address: str, is_right: bool) -> None:
    if is_right:
        assert settings_for(address).agent_address == address
    else:
        with pytest.raises(SettingsError, match=r"^--agent-address: .* is not an address with a port"):
            settings_for(address)


def test_it_listens_on_the_host_that_is_named_and_no_other(world: World) -> None:
    port = free_port()
    world.url = f"http://127.0.0.2:{port}"
    with world.served():
        assert world.health()[0] == 200
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/api/health", timeout=5)
