"""The table of ECS's answers, held against botocore's own model of the service."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown
from chalicelib.launchers.aws_answers import (
    CODES,
    EXCEPTIONS,
    DefinitionGone,
    classify,
    classify_failure,
)
from chalicelib.launchers.pacing import Throttled

OPERATIONS = (
    "DescribeTaskDefinition",
    "DescribeTasks",
    "ListTasks",
    "RegisterTaskDefinition",
    "RunTask",
    "StopTask",
)

COMMON_ERRORS = set(
    """
    AccessDeniedException ExpiredTokenException IncompleteSignature InternalFailure InvalidAction InvalidClientTokenId
    InvalidParameterCombination InvalidParameterValue InvalidQueryParameter MalformedHttpRequestException
    MalformedQueryString MissingAction MissingAuthenticationToken MissingParameter NotAuthorized OptInRequired
    RequestAbortedException RequestEntityTooLargeException RequestExpired RequestTimeoutException ServiceUnavailable
    ThrottlingException UnknownOperationException UnrecognizedClientException ValidationError ValidationException
    RequestLimitExceeded
    """.split()  # noqa: SIM905 - a list would be a page long
)
"""The errors that the ECS API reference calls common to all actions, of old and new editions."""

SUBJECT = "RunTask of flows:1"
USER = "User: arn:aws:sts::123456789012:assumed-role/agent/agent is not authorized to perform: "


def error(code: str, message: str = "no", status: int = 400) -> ClientError:
    response = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "RunTask")  # type: ignore[arg-type]


def test_every_error_of_the_operations_in_use_is_in_the_table() -> None:
    model = botocore.session.get_session().get_service_model("ecs")
    shapes = {shape.name for name in OPERATIONS for shape in model.operation_model(name).error_shapes}
    assert len(shapes) > 10
    assert (shapes | COMMON_ERRORS) - CODES.keys() == set()


def test_every_exception_of_the_table_is_one_of_botocores() -> None:
    assert [name for name in EXCEPTIONS if not hasattr(botocore.exceptions, name)] == []


@pytest.mark.parametrize(
    ("code", "status", "answer"),
    [
        ("ClientException", 400, LaunchRejected),
        ("InvalidParameterException", 400, LaunchRejected),
        ("PlatformUnknownException", 400, LaunchRejected),
        ("AccessDeniedException", 400, LaunchForbidden),
        ("ClusterNotFoundException", 400, LaunchForbidden),
        ("BlockedException", 400, LaunchForbidden),
        ("UnrecognizedClientException", 400, LaunchForbidden),
        ("ExpiredTokenException", 400, LaunchDeferred),
        ("LimitExceededException", 400, LaunchDeferred),
        ("ThrottlingException", 400, Throttled),
        ("SlowDown", 503, Throttled),
        ("ServerException", 500, LaunchUnknown),
        ("ServiceUnavailable", 503, LaunchUnknown),
        ("ConflictException", 400, LaunchUnknown),
        ("UnheardOfException", 400, LaunchRejected),
        ("UnheardOfException", 429, Throttled),
        ("UnheardOfException", 500, LaunchUnknown),
        ("UnheardOfException", 302, LaunchUnknown),
        ("403", 403, LaunchUnknown),
        ("", 404, LaunchUnknown),
    ],
)
def test_a_code_has_one_answer(code: str, status: int, answer: type[LaunchError]) -> None:
    assert type(classify(error(code, status=status), SUBJECT)) is answer


@pytest.mark.parametrize(
    ("code", "message", "answer"),
    [
        (
            "InvalidParameterException",
            "Error retrieving subnet information for [subnet-1]: Rate exceeded (ErrorCode: Throttling)",
            Throttled,
        ),
        (
            "InvalidParameterException",
            "Error retrieving security group information for [sg-1]: Request limit exceeded. "
            "(ErrorCode: RequestLimitExceeded)",
            Throttled,
        ),
        (
            "ClientException",
            "Too many concurrent attempts to create a new revision of the specified family.",
            Throttled,
        ),
        ("ClientException", "You've reached the limit on the number of tasks you can run concurrently", LaunchDeferred),
        (
            "ThrottlingException",
            "You've reached the limit on the number of vCPUs you can run concurrently",
            LaunchDeferred,
        ),
        ("InvalidParameterException", "Invalid placement constraint expression", LaunchRejected),
        ("PlatformUnknownException", "Service Unavailable. Please try again later.", LaunchRejected),
        ("ClientException", "Container overrides size limit exceeded.", LaunchRejected),
        ("InvalidParameterException", "No Container Instances were found in your cluster.", LaunchDeferred),
        (
            "InvalidParameterException",
            "Unable to assume the service linked role. Please verify that the ECS service linked role exists.",
            LaunchDeferred,
        ),
        ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than ...", LaunchDeferred),
        (
            "ClientException",
            "ECS was unable to assume the role 'arn:aws:iam::1:role/x' that was provided",
            LaunchRejected,
        ),
        ("ClientException", "TaskDefinition not found.", DefinitionGone),
        ("ClientException", "Unable to describe task definition.", DefinitionGone),
        ("ServerException", "Rate exceeded somewhere", LaunchUnknown),
    ],
)
def test_a_message_that_says_more_than_its_code_decides(code: str, message: str, answer: type[LaunchError]) -> None:
    status = 500 if code == "ServerException" else 400
    assert type(classify(error(code, message, status), SUBJECT)) is answer


def test_a_role_that_may_not_be_passed_is_the_runs_trouble_and_is_named() -> None:
    role = "arn:aws:iam::123456789012:role/team"
    answer = classify(error("AccessDeniedException", f"{USER}iam:PassRole on resource: {role} because no"), SUBJECT)
    assert type(answer) is LaunchRejected
    assert f"add the role {role} to those that the agent may pass (iam:PassRole)" in str(answer)


def test_what_a_run_chose_itself_is_its_own_trouble() -> None:
    denied = error("AccessDeniedException", f"{USER}ecs:RunTask on resource: arn:aws:ecs:x:y:task-definition/theirs:1")
    assert type(classify(denied, SUBJECT)) is LaunchForbidden
    assert type(classify(denied, SUBJECT, {"AccessDeniedException"})) is LaunchRejected
    missing = error("ClusterNotFoundException", "Cluster not found.")
    assert type(classify(missing, SUBJECT, {"AccessDeniedException"})) is LaunchForbidden
    assert type(classify(missing, SUBJECT, {"ClusterNotFoundException"})) is LaunchRejected


@pytest.mark.parametrize(
    ("raised", "answer"),
    [
        (botocore.exceptions.ReadTimeoutError(endpoint_url="http://x"), LaunchUnknown),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="http://x"), LaunchUnknown),
        (botocore.exceptions.SSLError(endpoint_url="http://x", error=OSError("bad")), LaunchUnknown),
        (ResponseParserError("not JSON"), LaunchUnknown),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="http://x"), LaunchDeferred),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), LaunchDeferred),
        (botocore.exceptions.CredentialRetrievalError(provider="role", error_msg="away"), LaunchDeferred),
        (botocore.exceptions.NoCredentialsError(), LaunchForbidden),
        (botocore.exceptions.NoRegionError(), LaunchForbidden),
    ],
)
def test_what_botocore_raises_has_one_answer(raised: Exception, answer: type[LaunchError]) -> None:
    assert type(classify(raised, SUBJECT)) is answer


def test_a_malformed_parameter_is_named_without_its_value() -> None:
    session = botocore.session.get_session()
    session.set_credentials("key", "secret")
    client: Any = session.create_client("ecs", region_name="us-east-1")
    override = {"name": "flow", "environment": [{"name": "KEY", "value": 987654}]}
    with pytest.raises(botocore.exceptions.ParamValidationError) as caught:
        client.run_task(overrides={"containerOverrides": [override]}, colour=1)
    client.close()
    answer = classify(caught.value, SUBJECT)
    assert type(answer) is LaunchRejected
    assert 'Unknown parameter in input: "colour"' in str(answer)
    assert "overrides.containerOverrides[0].environment[0].value" in str(answer)
    assert "987654" not in str(answer)


@pytest.mark.parametrize(
    "reason",
    [
        "RESOURCE:CPU",
        "RESOURCE:MEMORY",
        "RESOURCE:ENI",
        "RESOURCE:PORTS",
        "RESOURCE:GPU",
        "AGENT",
        "ATTRIBUTE",
        "LOCATION",
        "Capacity is unavailable at this time. Please try again later or in a different availability zone",
        "Tasks provisioning capacity limit exceeded.",
        "MemberOf placement constraint unsatisfied.",
        "something that AWS will say next year",
    ],
)
def test_a_failure_that_may_pass_is_for_now(reason: str) -> None:
    answer = classify_failure(reason, SUBJECT)
    assert isinstance(answer, LaunchDeferred)
    assert f"{SUBJECT}: {reason}" in str(answer)


@pytest.mark.parametrize("reason", ["MISSING", "INACTIVE"])
def test_a_failure_that_names_what_is_not_there_is_for_good(reason: str) -> None:
    assert isinstance(classify_failure(reason, SUBJECT, "arn"), LaunchRejected)


TASK = {"taskArn": "arn:task", "lastStatus": "STOPPED"}


@given(
    code=st.sampled_from([*CODES, "Other", ""]),
    message=st.text(max_size=2000),
    status=st.integers(min_value=200, max_value=599),
)
def test_whatever_aws_says_is_one_answer_in_one_short_line(code: str, message: str, status: int) -> None:
    answer = classify(error(code, message, status), SUBJECT)
    assert isinstance(answer, (LaunchRejected, LaunchDeferred, LaunchUnknown))
    assert str(answer).startswith(SUBJECT)
    assert len(str(answer)) < len(SUBJECT) + 256 + 400
    assert "\n" not in str(answer)
    assert "\x00" not in str(answer)
