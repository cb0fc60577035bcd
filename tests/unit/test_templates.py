"""Templates that runs and the operator name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from chalicelib.errors import LaunchDeferred, LaunchForbidden, SettingsError, UnsupportedRun
from chalicelib.launchers.templates import TEMPLATE_LIMIT, TemplateReader, load_object, read_own_template

TEMPLATE = b"cpu: 1024\ncontainerDefinitions:\n- name: flow\n  image: img:1\n"
LOADED = {"cpu": 1024, "containerDefinitions": [{"name": "flow", "image": "img:1"}]}
PLANTED = "AKIAPLANTEDKEY0000"


def no_s3() -> Any:
    raise AssertionError("no S3 client is to be made for this")


def reader(*allowed: str, local_allowed: bool = True, s3: Callable[[], Any] = no_s3) -> TemplateReader:
    return TemplateReader(allowed, s3, local_allowed)


def refusal(templates: TemplateReader, path: str) -> str:
    with pytest.raises(UnsupportedRun) as caught:
        templates.read(path)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return str(caught.value)


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    """A directory of templates, with a file outside that no run may see."""
    directory = tmp_path / "templates"
    directory.mkdir()
    (directory / "task.yaml").write_bytes(TEMPLATE)
    (tmp_path / "secret.yaml").write_text(f"key: {PLANTED}\n")
    return directory


# Where a template may be


@pytest.mark.parametrize("scheme", ["", "file://", "agent://", "local://"])
def test_a_template_in_a_listed_directory_is_read(allowed: Path, scheme: str) -> None:
    assert reader(str(allowed)).read(f"{scheme}{allowed}/task.yaml") == LOADED


def test_a_template_below_a_listed_directory_is_read_through_links_that_stay_inside(allowed: Path) -> None:
    (allowed / "team").mkdir()
    (allowed / "team" / "link.yaml").symlink_to("../task.yaml")
    assert reader(f"{allowed}/").read(f"{allowed}/team/link.yaml") == LOADED


def test_no_place_is_listed_by_default_and_a_lambda_has_no_local_ones(allowed: Path) -> None:
    path = f"{allowed}/task.yaml"
    assert "AGENT_TEMPLATE_PATHS" in refusal(reader(), path)
    assert "AGENT_TEMPLATE_PATHS" in refusal(reader(str(allowed), local_allowed=False), path)


def test_no_way_out_of_the_listed_directory_is_followed(allowed: Path) -> None:
    (allowed / "link.yaml").symlink_to("../secret.yaml")
    (allowed / "away").symlink_to("..")
    sibling = allowed.with_name("templates-of-others")
    sibling.mkdir()
    (sibling / "task.yaml").write_bytes(TEMPLATE)
    for path in ("link.yaml", "away/secret.yaml", "../secret.yaml", "../templates-of-others/task.yaml"):
        message = refusal(reader(str(allowed)), f"{allowed}/{path}")
        assert "AGENT_TEMPLATE_PATHS" in message
        assert PLANTED not in message


def test_outside_nobody_learns_whether_a_file_exists(allowed: Path) -> None:
    messages = {
        refusal(reader(str(allowed)), f"{allowed.parent}/{name}").replace(name, "")
        for name in ("secret.yaml", "none.yaml")
    }
    assert len(messages) == 1


@pytest.mark.parametrize(
    "path",
    ["http://127.0.0.1:9/t.yaml", "https://x/t.yaml", "gcs://b/t.yaml", "ftp://b/t", "s3://bucket/t.yaml", "\0", ""],
)
def test_other_schemes_and_unlisted_buckets_are_refused_without_asking_anybody(allowed: Path, path: str) -> None:
    assert "cannot be used" in refusal(reader(str(allowed)), path)


def test_what_is_not_a_readable_file_is_refused(allowed: Path) -> None:
    os.mkfifo(allowed / "pipe")
    (allowed / "large.yaml").write_bytes(b"a: " + b"x" * TEMPLATE_LIMIT)
    templates = reader(str(allowed))
    assert "it is not a file" in refusal(templates, f"{allowed}/pipe")
    assert "Is a directory" in refusal(templates, str(allowed))
    assert "No such file" in refusal(templates, f"{allowed}/none.yaml")
    assert "larger than 256 KB" in refusal(templates, f"{allowed}/large.yaml")


# What stands in it


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f"key: '{PLANTED}", "not valid YAML, line"),
        (f"{PLANTED}", "not an object at its top"),
        (f"- {PLANTED}", "not an object at its top"),
        (f"a: 1\n{PLANTED}: *{PLANTED}", "line 2"),
        (f"a: 1\nb: !{PLANTED} x", "line 2"),
        (f"a: !!int {PLANTED}", "not valid YAML"),
        (f"a: !!python/name:{PLANTED} x", "line 1"),
        (f"a: !!binary {PLANTED}AA", "line 1 has a value that is not text"),
        (f"a: 1\nb: {PLANTED}\n\t- c", "line 3"),
        (f"a: @{PLANTED}", "line 1"),
        (f"a: {PLANTED}\n--- \nb: 1", "line 2"),
        (f"a: [{PLANTED}\x01]", "not valid YAML"),
        (f"a: {{2020-01-01: {PLANTED}}}", "line 1 has a key that is not text"),
        (f"a:\n- b: 2020-01-01\n- {PLANTED}", "line 2 has a value that is not text"),
        ("a: .nan", "a number that JSON cannot hold"),
        ("a: 1.0e+400", "a number that JSON cannot hold"),
        ("", "not an object at its top"),
    ],
)
def test_a_malformed_template_is_refused_by_line_or_key_and_never_by_content(
    allowed: Path, content: str, told: str
) -> None:
    (allowed / "bad.yaml").write_text(content)
    message = refusal(reader(str(allowed)), f"{allowed}/bad.yaml")
    assert told in message
    assert PLANTED not in message


def wide(times: int, join: str) -> bytes:
    """A text of few bytes whose aliases grow ninefold with each line."""
    lines = [b"a0: &a0 {k: v}"]
    for index in range(1, times):
        many = ", ".join([f"*a{index - 1}"] * 9)
        lines.append(f"a{index}: &a{index} {join % many}".encode())
    return b"\n".join(lines)


@pytest.mark.parametrize(
    "content",
    [
        wide(12, "[%s]"),
        wide(12, "{<<: [%s]}"),
        b"a: &a [*a]",
        b"a: &a {b: *a}",
        b"a: " + b"[" * 5_000,
        b"a: &a '" + b"x" * 50_000 + b"'\nb: [" + b"*a, " * 2_000 + b"*a]",
    ],
)
def test_a_template_that_would_grow_without_bounds_is_refused(content: bytes) -> None:
    with pytest.raises(UnsupportedRun):
        load_object(content)


def test_aliases_and_merge_keys_in_reason_are_understood() -> None:
    assert load_object(b"a: &a {k: 1}\nb: *a\nc: {<<: *a, l: 2}") == {
        "a": {"k": 1},
        "b": {"k": 1},
        "c": {"k": 1, "l": 2},
    }


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_an_object_or_a_refusal(content: bytes) -> None:
    try:
        document = load_object(content)
    except UnsupportedRun as error:
        assert str(error)
    else:
        assert all(isinstance(key, str) for key in document)


# The operator's own


def test_the_operators_template_may_be_anywhere(allowed: Path) -> None:
    assert read_own_template(str(allowed / "task.yaml"), no_s3) == LOADED


@pytest.mark.parametrize("path", ["/nowhere/task.yaml", "http://x/t.yaml", ""])
def test_an_operators_template_that_cannot_be_read_is_a_mistake_in_the_settings(path: str) -> None:
    with pytest.raises(SettingsError, match=path or "."):
        read_own_template(path, no_s3)


def test_an_operators_malformed_template_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(f"key: '{PLANTED}")
    with pytest.raises(SettingsError, match="line") as caught:
        read_own_template(str(tmp_path / "bad.yaml"), no_s3)
    assert PLANTED not in str(caught.value)


# In S3


def client_of(port: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


@pytest.fixture(scope="module")
def moto_port() -> Iterator[int]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    with closing(client_of(port)) as client:
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="team/task.yaml", Body=TEMPLATE)
        client.put_object(Bucket="bucket", Key="team/a b?#.yaml", Body=TEMPLATE)
        client.put_object(Bucket="bucket", Key="team/large.yaml", Body=b"a: " + b"x" * TEMPLATE_LIMIT)
        client.put_object(Bucket="bucket", Key="secret.yaml", Body=f"key: '{PLANTED}".encode())
        client.put_object(Bucket="bucket", Key="team/bad.yaml", Body=f"key: '{PLANTED}".encode())
    yield port
    server.stop()


@pytest.fixture
def s3(moto_port: int) -> Iterator[Any]:
    with closing(client_of(moto_port)) as client:
        yield client


@pytest.mark.parametrize("prefix", ["s3://bucket/team", "s3://bucket/team/", "s3://bucket"])
@pytest.mark.parametrize("key", ["task.yaml", "a b?#.yaml"])
def test_a_template_below_a_listed_prefix_is_read_from_s3(s3: Any, prefix: str, key: str) -> None:
    assert reader(prefix, local_allowed=False, s3=lambda: s3).read(f"s3://bucket/team/{key}") == LOADED


@pytest.mark.parametrize(
    "path",
    [
        "s3://bucket/secret.yaml",
        "s3://bucket/team/../secret.yaml",
        "s3://bucket/team/./task.yaml",
        "s3://bucket/team//x",
        "s3://bucket/teammates/task.yaml",
        "s3://bucket2/team/task.yaml",
        "s3://bucket/team",
        "s3://bucket/team/",
    ],
)
def test_no_object_outside_of_the_listed_prefix_is_asked_for(path: str) -> None:
    assert "AGENT_TEMPLATE_PATHS" in refusal(reader("s3://bucket/team"), path)


def test_objects_that_hold_no_template_are_refused(s3: Any) -> None:
    templates = reader("s3://bucket/team", "s3://nobody", s3=lambda: s3)
    assert "NoSuchKey" in refusal(templates, "s3://bucket/team/none.yaml")
    assert "NoSuchBucket" in refusal(templates, "s3://nobody/team/none.yaml")
    assert "larger than 256 KB" in refusal(templates, "s3://bucket/team/large.yaml")
    message = refusal(templates, "s3://bucket/team/bad.yaml")
    assert "line" in message
    assert PLANTED not in message


def test_the_operators_template_may_be_an_s3_object(s3: Any) -> None:
    assert read_own_template("s3://bucket/team/task.yaml", lambda: s3) == LOADED
    with pytest.raises(SettingsError, match="NoSuchKey"):
        read_own_template("s3://bucket/none.yaml", lambda: s3)


@contextmanager
def s3_that_answers(status: int, code: str, cut: bool = False) -> Iterator[Any]:
    """A client of an S3 that has one answer for everything; `cut` ends it before the body is complete."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = TEMPLATE if cut else f"<Error><Code>{code}</Code><Message>Said by S3</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + 100 * cut))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the parameter there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with closing(client_of(server.server_port)) as client:
            yield client
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout"), (400, "ExpiredToken")]
)
def test_an_s3_that_cannot_answer_now_defers_the_launch(status: int, code: str) -> None:
    with s3_that_answers(status, code) as client, pytest.raises(LaunchDeferred, match=f"task.yaml: {code}: Said by S3"):
        reader("s3://bucket", s3=lambda: client).read("s3://bucket/task.yaml")


def test_an_answer_cut_short_defers_the_launch() -> None:
    with s3_that_answers(200, "", cut=True) as client, pytest.raises(LaunchDeferred):
        reader("s3://bucket", s3=lambda: client).read("s3://bucket/task.yaml")


def test_an_s3_that_is_away_defers_the_launch_and_is_a_mistake_for_the_operators_own() -> None:
    with s3_that_answers(200, "") as client:
        pass
    with pytest.raises(LaunchDeferred):
        reader("s3://bucket", s3=lambda: client).read("s3://bucket/task.yaml")
    with pytest.raises(SettingsError):
        read_own_template("s3://bucket/task.yaml", lambda: client)


def test_a_template_that_the_agent_may_not_read_is_refused_with_the_permission_it_lacks() -> None:
    with s3_that_answers(403, "AccessDenied") as client:
        message = refusal(reader("s3://bucket", s3=lambda: client), "s3://bucket/task.yaml")
    assert (
        "s3:GetObject of s3://bucket/task.yaml: AccessDenied: Said by S3 (allow it in the policy of the agent's role)"
        in message
    )


def test_credentials_that_s3_does_not_take_are_the_agents_fault() -> None:
    with s3_that_answers(403, "InvalidAccessKeyId") as client, pytest.raises(LaunchForbidden, match="credentials"):
        reader("s3://bucket", s3=lambda: client).read("s3://bucket/task.yaml")
