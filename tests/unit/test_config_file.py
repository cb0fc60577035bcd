"""Prefect 1's config file as a layer of settings: what is read of it, and how a bad one is told."""

from __future__ import annotations

from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from chalicelib.cli.config_file import read_config_file
from chalicelib.errors import SettingsError
from chalicelib.settings import Settings, load_settings

CANARY = "pnu_8Qcanary"
WHOLE = """
backend = "server"
[cloud]
api = "http://${HOST_OF_API}:4200"
tenant_id = "6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52"
send_flow_run_logs = false
heartbeat_interval = 30.0
[cloud.agent]
name = "filed"
labels = "['b', 'a']"
level = "DEBUG"
agent_address = "http://:8080"
[cloud.agent.env_vars]
REGION = "eu-west-1"
[logging]
level = "WARNING"
[server]
port = "4200"
"""


def settings_of(path: Path, text: str, **environment: str) -> Settings:
    path.write_text(text)
    environment = {"PREFECT__USER_CONFIG_PATH": str(path), **environment}
    return load_settings(environment, {}, read_config_file(environment))


def test_every_setting_of_prefects_own_is_read(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "config.toml", WHOLE, HOST_OF_API="prefect.internal")
    assert (settings.backend, settings.api_url) == ("server", "http://prefect.internal:4200")
    assert (settings.name, settings.labels, settings.log_level) == ("filed", ("a", "b"), "DEBUG")
    assert (settings.send_flow_run_logs, settings.flow_run_log_level) == (False, "WARNING")
    assert (settings.env_vars, settings.agent_address) == ({"REGION": "eu-west-1"}, "http://:8080")


def test_a_key_in_the_file_means_prefect_cloud_and_is_shown_nowhere(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "config.toml", f'[cloud]\napi_key = "{CANARY}"\n')
    assert (settings.backend, settings.plain_api_key) == ("cloud", CANARY)
    assert CANARY not in repr(settings)


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    name = {"PREFECT__CLOUD__AGENT__NAME": "strong", "HOST_OF_API": "h"}
    assert settings_of(tmp_path / "config.toml", WHOLE, **name).name == "strong"


def test_the_file_of_prefect_1_says_nothing_of_work_pools(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "config.toml", WHOLE, HOST_OF_API="h", AGENT_WORK_POOLS="nightly")
    assert (settings.labels, settings.name) == ((), "agent")


def test_where_work_pools_are_served_it_is_not_even_looked_at(tmp_path: Path) -> None:
    unreadable = {"PREFECT__USER_CONFIG_PATH": str(tmp_path)}
    assert read_config_file(unreadable, ["work_pools"]) == {}
    assert read_config_file({**unreadable, "AGENT_WORK_POOLS": "nightly"}) == {}


def test_without_a_file_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_config_file({}) == {}


def test_the_usual_place_is_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "config.toml").write_text('[cloud.agent]\nname = "home"\n')
    assert load_settings({}, {}, read_config_file({})).name == "home"


def test_a_wrong_value_is_told_with_the_file_and_its_place_in_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(SettingsError) as caught:
        settings_of(path, "[cloud.agent]\nlabels = ['a,b']\n")
    (problem,) = caught.value.problems
    assert problem.startswith(f'{path} [cloud.agent] labels: "a,b" is not a label')


@pytest.mark.parametrize("text", [f'[cloud]\napi_key = "{CANARY}', f"{CANARY}", f"[cloud]\n[cloud]\n# {CANARY}"])
def test_a_file_that_is_no_toml_is_one_line_without_what_stands_in_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    with pytest.raises(SettingsError) as caught:
        settings_of(path, text)
    assert caught.value.problems == (
        f"{path}: is not valid TOML; correct it, or name another by PREFECT__USER_CONFIG_PATH",
    )


def test_a_file_that_cannot_be_read_or_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        read_config_file({"PREFECT__USER_CONFIG_PATH": str(tmp_path)})
    with pytest.raises(SettingsError, match=r"there is no file .*missing\.toml; correct the path or unset it"):
        read_config_file({"PREFECT__USER_CONFIG_PATH": "$PLACE/missing.toml", "PLACE": str(tmp_path)})


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(st.text() | st.binary())
def test_any_content_makes_settings_or_problems_of_one_line(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    environment = {"PREFECT__USER_CONFIG_PATH": str(path)}
    try:
        assert load_settings(environment, {}, read_config_file(environment)).platform == "ecs"
    except SettingsError as error:
        assert all(problem.splitlines() == [problem] for problem in error.problems)
