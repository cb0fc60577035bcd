"""What AWS says, as the three answers of a platform: tables of errors by name and text.

For good, when the same request would be refused again. For now, when AWS has said no and waiting may help: nothing was
started then. Unknown, when nobody can say whether a task was started. In doubt between the first two it is for now, as
a deadline ends that with the same reason; in doubt whether anything was started it is unknown, which is safe with the
same launch key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown, shorten
from chalicelib.launchers.pacing import Throttled
from chalicelib.launchers.rulings import Ruling, by_name, by_text


class DefinitionGone(LaunchRejected):
    """The task definition is not there or INACTIVE; one of the agent's own can be registered again."""


_SIGN_IN = Ruling(LaunchForbidden, "check the agent's AWS credentials")
_TOO_FAST = Ruling(Throttled, "AGENT_LAUNCHES_PER_SECOND may be too high for this account")
_QUOTA = Ruling(LaunchDeferred, "a quota of the AWS account is used up")
_AWAY = Ruling(LaunchUnknown)
_REFUSED = Ruling(LaunchRejected)

_CODES = {
    Ruling(LaunchForbidden, "allow it in the policy of the agent's role"): """
        AccessDenied AccessDeniedException NotAuthorized UnauthorizedOperation""",
    Ruling(LaunchForbidden, "AWS has blocked this account: ask AWS Support"): "BlockedException",
    Ruling(LaunchForbidden, "create the cluster, or name one that exists (AGENT_CLUSTER)"): "ClusterNotFoundException",
    Ruling(LaunchForbidden, "what answers is not this service: check the region and AWS_ENDPOINT_URL"): """
        InvalidAction MissingAction UnknownOperationException""",
    _SIGN_IN: """
        AuthFailure IncompleteSignature IncompleteSignatureException InvalidAccessKeyId InvalidClientTokenId
        InvalidSignatureException MissingAuthenticationToken MissingAuthenticationTokenException OptInRequired
        SignatureDoesNotMatch UnrecognizedClientException""",
    Ruling(LaunchRejected, "choose another platformVersion"): """
        PlatformTaskDefinitionIncompatibilityException PlatformUnknownException""",
    Ruling(LaunchRejected, "this region or launch type cannot do what was asked for"): "UnsupportedFeatureException",
    _REFUSED: """
        ClientException InvalidParameterCombination InvalidParameterException InvalidParameterValue
        InvalidQueryParameter MalformedHttpRequestException MalformedQueryString MissingParameter
        RequestEntityTooLargeException ResourceNotFoundException SerializationException ServiceNotFoundException
        ValidationError ValidationException""",
    Ruling(LaunchDeferred, "the agent's AWS credentials have expired; Lambda renews them"): """
        ExpiredToken ExpiredTokenException RequestExpired""",
    _QUOTA: "LimitExceededException",
    _TOO_FAST: """
        EC2ThrottledException RequestLimitExceeded RequestThrottled RequestThrottledException SlowDown Throttling
        ThrottledException ThrottlingException TooManyRequestsException""",
    Ruling(LaunchUnknown, "the launch key was used with other parameters"): "ConflictException",
    _AWAY: """
        InternalError InternalFailure InternalServerException RequestAbortedException RequestTimeout
        RequestTimeoutException ServerException ServiceUnavailable ServiceUnavailableException""",
}
CODES = by_name(_CODES)
"""The answer to each error code of the operations that are used here."""

_EXCEPTIONS = {
    Ruling(LaunchForbidden, "set AWS_REGION to a region of AWS"): "InvalidRegionError NoRegionError",
    _SIGN_IN: """
        NoCredentialsError PartialCredentialsError ProfileNotFound TokenRetrievalError UnauthorizedSSOTokenError""",
    _REFUSED: "ParamValidationError",
    Ruling(LaunchDeferred, "the agent's AWS credentials cannot be read now"): """
        CredentialRetrievalError MetadataRetrievalError""",
    # No connection, so nothing was asked for and nothing started.
    Ruling(LaunchDeferred, "AWS cannot be reached: check the region, the function's subnets, endpoints and proxy"): """
        ConnectTimeoutError EndpointConnectionError ProxyConnectionError""",
}
EXCEPTIONS = by_name(_EXCEPTIONS)
"""The answer to errors that botocore raises itself; every other one, such as time-outs and cuts, is unknown."""

TEXTS: tuple[tuple[str, Ruling], ...] = (
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
    # Reasons of `failures`
    (r"^RESOURCE(:|$)", Ruling(LaunchDeferred, "the cluster has no room left for it")),
    (r"^AGENT$", Ruling(LaunchDeferred, "the container agent of the chosen instance is not connected")),
    # Another instance may join the cluster.
    (
        r"^(ATTRIBUTE|LOCATION)|constraint unsatisfied",
        Ruling(LaunchDeferred, "no instance of the cluster is fit for it"),
    ),
    (r"^(MISSING|INACTIVE)", _REFUSED),
)
"""The answer to what refusals say, which goes before their code, and to reasons of `failures`; the first that fits."""

_INSIDE = r'(?:Missing required|Unknown) parameter in [^:\n]+: "[^"\n]*"|Invalid \w+ for parameter [\w.\[\]-]+'


@contextmanager
def answers(
    subject: str, in_doubt: type[LaunchError] = LaunchDeferred, runs_own: Set[str] = frozenset()
) -> Iterator[None]:
    """Inside, whatever an AWS client raises becomes a LaunchError, as `classify` says; `in_doubt` where it is unknown.

    That is LaunchUnknown around what may have started a task: anything else can just be asked again.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        answer = classify(error, subject, runs_own)
        raise (in_doubt(str(answer)) if isinstance(answer, LaunchUnknown) else answer) from error
    except KeyError as error:
        raise in_doubt(f"{subject}: what answered is not AWS, as it gave no {error}") from error


def classify(error: Exception, subject: str, runs_own: Set[str] = frozenset()) -> LaunchError:
    """The answer that an error of botocore's is; `subject` says what was asked of which object.

    `runs_own` are codes that are here the flow run's own trouble, and not the agent's. At most 256 characters of the
    message are AWS's.
    """
    code, text, ruling = _read(error)
    if role := re.search(r"iam:PassRole on resource: (\S+)", text):
        advice = f"add the role {role[1]} to those that the agent may pass (iam:PassRole), or choose another"
        ruling = Ruling(LaunchRejected, advice)
    elif code in runs_own:
        ruling = Ruling(LaunchRejected, ruling.advice)
    return ruling.say(subject, f"{code}: {shorten(text)}")


def _read(error: Exception) -> tuple[str, str, Ruling]:
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        code, text = (str(response.get("Error", {}).get(name) or "") for name in ("Code", "Message"))
        return code, text, _rule(code, text, response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
    names, text = [kind.__name__ for kind in type(error).__mro__], str(error)
    if names[0] == "ParamValidationError":
        # botocore quotes the values, and those may be secrets.
        text = "; ".join(re.findall(_INSIDE, text)) or "a parameter is malformed"
    return names[0], text, next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), _AWAY)


def _rule(code: str, text: str, status: int) -> Ruling:
    found = by_text(TEXTS, text) if status < 500 else None
    if ruling := found or CODES.get(code):
        return ruling
    if status == 429:
        return _TOO_FAST
    # An unknown 4xx is a decision that the same request will meet again. 5xx says nothing of what was done before it
    # went wrong, and without a code it was not the service that spoke but something before it, such as a proxy.
    has_decided = code and not code.isdigit() and 400 <= status < 500 and status != 408
    return _REFUSED if has_decided else _AWAY


def classify_failure(reason: str, subject: str, detail: str = "") -> LaunchError:
    """The answer that an entry of `failures` is: it comes with HTTP 200, and nothing was started.

    A reason that nobody has heard of is for now.
    """
    ruling = by_text(TEXTS, reason) or Ruling(LaunchDeferred)
    return ruling.say(subject, shorten(f"{reason}: {detail}" if detail else reason))
