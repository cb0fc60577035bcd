"""What a Kubernetes API says, as the three answers of a platform (pure): tables of reasons, texts and errors by name.

For good, when the same Job would be refused again. For now, when the API has said no, or nothing was sent, and waiting
may help. Unknown, when nobody can say whether the Job was made: its name makes another try harmless.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchError, LaunchForbidden, LaunchRejected, LaunchUnknown, shorten
from chalicelib.launchers.pacing import Throttled
from chalicelib.launchers.rulings import Ruling, by_name, by_text


class AlreadyThere(LaunchUnknown):
    """The name is taken: a Job was made with this launch key, and has to be looked at."""


class JobGone(LaunchRejected):
    """There is no such Job (any more)."""


class NamespaceForbidden(LaunchForbidden):
    """There is no such namespace, or the agent has no Role in it; any other may be in order."""


_REFUSED = Ruling(LaunchRejected)
_AWAY = Ruling(LaunchUnknown)
_TOO_FAST = Ruling(Throttled, "AGENT_LAUNCHES_PER_SECOND may be too high for this cluster")
_NO_KUBERNETES = Ruling(LaunchForbidden, "what answers is no Kubernetes API that makes Jobs: check its address")
_NAMESPACE = Ruling(NamespaceForbidden, "create the namespace, or name one that exists (AGENT_KUBERNETES_NAMESPACE)")
_SIGN_IN = Ruling(LaunchForbidden, "map the agent's role in the cluster (EKS access entry), or sign in anew")

_REASONS = {
    _SIGN_IN: "Unauthorized",
    _NO_KUBERNETES: "NotFound MethodNotAllowed NotAcceptable UnsupportedMediaType",
    _REFUSED: "Forbidden Invalid BadRequest RequestEntityTooLarge",
    Ruling(LaunchDeferred, "the list changed faster than it could be read"): "Gone Expired",
    # A Job in the making can only be in conflict with the count of a quota, and nothing was stored then.
    _TOO_FAST: "TooManyRequests Conflict",
    Ruling(AlreadyThere): "AlreadyExists",
    _AWAY: "ServerTimeout StoreReadError Timeout InternalError ServiceUnavailable",
}
REASONS = by_name(_REASONS)
"""The answer to each StatusReason of https://pkg.go.dev/k8s.io/apimachinery/pkg/apis/meta/v1#StatusReason that is one.

Where the reason is Unknown, empty or new, the status code decides.
"""

TEXTS: tuple[tuple[str, Ruling], ...] = (
    (r"exceeded quota: ", Ruling(LaunchDeferred, "the namespace's quota is used up")),
    (r"is being terminated", _NAMESPACE),
    (r'^namespaces "[^"]*" not found', _NAMESPACE),
    (r'^jobs\.batch "[^"]*" not found', Ruling(JobGone)),
    (r'User "[^"]*" cannot \w+ resource', Ruling(NamespaceForbidden, "allow it in the agent's Role in that namespace")),
    # Webhooks are asked before anything is stored, and their answers may carry any reason.
    (r"^admission webhook .* denied the request", _REFUSED),
    (r"failed calling webhook", Ruling(LaunchDeferred, "an admission webhook of the cluster does not answer")),
    (r"^etcdserver: request is too large", _REFUSED),
)
"""The answer to what refusals say, which goes before their reason; the first that fits."""

_EXCEPTIONS = {
    Ruling(LaunchForbidden, "its CA is another: check address and CA"): "SSLCertVerificationError",
    # No connection, so nothing was asked for and nothing made.
    Ruling(LaunchDeferred, "it cannot be reached: check address, subnets, security groups"): """
        ConnectError ConnectTimeout PoolTimeout ProxyError""",
    _NO_KUBERNETES: "UnsupportedProtocol InvalidURL",
    # Raised before a request is sent, by what makes its token: a plug-in of a kubeconfig, or a file of the pod's.
    Ruling(LaunchForbidden, "check the sign-in of the kubeconfig"): "ConfigError FileNotFoundError PermissionError",
}
EXCEPTIONS = by_name(_EXCEPTIONS)
"""The answer to errors of lightkube and its HTTP client; every other one, such as time-outs and cuts, is unknown."""


def classify(code: int, body: Any, headers: Mapping[str, str], subject: str) -> LaunchError:
    """The answer that a response is which is no success; `subject` says what was asked of which object.

    `body` is its JSON, a metav1.Status if Kubernetes itself has spoken, or its text. At most 256 characters are the
    API's, which name the fields that are wrong.
    """
    status = body if isinstance(body, Mapping) and body.get("kind") == "Status" else {}
    reason = str(status.get("reason") or "")
    text = str(status.get("message") or (body if isinstance(body, str) else "") or "no reason given")
    ruling = _rule(code, reason, text, bool(status))
    answer = ruling.say(subject, f"{f'{code} {reason}'.strip()}: {shorten(text)}")
    if isinstance(answer, Throttled):
        answer.retry_after_seconds = _retry_after_seconds(status, headers)
    return answer


def _rule(code: int, reason: str, text: str, is_kubernetes: bool) -> Ruling:
    if code == 429:
        # Fair queueing answers in plain text.
        return _TOO_FAST
    if not is_kubernetes:
        # Something before the API spoke, such as a proxy: who knows what it has let through.
        return _AWAY
    if ruling := by_text(TEXTS, text) or REASONS.get(reason):
        return ruling
    # An unheard-of 4xx is a decision that the same Job will meet again.
    return _REFUSED if 400 <= code < 500 and code != 408 else _AWAY


def _retry_after_seconds(status: Mapping[str, Any], headers: Mapping[str, str]) -> float:
    found = (status.get("details") or {}).get("retryAfterSeconds") or headers.get("retry-after") or "0"
    return float(found) if re.fullmatch(r"\d{1,6}", str(found)) else 0.0


def classify_exception(error: Exception, subject: str) -> LaunchError:
    """The answer that an error is which the client raised without a response."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    verification = next((each for each in chain if isinstance(each, ssl.SSLCertVerificationError)), None)
    shown = verification or error
    names = [kind.__name__ for kind in type(shown).__mro__]
    ruling = next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), _AWAY)
    return ruling.say(subject, f"{names[0]}: {shorten(str(shown) or 'no answer')}")
