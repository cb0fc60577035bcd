"""The settings of an agent that serves work pools: Prefect 3's own names, and what does not go together."""

from __future__ import annotations

from typing import Any

import pytest

from chalicelib.errors import SettingsError
from chalicelib.settings import load_settings

POOLS = {"AGENT_WORK_POOLS": "ecs-pool, other"}
SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:prefect/key-Ab12Cd"


def problems(environment: dict[str, str], flags: dict[str, Any] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environment, flags)
    return caught.value.problems


def test_with_work_pools_the_names_of_prefect_3_count_and_those_of_prefect_1_do_not() -> None:
    theirs = {"PREFECT_API_URL": "https://prefect.example/api", "PREFECT_API_KEY": "pnu_three"}
    ours = {"PREFECT__CLOUD__API": "https://old.example", "PREFECT__CLOUD__API_KEY": "one"}
    settings = load_settings({**POOLS, **theirs, **ours})
    assert (settings.api_url, settings.plain_api_key) == ("https://prefect.example/api", "pnu_three")
    assert settings.work_pools == ("ecs-pool", "other")
    assert load_settings({**theirs, **ours}).api_url == "https://old.example"


def test_work_pools_on_the_command_line_choose_prefect_3_as_well() -> None:
    settings = load_settings({"PREFECT_API_AUTH_STRING": "admin:pass"}, {"work_pools": ["mine"]})
    assert (settings.work_pools, settings.plain_auth_token) == (("mine",), "admin:pass")
    assert settings.api_url == "http://127.0.0.1:4200/api"


def test_the_key_of_prefect_3_may_be_the_arn_of_a_secret() -> None:
    settings = load_settings({**POOLS, "PREFECT_API_KEY": SECRET_ARN})
    assert (settings.secret_reference, settings.plain_api_key) == (SECRET_ARN, None)


def test_the_lead_is_given_for_all_pools_or_for_each() -> None:
    given = load_settings({**POOLS, "AGENT_LEAD_SECONDS": "5, other=45.5"}).lead_seconds
    assert given == {"": 5.0, "other": 45.5}
    assert problems({**POOLS, "AGENT_LEAD_SECONDS": "other=soon"}) == (
        'AGENT_LEAD_SECONDS: "soon" is not a number from 0 to 240',
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({**POOLS, "PREFECT__CLOUD__AGENT__LABELS": '["dev"]'}, ("LABELS", "AGENT_WORK_QUEUES")),
        ({**POOLS, "PREFECT_API_KEY": "k", "PREFECT_API_AUTH_STRING": "a:b"}, ("PREFECT_API_AUTH_STRING", "one of")),
        ({"AGENT_WORK_QUEUES": "fast"}, ("AGENT_WORK_QUEUES", "AGENT_WORK_POOLS")),
    ],
)
def test_what_does_not_go_together_is_told_with_what_to_do(environment: dict[str, str], words: tuple[str, ...]) -> None:
    (problem,) = problems(environment)
    assert all(word in problem for word in words)
