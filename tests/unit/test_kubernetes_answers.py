"""The table of the Kubernetes API's answers, held against all the reasons that it has."""

from __future__ import annotations

import json
import ssl
import urllib.error
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown
from chalicelib.launchers.kubernetes_answers import (
    REASONS,
    AlreadyThere,
    JobGone,
    NamespaceForbidden,
    classify,
    classify_exception,
)
from chalicelib.launchers.pacing import Throttled

CODES = {
    "": 0,
    "Unknown": 0,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Gone": 410,
    "Invalid": 422,
    "ServerTimeout": 500,
    "StoreReadError": 500,
    "Timeout": 504,
    "TooManyRequests": 429,
    "BadRequest": 400,
    "MethodNotAllowed": 405,
    "NotAcceptable": 406,
    "RequestEntityTooLarge": 413,
    "UnsupportedMediaType": 415,
    "InternalError": 500,
    "Expired": 410,
    "ServiceUnavailable": 503,
}
"""Every StatusReason of k8s.io/apimachinery/pkg/apis/meta/v1 with the code that it documents; 0 is any."""

SUBJECT = "Creating Job prefect-job-1 in namespace flows"


def status(reason: str, message: str = "no", code: int = 400, **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code, **more}


def answer(reason: str, message: str = "no", code: int | None = None, **more: Any) -> LaunchError:
    code = code or CODES[reason]
    return classify(code, status(reason, message, code, **more), {}, SUBJECT)


# reasons


def test_every_reason_of_the_api_has_an_answer() -> None:
    assert set(REASONS) == set(CODES) - {"", "Unknown"}


@pytest.mark.parametrize(
    ("kind", "reasons"),
    [
        (LaunchForbidden, "Unauthorized NotFound MethodNotAllowed NotAcceptable UnsupportedMediaType"),
        (LaunchRejected, "Forbidden Invalid BadRequest RequestEntityTooLarge"),
        (LaunchDeferred, "Gone Expired"),
        (Throttled, "TooManyRequests Conflict"),
        (AlreadyThere, "AlreadyExists"),
        (LaunchUnknown, "ServerTimeout StoreReadError Timeout InternalError ServiceUnavailable"),
    ],
)
def test_each_reason_is_the_answer_that_it_means(kind: type[LaunchError], reasons: str) -> None:
    assert {reason: type(answer(reason)) for reason in reasons.split()} == dict.fromkeys(reasons.split(), kind)


@pytest.mark.parametrize("reason", ["", "Unknown", "NewInTheNextRelease"])
def test_without_a_reason_that_is_known_the_code_decides(reason: str) -> None:
    assert type(classify(418, status(reason), {}, SUBJECT)) is LaunchRejected
    assert type(classify(500, status(reason), {}, SUBJECT)) is LaunchUnknown
    assert type(classify(408, status(reason), {}, SUBJECT)) is LaunchUnknown


# what the messages say


@pytest.mark.parametrize(
    ("reason", "message", "kind"),
    [
        (
            "Forbidden",
            'jobs.batch is forbidden: User "arn:aws:sts::1:assumed-role/a/b" cannot create resource "jobs" in API '
            'group "batch" in the namespace "flows"',
            NamespaceForbidden,
        ),
        (
            "Forbidden",
            'jobs.batch "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: ..., limited: ...',
            LaunchDeferred,
        ),
        (
            "Forbidden",
            'jobs.batch "x" is forbidden: unable to create new content in namespace flows because it is being '
            "terminated",
            NamespaceForbidden,
        ),
        ("NotFound", 'namespaces "flows" not found', NamespaceForbidden),
        ("NotFound", 'jobs.batch "x" not found', JobGone),
        ("Forbidden", 'admission webhook "policy.example.com" denied the request: no image from there', LaunchRejected),
        ("InternalError", 'Internal error occurred: failed calling webhook "kueue": timeout', LaunchDeferred),
        ("Unknown", "etcdserver: request is too large", LaunchRejected),
    ],
)
def test_what_a_refusal_says_goes_before_its_reason(reason: str, message: str, kind: type[LaunchError]) -> None:
    assert type(answer(reason, message, CODES[reason] or 500)) is kind


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "BadRequest",
            'Job in version "v1" cannot be handled as a Job: strict decoding error: unknown field '
            '"spec.template.spec.x"',
        ),
        ("Invalid", 'Job.batch "a" is invalid: spec.template.spec.x: Required value'),
    ],
)
def test_the_field_that_is_wrong_is_named(reason: str, message: str) -> None:
    found = answer(reason, message)
    assert type(found) is LaunchRejected
    assert str(found).startswith(f"{SUBJECT}: {CODES[reason]} {reason}: ")
    assert "spec.template.spec.x" in str(found)


def test_an_unauthorized_agent_is_told_what_to_do() -> None:
    assert "EKS access entry" in str(answer("Unauthorized", "Unauthorized"))


# time


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({"retry-after": "2"}, None, 2.0),
        ({}, {"retryAfterSeconds": 3}, 3.0),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, None, 0.0),
        ({"retry-after": "-1"}, None, 0.0),
        ({}, None, 0.0),
    ],
)
def test_how_long_to_leave_it_alone_is_taken_from_the_answer(
    headers: dict[str, str], details: Any, seconds: float
) -> None:
    found = classify(429, status("TooManyRequests", details=details), headers, SUBJECT)
    assert isinstance(found, Throttled)
    assert found.retry_after_seconds == seconds


def test_fair_queueing_throttles_in_plain_text() -> None:
    found = classify(429, "Too many requests, please try again later.\n", {"retry-after": "1"}, SUBJECT)
    assert isinstance(found, Throttled)
    assert found.retry_after_seconds == 1.0


# no answer of Kubernetes


@given(
    st.integers(300, 599).filter(lambda code: code != 429),
    st.one_of(st.text(), st.none(), st.lists(st.integers()), st.dictionaries(st.text(max_size=4), st.text(max_size=4))),
)
def test_what_is_not_kubernetes_that_speaks_proves_nothing(code: int, body: Any) -> None:
    assert type(classify(code, body, {}, SUBJECT)) is LaunchUnknown


@given(st.integers(400, 599), st.sampled_from(sorted(CODES)), st.text(max_size=2000), st.none() | st.just({}))
def test_every_status_is_one_of_the_three_answers_and_no_longer_than_may_be(
    code: int, reason: str, message: str, details: Any
) -> None:
    found = classify(code, status(reason, message, code, details=details), {}, SUBJECT)
    assert isinstance(found, LaunchRejected | LaunchDeferred | LaunchUnknown)
    assert len(str(found)) < 600
    assert "\n" not in str(found)


# errors of the client


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx2.ConnectError("[Errno 111] Connection refused"), LaunchDeferred),
        (httpx2.ConnectError("[Errno -2] Name or service not known"), LaunchDeferred),
        (httpx2.ConnectTimeout("timed out"), LaunchDeferred),
        (httpx2.PoolTimeout("timed out"), LaunchDeferred),
        (httpx2.ProxyError("403 Forbidden"), LaunchDeferred),
        (httpx2.ReadTimeout("timed out"), LaunchUnknown),
        (httpx2.WriteTimeout("timed out"), LaunchUnknown),
        (httpx2.ReadError("reset"), LaunchUnknown),
        (httpx2.WriteError("broken pipe"), LaunchUnknown),
        (httpx2.RemoteProtocolError("Server disconnected without sending a response."), LaunchUnknown),
        (httpx2.UnsupportedProtocol("no http://"), LaunchForbidden),
        (FileNotFoundError("aws-iam-authenticator"), LaunchForbidden),
        (json.JSONDecodeError("no token", "", 0), LaunchUnknown),
        (urllib.error.URLError("whatever"), LaunchUnknown),
    ],
)
def test_only_what_was_never_sent_is_for_now(error: Exception, kind: type[LaunchError]) -> None:
    found = classify_exception(error, SUBJECT)
    assert type(found) is kind
    assert str(found).startswith(f"{SUBJECT}: {type(error).__name__}: ")


def test_a_certificate_of_another_authority_is_the_agents_fault_however_deep_it_lies() -> None:
    error = httpx2.ConnectError("TLS")
    error.__cause__ = ValueError("in between")
    error.__cause__.__context__ = ssl.SSLCertVerificationError(1, "unable to get local issuer certificate")
    found = classify_exception(error, SUBJECT)
    assert type(found) is LaunchForbidden
    assert "check address and CA" in str(found)
