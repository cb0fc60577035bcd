"""What ECS says, as the three answers of a platform: one table for its errors, one for its failures, one for stops.

For good, when the same request would be refused again. For now, when ECS has said no and waiting may help: nothing was
started then. Unknown, when nobody can say whether a task was started. In doubt between the first two it is for now, as
a deadline ends that with the same reason; in doubt whether anything was started it is unknown, which is safe with the
same launch key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from chalicelib.errors import (
    LaunchDeferred,
    LaunchError,
    LaunchForbidden,
    LaunchRejected,
    LaunchUnknown,
    SettingsError,
    shorten,
)
from chalicelib.flow_runs import Document

Chosen = Set[Literal["cluster", "definition"]]
"""What a run named itself: that it is refused is then the run's own trouble, and not the agent's."""


class Throttled(LaunchDeferred):
    """Refused for being too fast: the one answer that is worth a second try within the same launch."""


class DefinitionGone(LaunchRejected):
    """The task definition is not there or INACTIVE; one of the agent's own can be registered again."""


class Ruling(NamedTuple):
    """One line of a table: the answer, and what to do about it."""

    answer: type[LaunchError]
    advice: str = ""


_SIGN_IN = Ruling(LaunchForbidden, "check the agent's AWS credentials")
_ALLOW = Ruling(LaunchForbidden, "allow it in the policy of the agent's role")
_NOT_ECS = Ruling(LaunchForbidden, "what answers is not this service: check the region and AWS_ENDPOINT_URL")
_FRESH = Ruling(LaunchDeferred, "the agent's AWS credentials have expired; Lambda renews them")
_TOO_FAST = Ruling(Throttled, "AGENT_LAUNCHES_PER_SECOND may be too high for this account")
_QUOTA = Ruling(LaunchDeferred, "a quota of the AWS account is used up")
_AWAY = Ruling(LaunchUnknown)
_REFUSED = Ruling(LaunchRejected)

CODES: dict[str, Ruling] = {
    # ECS's own
    "AccessDeniedException": _ALLOW,
    "BlockedException": Ruling(LaunchForbidden, "AWS has blocked this account: ask AWS Support"),
    "ClientException": _REFUSED,
    "ClusterNotFoundException": Ruling(LaunchForbidden, "create the cluster, or set AGENT_CLUSTER to one that exists"),
    "ConflictException": Ruling(LaunchUnknown, "the launch key was used with other parameters"),
    "InvalidParameterException": _REFUSED,
    "LimitExceededException": _QUOTA,
    "PlatformTaskDefinitionIncompatibilityException": Ruling(LaunchRejected, "choose another platformVersion"),
    "PlatformUnknownException": Ruling(LaunchRejected, "choose another platformVersion"),
    "ResourceNotFoundException": _REFUSED,
    "SerializationException": _REFUSED,
    "ServerException": _AWAY,
    "ServiceNotFoundException": _REFUSED,
    "UnsupportedFeatureException": Ruling(LaunchRejected, "this region or launch type cannot do what was asked for"),
    # common to AWS's services
    "AccessDenied": _ALLOW,
    "AuthFailure": _SIGN_IN,
    "ExpiredToken": _FRESH,
    "ExpiredTokenException": _FRESH,
    "IncompleteSignature": _SIGN_IN,
    "IncompleteSignatureException": _SIGN_IN,
    "InternalError": _AWAY,
    "InternalFailure": _AWAY,
    "InternalServerError": _AWAY,
    "InternalServerException": _AWAY,
    "InvalidAction": _NOT_ECS,
    "InvalidClientTokenId": _SIGN_IN,
    "InvalidParameterCombination": _REFUSED,
    "InvalidParameterValue": _REFUSED,
    "InvalidQueryParameter": _REFUSED,
    "InvalidSignatureException": _SIGN_IN,
    "MalformedHttpRequestException": _REFUSED,
    "MalformedQueryString": _REFUSED,
    "MissingAction": _NOT_ECS,
    "MissingAuthenticationToken": _SIGN_IN,
    "MissingAuthenticationTokenException": _SIGN_IN,
    "MissingParameter": _REFUSED,
    "NotAuthorized": _ALLOW,
    "OptInRequired": _SIGN_IN,
    "RequestAbortedException": _AWAY,
    "RequestEntityTooLargeException": _REFUSED,
    "RequestExpired": _FRESH,
    "RequestTimeout": _AWAY,
    "RequestTimeoutException": _AWAY,
    "ServiceUnavailable": _AWAY,
    "ServiceUnavailableException": _AWAY,
    "SignatureDoesNotMatch": _SIGN_IN,
    "UnauthorizedOperation": _ALLOW,
    "UnknownOperationException": _NOT_ECS,
    "UnrecognizedClientException": _SIGN_IN,
    "ValidationError": _REFUSED,
    "ValidationException": _REFUSED,
    # too fast, by all its names
    "EC2ThrottledException": _TOO_FAST,
    "RequestLimitExceeded": _TOO_FAST,
    "RequestThrottled": _TOO_FAST,
    "RequestThrottledException": _TOO_FAST,
    "SlowDown": _TOO_FAST,
    "Throttling": _TOO_FAST,
    "ThrottledException": _TOO_FAST,
    "ThrottlingException": _TOO_FAST,
    "TooManyRequestsException": _TOO_FAST,
}
"""The answer to each error code of the operations that are used here."""

MESSAGES: tuple[tuple[str, Ruling], ...] = (
    (r"Rate exceeded|Request limit exceeded|ErrorCode: (Throttling|RequestLimitExceeded)", _TOO_FAST),
    (r"Too many concurrent (attempts|requests)", _TOO_FAST),
    (r"limit on the number of (tasks|vCPUs)|capacity limit exceeded", _QUOTA),
    (r"Capacity is unavailable", Ruling(LaunchDeferred, "subnets in more availability zones help")),
    (r"No Container Instances were found", Ruling(LaunchDeferred, "the cluster has no instances for this launch type")),
    (r"ErrorCode: (InternalError|InternalFailure|ServiceUnavailable|Unavailable)", Ruling(LaunchDeferred)),
    # ECS makes this role at the first launch of an account and may not see it at once.
    (r"assume the service linked role", Ruling(LaunchDeferred, "AWSServiceRoleForECS must exist")),
    (r"Signature (expired|not yet current)", Ruling(LaunchDeferred, "the clock of the agent is wrong")),
    (r"unable to assume the role", Ruling(LaunchRejected, "its trust policy must name ecs-tasks.amazonaws.com")),
    (r"TaskDefinition not found|TaskDefinition is inactive|Unable to describe task definition", Ruling(DefinitionGone)),
)
"""What refusals (4xx) say that their code does not; the first that fits goes before the code."""

EXCEPTIONS: dict[str, Ruling] = {
    "CredentialRetrievalError": Ruling(LaunchDeferred, "the agent's AWS credentials cannot be read now"),
    "InvalidRegionError": Ruling(LaunchForbidden, "set AWS_REGION to a region of AWS"),
    "MetadataRetrievalError": Ruling(LaunchDeferred, "the agent's AWS credentials cannot be read now"),
    "NoCredentialsError": _SIGN_IN,
    "NoRegionError": Ruling(LaunchForbidden, "set AWS_REGION"),
    "ParamValidationError": _REFUSED,
    "PartialCredentialsError": _SIGN_IN,
    "ProfileNotFound": _SIGN_IN,
    "TokenRetrievalError": _SIGN_IN,
    "UnauthorizedSSOTokenError": _SIGN_IN,
    # No connection, so nothing was asked for and nothing started.
    "ConnectTimeoutError": Ruling(LaunchDeferred, "AWS cannot be reached: check the function's subnets and endpoints"),
    "EndpointConnectionError": Ruling(LaunchDeferred, "AWS cannot be reached: check the region and the network"),
    "ProxyConnectionError": Ruling(LaunchDeferred, "the proxy cannot be reached"),
    "BotoCoreError": _AWAY,
}
"""The answer to each error that botocore raises itself; `BotoCoreError` is every other one: time-outs, cuts."""

FAILURES: tuple[tuple[str, Ruling], ...] = (
    (r"RESOURCE(:|$)", Ruling(LaunchDeferred, "the cluster has no room left for it")),
    (r"AGENT$", Ruling(LaunchDeferred, "the container agent of the chosen instance is not connected")),
    (r"Capacity is unavailable", Ruling(LaunchDeferred, "subnets in more availability zones help")),
    (r".*limit", _QUOTA),
    # Another instance may join the cluster.
    (r"ATTRIBUTE|LOCATION|.*placement constraint", Ruling(LaunchDeferred, "no instance of the cluster is fit for it")),
    (r"MISSING|INACTIVE", _REFUSED),
)
"""The answer to each reason of `failures`, matched from its beginning."""

PASSING_STOPS = (
    r"RESOURCE:|Capacity is unavailable|[Rr]ate exceeded|toomanyrequests|Throttling|RequestLimitExceeded|"
    r"[Tt]ime-?out waiting for (network interface|EphemeralStorage)|InternalError|Service ?Unavailable|"
    r"Task provisioning timed out|Insufficient capacity"
)
"""Reasons for which a task never ran that are no fault of the run."""

_INSIDE = re.compile(
    r'(?:Missing required|Unknown) parameter in [^:\n]+: "[^"\n]*"|Invalid \w+ for parameter [\w.\[\]-]+'
)
_PASSED_ROLE = re.compile(r"iam:PassRole on resource: (\S+)")


def classify(error: Exception, subject: str, chosen: Chosen = frozenset()) -> LaunchError:
    """The answer that an error of botocore's is; `subject` says what was asked of which object.

    `chosen` is what the run named itself. At most 256 characters of the message are AWS's.
    """
    response: Any = getattr(error, "response", None)
    if not isinstance(response, dict):
        return _classify_exception(error, subject)
    code, text = (str(response.get("Error", {}).get(name) or "") for name in ("Code", "Message"))
    ruling = _rule(code, text, response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    role = _PASSED_ROLE.search(text)
    if role:
        advice = f"add the role {role[1]} to those that the agent may pass (iam:PassRole), or choose another"
        ruling = Ruling(LaunchRejected, advice)
    elif _is_the_runs_own(code, chosen):
        ruling = Ruling(LaunchRejected, "the flow run names what it may not use")
    return _say(ruling, subject, f"{code}: {shorten(text)}")


def _rule(code: str, text: str, status: int) -> Ruling:
    if status < 500:
        for pattern, ruling in MESSAGES:
            if re.search(pattern, text):
                return ruling
    # Without a code it was not the service that spoke but something before it, such as a proxy.
    has_code = bool(code) and not code.isdigit()
    return CODES.get(code) or _rule_by_status(status if has_code or status == 429 else 500)


def _rule_by_status(status: int) -> Ruling:
    """The answer to a code that nobody has heard of.

    4xx is a decision of AWS's that the same request will meet again; 5xx, and what is no error at all, says nothing of
    what was done before it went wrong.
    """
    if status == 429:
        return _TOO_FAST
    return _REFUSED if 400 <= status < 500 and status != 408 else _AWAY


def _is_the_runs_own(code: str, chosen: Chosen) -> bool:
    if code == "ClusterNotFoundException":
        return "cluster" in chosen
    return bool(chosen) and code == "AccessDeniedException"


def _classify_exception(error: Exception, subject: str) -> LaunchError:
    names = [kind.__name__ for kind in type(error).__mro__]
    ruling = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), _AWAY)
    text = str(error)
    if names[0] == "ParamValidationError":
        # botocore quotes the values, and those may be secrets.
        text = "; ".join(_INSIDE.findall(text)) or "a parameter is malformed"
    return _say(ruling, subject, f"{names[0]}: {shorten(text)}")


def _say(ruling: Ruling, subject: str, text: str) -> LaunchError:
    return ruling.answer(f"{subject}: {text}" + (f" ({ruling.advice})" if ruling.advice else ""))


def classify_failure(reason: str, subject: str, detail: str = "") -> LaunchError:
    """The answer that an entry of `failures` is: it comes with HTTP 200, and nothing was started.

    A reason that nobody has heard of is for now.
    """
    ruling = next((ruling for pattern, ruling in FAILURES if re.match(pattern, reason)), Ruling(LaunchDeferred))
    return _say(ruling, subject, shorten(f"{reason}: {detail}" if detail else reason))


def ended_well(task: Document) -> bool:
    """Whether all containers of a stopped task ran, and none of them failed."""
    exit_codes = [container.get("exitCode") for container in task.get("containers", ())]
    return bool(exit_codes) and all(code == 0 for code in exit_codes)


def classify_stop(task: Document) -> LaunchError:
    """The answer that a task is which stopped: for now when it never ran, for a reason that passes; else for good."""
    text = describe_stop(task)
    never_ran = task.get("startedAt") is None and not any("exitCode" in each for each in task.get("containers", ()))
    if never_ran and (re.search(PASSING_STOPS, text) or task.get("stopCode") == "SpotInterruption"):
        return LaunchDeferred(text)
    return LaunchRejected(text)


def describe_stop(task: Document) -> str:
    """Why a task stopped, in one line: its stop code, its reason, and how each container ended."""
    parts = [str(task.get("stopCode") or "no stop code"), shorten(str(task.get("stoppedReason") or "no reason given"))]
    for container in task.get("containers", ()):
        exit_code, reason = container.get("exitCode"), container.get("reason")
        ended = [f"exit code {exit_code}"] if exit_code is not None else []
        ended += [shorten(str(reason), 120)] if reason else []
        if ended:
            parts.append(f"container {container.get('name')}: {', '.join(ended)}")
    return f"Task {task['taskArn']} has stopped: " + "; ".join(parts)


@contextmanager
def answers(subject: str, chosen: Chosen = frozenset()) -> Iterator[None]:
    """Inside, whatever an AWS client raises becomes a LaunchError."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        raise classify(error, subject, chosen) from error
    except SettingsError as error:
        raise LaunchForbidden(str(error)) from error


@contextmanager
def answers_to_a_question(subject: str) -> Iterator[None]:
    """The same around what starts no task: an answer that is not known is then only one that has to wait."""
    try:
        with answers(subject):
            yield
    except LaunchUnknown as error:
        raise LaunchDeferred(str(error)) from error
