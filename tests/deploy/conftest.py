"""A whole deployment on this machine: the real tools, an AWS account without Amazon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.package import KEPT
from tests.deploy.account import AwsAccount, Clone

MakeClone = Callable[[], Clone]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here takes seconds, so `make test` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.deploy)


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where zips that were built once are kept for all clones."""
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def account() -> Iterator[AwsAccount]:
    with AwsAccount() as account:
        yield account


@pytest.fixture(scope="module")
def make_clone(account: AwsAccount, packages: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeClone:
    def make() -> Clone:
        clone = Clone(tmp_path_factory.mktemp("clone"), account)
        (clone.directory / "build").mkdir()
        (clone.directory / "build" / KEPT).symlink_to(packages)
        return clone

    return make
