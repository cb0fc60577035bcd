"""The doubles of the bench in processes of their own."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from bench.hosted import Hosted
from tests.doubles.ecs import EcsServer


class Unmade:
    """A double that cannot be made."""

    url = ""

    def __init__(self) -> None:
        raise ValueError("no room")

    def __enter__(self) -> Unmade:
        return self

    def __exit__(self, *_: object) -> None:
        return


class Uncopied(Exception):
    """An error that nobody can make from its text alone."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{text} {number}")


def _process_id(_: EcsServer) -> int:
    return os.getpid()


def _raise_uncopied(_: EcsServer) -> None:
    raise Uncopied(7, "there are")


def _end_abruptly(_: EcsServer) -> None:
    os._exit(1)


def test_a_hosted_double_serves_from_another_process_and_tells_what_it_has_seen() -> None:
    with Hosted(EcsServer, clusters=("flows",)) as ecs:
        client = boto3.client(
            "ecs",
            region_name="us-east-1",
            endpoint_url=ecs.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        assert client.list_clusters()["clusterArns"] == ["arn:aws:ecs:us-east-1:123456789012:cluster/flows"]
        client.close()
        assert ecs.ask(EcsServer.count, "ListClusters") == 1
        assert ecs.ask(_process_id) != os.getpid()


def test_its_process_has_ended_afterwards() -> None:
    with Hosted(EcsServer) as ecs:
        process = Path(f"/proc/{ecs.ask(_process_id)}")
        assert process.exists()
    assert not process.exists()


def test_it_ends_when_whoever_asks_fails() -> None:
    with pytest.raises(ZeroDivisionError), Hosted(EcsServer) as ecs:
        process = Path(f"/proc/{ecs.ask(_process_id)}")
        raise ZeroDivisionError
    assert not process.exists()


def test_an_exception_comes_back_with_the_place_where_it_was_raised_and_the_double_goes_on() -> None:
    with Hosted(EcsServer) as ecs:
        with pytest.raises(KeyError, match="no such task") as raised:
            ecs.ask(EcsServer.task, "no such task")
        assert "tests/doubles/ecs/server.py" in raised.value.__notes__[0]
        with pytest.raises(RuntimeError, match=r"Uncopied\('there are 7'\)"):
            ecs.ask(_raise_uncopied)
        assert ecs.ask(EcsServer.tasks) == []


def test_an_answer_that_cannot_be_copied_is_an_error() -> None:
    with Hosted(EcsServer) as ecs:
        with pytest.raises(TypeError, match="pickle"):
            ecs.ask(_itself)
        assert ecs.ask(EcsServer.tasks) == []


def _itself(ecs: EcsServer) -> EcsServer:
    return ecs


def test_what_the_making_of_the_double_raised_comes_back() -> None:
    with pytest.raises(ValueError, match="no room"):
        Hosted(Unmade)


def test_a_process_that_is_gone_is_an_error_for_whoever_asks() -> None:
    with Hosted(EcsServer) as ecs, pytest.raises(EOFError):
        ecs.ask(_end_abruptly)
