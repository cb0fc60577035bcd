"""A double of what AWS says about rights: IAM's roles and simulations, STS, service quotas; all else is denied."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, quote

from tests.doubles.connections import HttpServer

ACCOUNT = "123456789012"
TASKS = "ecs-tasks.amazonaws.com"


class RightsServer:
    """Answers at `url` for services of AWS that are pointed at it; a context manager.

    `roles` has the service that may assume each role, by ARN; `passable` the roles that may be passed to tasks, as
    (whose policies, role). `caller` is who asks, `vcpus` the quota. Actions in `denied`, and all that it does not know,
    are refused for want of rights. `simulations` are the parameters of SimulatePrincipalPolicy.
    """

    def __init__(self) -> None:
        self.caller = f"arn:aws:iam::{ACCOUNT}:user/ann"
        self.roles: dict[str, str] = {}
        self.passable: set[tuple[str, str]] = set()
        self.vcpus = 4000.0
        self.denied: set[str] = set()
        self.simulations: list[dict[str, str]] = []
        self._http = HttpServer(type("Exchange", (_Exchange,), {"rights": self}))
        self.url = self._http.url

    def __enter__(self) -> RightsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.stop()

    def answer(self, action: str, given: dict[str, str]) -> tuple[int, str | dict[str, Any]]:
        """Status and the inside of the result, or an error's code."""
        if action in self.denied:
            return 403, "AccessDenied"
        match action:
            case "GetCallerIdentity":
                return 200, f"<Arn>{self.caller}</Arn><UserId>A</UserId><Account>{ACCOUNT}</Account>"
            case "GetRole":
                return self._get_role(given["RoleName"])
            case "SimulatePrincipalPolicy":
                return 200, self._simulate(given)
            case "GetServiceQuota":
                return 200, {"Quota": {"Value": self.vcpus}}
        return 403, "AccessDenied"

    def _get_role(self, name: str) -> tuple[int, str]:
        arn = next((arn for arn in self.roles if arn.endswith(f"/{name}")), None)
        if arn is None:
            return 404, "NoSuchEntity"
        policy = {"Statement": [{"Principal": {"Service": self.roles[arn]}, "Action": "sts:AssumeRole"}]}
        times = "<CreateDate>2026-01-01T00:00:00Z</CreateDate>"
        document = f"<AssumeRolePolicyDocument>{quote(json.dumps(policy))}</AssumeRolePolicyDocument>"
        return 200, f"<Role><Path>/</Path><RoleName>{name}</RoleName><Arn>{arn}</Arn>{times}{document}</Role>"

    def _simulate(self, given: dict[str, str]) -> str:
        self.simulations.append(given)
        pair = (given["PolicySourceArn"], given["ResourceArns.member.1"])
        decision = "allowed" if pair in self.passable else "implicitDeny"
        member = f"<EvalActionName>iam:PassRole</EvalActionName><EvalDecision>{decision}</EvalDecision>"
        return f"<EvaluationResults><member>{member}</member></EvaluationResults>"


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    rights: RightsServer

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        target = self.headers.get("x-amz-target", "")
        given = {} if target else dict(parse_qsl(text))
        action = target.rpartition(".")[2] or given["Action"]
        status, body = self.rights.answer(action, given)
        if target:
            content = json.dumps(body if status == 200 else {"__type": body, "message": "not for you"})
        elif status == 200:
            content = f"<{action}Response><{action}Result>{body}</{action}Result></{action}Response>"
        else:
            # EC2 wraps its errors once more than others.
            wrap = ("<Response><Errors>{}</Errors></Response>", "<ErrorResponse>{}</ErrorResponse>")
            error = f"<Error><Code>{body}</Code><Message>not for you</Message></Error>"
            content = wrap[given.get("Version") != "2016-11-15"].format(error)
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1" if target else "text/xml")
        self.send_header("content-length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""
