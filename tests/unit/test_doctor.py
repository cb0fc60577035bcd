"""How `doctor` tells what it finds, and what it finds at a Prefect 1 API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import pytest

from chalicelib.cli.doctor import run_doctor
from chalicelib.cli.doctor_prefect1 import check_prefect1
from chalicelib.cli.findings import COLOURS, Finding, examine, not_checked, ok, tell, warn, wrong
from chalicelib.clock import SystemClock
from chalicelib.credentials import Credential
from chalicelib.errors import LaunchUnknown, PrefectUnreachable, SettingsError
from chalicelib.settings import load_settings
from tests.doubles.docker import DockerDaemon
from tests.doubles.prefect1 import Prefect1Server
from tests.doubles.prefect1.server import CLOUD_KEY
from tests.prefect1_agents import make_api


@pytest.fixture
def prefect() -> Iterator[Prefect1Server]:
    with Prefect1Server() as server:
        yield server


def look(url: str, key: str | None = None, **environment: str) -> list[Finding]:
    """All findings at a Prefect 1 API."""
    given = {"PREFECT__CLOUD__API": url, "PREFECT__CLOUD__AGENT__NAME": "lambda", **environment}
    settings = load_settings(given | ({"PREFECT__CLOUD__API_KEY": key} if key else {}))
    return list(examine("Prefect API", lambda: check_prefect1(settings, Credential(key))))


def not_fine(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.level != "ok"]


def poll(server: Prefect1Server, *labels: str, name: str = "other") -> None:
    """Let another agent poll."""
    clock = SystemClock()
    make_api(server, clock, labels, name=name).record_and_poll([], clock.now())


# What is told, and how


def test_each_level_is_a_word_of_its_own_in_a_column(capsys: pytest.CaptureFixture[str]) -> None:
    code = tell([ok("a"), warn("b"), not_checked("c")], None)
    assert (code, capsys.readouterr().out) == (0, "ok           a\nwarn         b\nnot checked  c\n")
    assert tell([wrong("d"), ok("e")], None) == 1


class Terminal(StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


def test_there_are_colours_on_a_terminal_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    tell([wrong("a")], None)
    assert "\x1b" not in capsys.readouterr().out
    terminal = Terminal()
    with redirect_stdout(terminal):
        tell([wrong("a")], None)
    assert terminal.getvalue() == f"\x1b[{COLOURS['wrong']}mwrong      \x1b[0m  a\n"


@pytest.mark.parametrize(("value", "is_coloured"), [("1", False), ("0", False), ("", True)])
def test_there_are_no_colours_where_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, value: str, is_coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    terminal = Terminal()
    with redirect_stdout(terminal):
        tell([wrong("a")], None)
    assert ("\x1b" in terminal.getvalue()) is is_coloured
    assert is_coloured or terminal.getvalue() == "wrong        a\n"


def test_a_finding_is_one_line_without_the_secret(capsys: pytest.CaptureFixture[str]) -> None:
    tell([wrong("the key\nhunter2 is\tshown")], "hunter2")
    assert capsys.readouterr().out == "wrong        the key *** is shown\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PrefectUnreachable("away"), Finding("wrong", "X: away: do this")),
        (SettingsError(["not set"]), Finding("wrong", "X: not set: do this")),
        (LaunchUnknown("no answer"), Finding("not checked", "X: no answer: do this")),
        (
            ZeroDivisionError("secret"),
            Finding("not checked", "X: the look at it failed with ZeroDivisionError; please report that"),
        ),
    ],
)
def test_what_goes_wrong_with_a_look_is_a_finding(error: Exception, expected: Finding) -> None:
    def check() -> Iterator[Finding]:
        yield ok("before")
        raise error

    assert list(examine("X", check, "do this")) == [ok("before"), expected]


# Prefect 1


def test_a_server_in_order_has_only_lines_that_are_ok(prefect: Prefect1Server) -> None:
    findings = look(prefect.url)
    assert not_fine(findings) == []
    said = " ".join(finding.text for finding in findings)
    assert ("is Prefect 1, server" in said, prefect.tenant_id in said) == (True, True)


def test_looking_neither_polls_nor_registers_nor_writes(prefect: Prefect1Server) -> None:
    prefect.add_flow_run(labels=["dev"])
    look(prefect.url)
    assert (prefect.agents(), [request.is_mutation for request in prefect.requests if request.is_mutation]) == ([], [])


def test_an_api_that_is_away_or_something_else_is_wrong() -> None:
    with Prefect1Server() as server:
        url = server.url
    (finding,) = look(url)
    assert (finding.level, url in finding.text, "--work-pool" in finding.text) == ("wrong", True, True)


def test_a_key_is_accepted_or_refused_and_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Prefect1Server(cloud=True) as cloud:
        assert not_fine(look(cloud.url, CLOUD_KEY)) == []
        assert ok("API key: accepted") in look(cloud.url, CLOUD_KEY)
        (finding,) = look(cloud.url, "wrong-key")
    assert (finding.level, "refuses the API key" in finding.text) == ("wrong", True)
    assert "wrong-key" not in finding.text


def test_a_cloud_without_a_key_and_a_server_with_one_are_told(prefect: Prefect1Server) -> None:
    with Prefect1Server(cloud=True) as cloud:
        (finding,) = look(cloud.url)
        assert (finding.level, "asks for an API key, and none is set" in finding.text) == ("wrong", True)
    (finding,) = not_fine(look(prefect.url, "some-key"))
    assert (finding.level, "set PREFECT__BACKEND=server" in finding.text) == ("wrong", True)
    assert not_fine(look(prefect.url, "some-key", PREFECT__BACKEND="server")) == []


def test_a_tenant_that_is_missing_or_not_chosen_is_told(prefect: Prefect1Server) -> None:
    with Prefect1Server(tenant=False) as empty:
        assert "no tenant" in not_fine(look(empty.url))[0].text
    other = "6e3ad6c1-55a2-4a16-8e1a-3c1b6f0c3b52"
    (finding,) = not_fine(look(prefect.url, PREFECT__CLOUD__TENANT_ID=other))
    assert (finding.level, other in finding.text) == ("wrong", True)
    with Prefect1Server(api_keys={"key": other}) as several:
        assert [finding.level for finding in not_fine(look(several.url))] == ["warn"]
        assert not_fine(look(several.url, PREFECT__CLOUD__TENANT_ID=several.tenant_id)) == []


def test_due_runs_whose_labels_nobody_has_are_wrong(prefect: Prefect1Server) -> None:
    for labels in (["dev"], ["prod", "dev"], ["prod", "dev"], ["prod", "dev"]):
        prefect.add_flow_run(labels=labels)
    findings = look(prefect.url, PREFECT__CLOUD__AGENT__LABELS='["dev"]')
    (finding,) = not_fine(findings)
    assert finding.level == "wrong"
    assert "3 due runs have labels dev, prod that this agent lacks" in finding.text
    assert "give --label prod" in finding.text
    assert ok("Labels: 1 due runs match labels dev of this agent") in findings
    both = look(prefect.url, PREFECT__CLOUD__AGENT__LABELS='["dev", "prod"]')
    assert ok("Labels: 4 due runs match labels dev, prod of this agent") in both
    assert not_fine(both) == []


def test_due_runs_that_another_agent_serves_are_fine(prefect: Prefect1Server) -> None:
    prefect.add_flow_run(labels=["prod"])
    poll(prefect, "prod", "gpu")
    findings = look(prefect.url)
    assert not_fine(findings) == []
    assert any("which agent other serves" in finding.text for finding in findings)


def test_what_this_agent_itself_polled_with_before_its_labels_changed_serves_nothing_now(
    prefect: Prefect1Server,
) -> None:
    prefect.add_flow_run(labels=["dev"])
    for _ in range(2):
        poll(prefect, "dev", name="lambda")
    name, labels = not_fine(look(prefect.url, PREFECT__CLOUD__AGENT__LABELS='["devv"]'))
    assert (name.level, labels.level) == ("warn", "wrong")
    assert "an agent lambda with labels dev polls too" in name.text
    assert "give --label dev" in labels.text


def test_runs_without_labels_are_not_for_an_agent_with_some(prefect: Prefect1Server) -> None:
    prefect.add_flow_run()
    (finding,) = not_fine(look(prefect.url, PREFECT__CLOUD__AGENT__LABELS='["dev"]'))
    assert (finding.level, "an agent with labels never gets these" in finding.text) == ("wrong", True)
    assert not_fine(look(prefect.url)) == []


def test_another_agent_of_this_name_is_told(prefect: Prefect1Server) -> None:
    poll(prefect, "prod", name="lambda")
    (finding,) = not_fine(look(prefect.url))
    assert (finding.level, "an agent lambda with labels prod polls too" in finding.text) == ("warn", True)
    assert not_fine(look(prefect.url, PREFECT__CLOUD__AGENT__LABELS='["prod"]')) == []


# The whole


def test_the_default_name_is_warned_of(prefect: Prefect1Server, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"PREFECT__CLOUD__API": prefect.url, "AGENT_PLATFORM": "local", "AGENT_HOSTNAME_LABEL": "false"}
    run_doctor(load_settings(given))
    assert "warn         Name: it is the default, agent" in capsys.readouterr().out
    run_doctor(load_settings({**given, "PREFECT__CLOUD__AGENT__NAME": "laptop"}))
    assert "Name:" not in capsys.readouterr().out


def test_a_machine_without_prefect_runs_no_flow(
    prefect: Prefect1Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    settings = load_settings(
        {"PREFECT__CLOUD__API": prefect.url, "AGENT_PLATFORM": "local", "AGENT_HOSTNAME_LABEL": "false"}
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_doctor(settings) == 1
    assert "install prefect where PATH leads to it" in capsys.readouterr().out
    executable = tmp_path / "prefect"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    assert run_doctor(settings) == 0
    assert f"ok           Prefect: {executable}" in capsys.readouterr().out


def test_a_docker_daemon_is_there_or_not(prefect: Prefect1Server, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"PREFECT__CLOUD__API": prefect.url, "AGENT_PLATFORM": "docker"}
    with DockerDaemon() as daemon:
        assert run_doctor(load_settings({**environment, "AGENT_DOCKER_BASE_URL": daemon.url})) == 0
        assert "ok           Docker: the daemon answers, 0 containers" in capsys.readouterr().out
    with Prefect1Server() as gone:
        address = gone.url.replace("http", "tcp")
    assert run_doctor(load_settings({**environment, "AGENT_DOCKER_BASE_URL": address})) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Docker" in line]
    assert line.startswith("wrong        Docker: ")
