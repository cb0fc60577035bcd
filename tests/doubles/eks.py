"""A double of EKS: it describes clusters over real HTTP, and knows the tokens that its authenticator would take."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.doubles.connections import HttpServer
from tests.doubles.kubernetes import KubernetesServer, SystemClock
from tests.doubles.kubernetes.store import Clock

TOKEN_LIFE = timedelta(minutes=15)


class EksServer:
    """Serves DescribeCluster of `name`, whose API is `kubernetes`, at `url`; a context manager.

    It takes tokens signed with `access_key` and `secret_key`. `descriptions` has what each cluster is described as;
    `refusal` is a code and text that DescribeCluster answers with instead; `refuses_signers` maps nobody.
    """

    def __init__(
        self,
        kubernetes: KubernetesServer,
        name: str = "flows",
        region: str = "us-east-1",
        access_key: str = "testing",
        secret_key: str = "testing",
        clock: Clock | None = None,
    ) -> None:
        self.region, self.clock = region, clock or SystemClock()
        self.credentials = Credentials(access_key, secret_key)
        authority = base64.b64encode(kubernetes.ca_pem.encode()).decode()
        described = {"name": name, "status": "ACTIVE", "endpoint": kubernetes.url}
        self.descriptions: dict[str, Any] = {name: {**described, "certificateAuthority": {"data": authority}}}
        self.refusal: tuple[int, str, str] | None = None
        self.refuses_signers = False
        self.calls: list[str] = []
        self.tokens: list[str] = []
        self._expired: set[str] = set()
        kubernetes.accept_tokens(self.takes)
        self._http = HttpServer(type("Exchange", (_Exchange,), {"eks": self}))
        self.url = self._http.url

    def __enter__(self) -> EksServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.stop()

    def describe(self, path: str) -> tuple[int, dict[str, Any], str]:
        """Status, body and error type of a GET."""
        self.calls.append(path)
        name = path.removeprefix("/clusters/")
        if self.refusal:
            code, kind, text = self.refusal
            return code, {"message": text}, kind
        if name not in self.descriptions:
            return 404, {"message": f"No cluster found for name: {name}."}, "ResourceNotFoundException"
        return 200, {"cluster": self.descriptions[name]}, ""

    def expire_tokens(self) -> None:
        """Take none of the tokens any more that were shown so far; the next second's are others."""
        self._expired.update(self.tokens)

    def takes(self, token: str) -> bool:
        """Whether a token is signed by whom it says, for one of the clusters, at most 15 minutes ago."""
        if token not in self.tokens:
            self.tokens.append(token)
        if self.refuses_signers or token in self._expired or not token.startswith("k8s-aws-v1."):
            return False
        text = token.removeprefix("k8s-aws-v1.")
        url = urlsplit(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        is_meant = url.netloc == f"sts.{self.region}.amazonaws.com" and query["Action"] == "GetCallerIdentity"
        names = set(query["X-Amz-SignedHeaders"].split(";"))
        is_fresh = abs(self.clock.now() - signed_at) < TOKEN_LIFE
        signatures = {self._sign(query, name) for name in self.descriptions}
        return is_meant and is_fresh and names == {"host", "x-k8s-aws-id"} and query["X-Amz-Signature"] in signatures

    def _sign(self, query: dict[str, str], cluster: str) -> str:
        """The signature that STS would find, were the cluster's name sent to it as EKS does."""
        auth = SigV4QueryAuth(self.credentials, "sts", self.region)
        unsigned = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
        host = f"sts.{self.region}.amazonaws.com"
        request = AWSRequest("GET", f"https://{host}/", {"x-k8s-aws-id": cluster}, params=unsigned)
        request.context["timestamp"] = query["X-Amz-Date"]
        return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    eks: EksServer

    def do_GET(self) -> None:
        status, body, kind = self.eks.describe(urlsplit(self.path).path)
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        if kind:
            self.send_header("x-amzn-errortype", kind)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing; calls are recorded instead."""
