"""What the documents quote exists: settings, options, commands, tests, files, metrics, alarms, log lines."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from chalicelib.cli.options import OWN_OPTIONS, REFUSED, check_platform, read_command_line
from chalicelib.settings import SETTINGS
from chalicelib.telemetry import METRICS
from deploy.__main__ import COMMANDS as DEPLOY_COMMANDS
from deploy.__main__ import OPTIONS as DEPLOY_OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATIONS = ROOT / "docs" / "operations.md"

OF_THE_CONTAINER = {
    *("PREFECT__CONTEXT__FLOW_RUN_ID", "PREFECT__FLOW_RUN_ID", "PREFECT__WORKER_ID", "AGENT_RESUBMIT"),
    "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR",
}
"""What a flow run's own container has."""

OF_PREFECT = {
    "PREFECT__USER_CONFIG_PATH",
    "PREFECT_CLIENT_CUSTOM_HEADERS",
    *(f"PREFECT_WORKER_{name}" for name in ("PREFETCH_SECONDS", "QUERY_SECONDS", "HEARTBEAT_SECONDS")),
    "PREFECT_WORKER_ENABLE_CANCELLATION",
    "PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME",
    *(f"PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_KEY_SECRET_{name}" for name in ("NAME", "KEY")),
}
"""What Prefect's own agents and workers read, which the pages for their users name."""

OF_PREFECTS_AGENTS = {f"--{name.replace('_', '-')}" for name in REFUSED}
OF_PREFECTS_WORKER = {
    *("--prefetch-seconds", "--run-once", "--limit", "--with-healthcheck", "--install-policy", "--base-job-template"),
    *("--create-pool-if-not-found", "--type", "--profile", "--no-prompt"),
}
OF_OTHER_PROGRAMS = re.compile(
    r"(\w+=(\$\(|\d+ ))?(aws|awscurl|kubectl|docker|\.venv/bin/chalice|\.venv/bin/python -m bench) "
)
"""How a line begins that is another program's."""

OF_THE_DEPLOY_STEP = {"SubnetIds"}
"""What is said as a parameter and goes into the functions' settings."""

VALUES_OF_COMMANDS = re.compile(r"<[^>]*>")
"""What a reader fills in."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def in_code(page: Path) -> list[str]:
    """Each line of each block of code, continued lines as one, and what stands in backquotes."""
    text = page.read_text()
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"\b(?:AGENT|PREFECT_)_[A-Z_]+[A-Z]\b|\bPREFECT_[A-Z][A-Z_]+[A-Z]\b", page.read_text()))
    ours = {name for setting in SETTINGS for name in (setting.env, setting.env3)}
    assert named - ours - OF_THE_CONTAINER <= OF_PREFECT


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    ours = [code for code in in_code(page) if not OF_OTHER_PROGRAMS.match(code)]
    named = {option for code in ours for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)}
    known = {flag for setting in SETTINGS for flag in setting.flags} | {"--version", "--help"}
    known |= {f"--{name.replace('_', '-')}" for name in OWN_OPTIONS}
    deploys = {*DEPLOY_OPTIONS, "--yes", "--architecture", "--stage"}
    assert named - known - deploys <= OF_PREFECTS_AGENTS | OF_PREFECTS_WORKER


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_of_the_agent_can_be_typed(page: Path) -> None:
    for code in in_code(page):
        command = re.split(r" [|>#] | #|`", VALUES_OF_COMMANDS.sub("some", code))[0]
        words = shlex.split(re.sub(r"^(\S+=\S+ +)*(\.venv/bin/)?", "", command)) if "prefect-agent " in command else []
        is_whole = words[:1] == ["prefect-agent"] and not {"...", "-h"} & {*words}
        if is_whole and not re.search(r"[{(\[]", command):
            line = read_command_line(words[1:])
            assert line.command
            if "work_pools" not in line.flags:
                check_platform(line, line.platform or "local")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    folders = "app.py|chalicelib|infra|deploy|tests|bench|demo|examples|docs"
    named = {code for code in in_code(page) if re.fullmatch(rf"({folders})(/[\w.*-]+)*/?", code)}
    assert [path for path in sorted(named) if not list(ROOT.glob(path))] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_is_named_as_proof_exists(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text()))
    code = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert named <= set(re.findall(r"def (test_\w+)", code))


def test_reliability_rests_on_tests() -> None:
    assert len(set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "reliability.md").read_text()))) > 60


def test_every_make_target_that_a_page_names_exists() -> None:
    rules = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    targets = {name for rule in rules for name in rule.split()}
    named = {name for page in PAGES for code in in_code(page) for name in re.findall(r"^make ([a-z-]+)", code)}
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_deploy_command_and_parameter_that_a_page_names_exists(page: Path) -> None:
    code = "\n".join(in_code(page))
    assert set(re.findall(r"python -m deploy ([a-z]+)", code)) <= DEPLOY_COMMANDS.keys()
    templates = "\n".join(path.read_text().partition("\nConditions:")[0] for path in (ROOT / "infra").glob("*.yaml"))
    declared = set(re.findall(r"^  (\w+):$", templates, re.MULTILINE)) | {"NAME", *OF_THE_DEPLOY_STEP}
    assert set(re.findall(r"--parameter ([A-Za-z]+)", code)) <= declared


def test_every_metric_and_every_alarm_is_explained() -> None:
    text, core = OPERATIONS.read_text(), (ROOT / "infra" / "core.yaml").read_text()
    alarms = re.findall(r"AlarmName: !Sub prefect-agent-\$\{Stage\}-([\w-]+)", core)
    assert len(alarms) > 3
    assert [name for name in (*METRICS, *alarms) if f"`{name}`" not in text] == []


def test_every_permission_is_explained() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    policies = "\n".join(path.read_text() for path in (ROOT / "infra").glob("*.yaml"))
    actions = set(
        re.findall(r"\b(?:ec2|ecr|ecs|eks|iam|logs|s3|secretsmanager|sqs|ssm):([A-Z][A-Za-z]+)\b(?!:)", policies)
    )
    assert len(actions) > 20
    assert sorted(action for action in actions if action not in text) == []


def test_every_warning_and_error_that_is_logged_is_explained() -> None:
    text = " ".join(OPERATIONS.read_text().split())
    logged = [line for path in (ROOT / "chalicelib").rglob("*.py") for line in _logged(path)]
    assert len(logged) > 20
    assert [line for line in logged if line not in text] == []


def _logged(path: Path) -> list[str]:
    """The texts of a module's warnings and errors, up to the first value in them."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    texts = [word.value for call in calls if _is_loud(call) for word in call.args if isinstance(word, ast.Constant)]
    begins = [re.split(r"[%{]", text)[0].strip(" :") for text in texts if isinstance(text, str)]
    return [begin for begin in begins if begin]


def _is_loud(call: ast.Call) -> bool:
    """Whether this logs a warning or an error; `some_of` logs what fails under the words that it is given."""
    if not isinstance(call.func, ast.Attribute):
        return False
    by = call.func.value
    logs = isinstance(by, ast.Name) and by.id == "LOGGER" and call.func.attr in ("warning", "error", "exception")
    return logs or call.func.attr == "some_of"


def test_decisions_are_numbered_without_gaps() -> None:
    pages = sorted(page for page in (ROOT / "docs" / "adr").glob("*.md") if page.name != "README.md")
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    assert [page.name for page in pages if not page.read_text().startswith(f"# {int(page.name[:4])}. ")] == []


def test_the_readme_can_be_read_at_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
