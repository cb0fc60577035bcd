"""Signed in to an EKS cluster with the AWS credentials of this process."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws import CONNECT_TIMEOUT_SECONDS, MAX_CONNECTIONS, READ_TIMEOUT_SECONDS, AwsClients
from chalicelib.launchers.aws_answers import answers
from chalicelib.ports import Clock

TOKEN_SECONDS = 10 * 60.0
"""After which a token is made anew. EKS takes one for 15 minutes: https://github.com/kubernetes-sigs/aws-iam-authenticator."""

_SIGNATURE_SECONDS = 60
_TOKEN_PREFIX = "k8s-aws-v1."  # noqa: S105 - how every token begins


class EksSignIn:
    """The way to one EKS cluster, which is described once a process."""

    def __init__(self, cluster: str, clients: AwsClients, clock: Clock) -> None:
        self.cluster = cluster
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._made_at = datetime.min.replace(tzinfo=UTC)

    def connect(self) -> Any:
        """An httpx client that trusts the cluster's CA alone.

        Raises SettingsError without a region or credentials, LaunchForbidden when there is no such cluster or the agent
        may not see it, LaunchDeferred when AWS cannot say now.
        """
        import httpx2

        described = self._describe()
        authority = base64.b64decode(described["certificateAuthority"]["data"]).decode()
        send = self._send

        class Auth(httpx2.Auth):
            def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
                return send(request)

        return httpx2.Client(
            base_url=described["endpoint"],
            verify=ssl.create_default_context(cadata=authority),
            auth=Auth(),
            timeout=httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
            limits=httpx2.Limits(max_keepalive_connections=MAX_CONNECTIONS),
        )

    def _describe(self) -> Document:
        subject = f"DescribeCluster of {self.cluster}"
        try:
            with answers(subject):
                described: Document = self._clients.eks().describe_cluster(name=self.cluster)["cluster"]
        except LaunchRejected as error:
            # It is the same for every run, whatever AWS calls it.
            raise LaunchForbidden(f"{error} (AGENT_EKS_CLUSTER must name a cluster of this region)") from error
        if not described.get("endpoint"):
            raise LaunchDeferred(f"{subject}: it has no endpoint yet, its status is {described.get('status')}")
        return described

    def _send(self, request: Any) -> Generator[Any, Any, None]:
        """Send a request with a token, and again with a new one if that is refused."""
        token = self._valid_token()
        request.headers["Authorization"] = f"Bearer {token}"
        if (yield request).status_code == 401:
            request.headers["Authorization"] = f"Bearer {self._valid_token(refused=token)}"
            yield request

    def _valid_token(self, refused: str | None = None) -> str:
        """The token in use; a new one when that is old, or is the one that was refused."""
        with self._lock:
            now = self._clock.now()
            if self._token == refused or now - self._made_at > timedelta(seconds=TOKEN_SECONDS):
                with answers(f"The sign-in to EKS cluster {self.cluster}"):
                    self._token, self._made_at = self._make_token(), now
            return self._token

    def _make_token(self) -> str:
        """A signed request that asks STS who has signed it; EKS sends it to STS."""
        from botocore.auth import SigV4QueryAuth
        from botocore.awsrequest import AWSRequest

        region = self._clients.eks().meta.region_name
        host = f"sts.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"
        question = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
        request: Any = AWSRequest("GET", f"https://{host}/", {"x-k8s-aws-id": self.cluster}, params=question)
        SigV4QueryAuth(self._clients.credentials, "sts", region, _SIGNATURE_SECONDS).add_auth(request)
        return _TOKEN_PREFIX + base64.urlsafe_b64encode(request.url.encode()).decode().rstrip("=")
