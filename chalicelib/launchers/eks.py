"""Signed in to an EKS cluster with the AWS credentials of this process."""

from __future__ import annotations

import base64
import ssl
import threading
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchForbidden, LaunchRejected
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws import CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, AwsClients
from chalicelib.ports import Clock

TOKEN_SECONDS = 10 * 60.0
"""After which a token is made anew. EKS takes one for 15 minutes: https://github.com/kubernetes-sigs/aws-iam-authenticator."""

_SIGNATURE_SECONDS = 60
_TOKEN_PREFIX = "k8s-aws-v1."  # noqa: S105 - how every token begins


class EksSignIn:
    """The way to one EKS cluster, which is described once a process."""

    def __init__(self, cluster: str, clients: AwsClients, clock: Clock) -> None:
        self._cluster = cluster
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._made_at: datetime | None = None

    @property
    def cluster(self) -> str:
        """Its name."""
        return self._cluster

    def connect(self) -> Any:
        """An httpx client that trusts the cluster's CA alone.

        Raises SettingsError without a region or credentials, LaunchForbidden when there is no such cluster or the agent
        may not see it, LaunchDeferred when AWS cannot say now.
        """
        import httpx2

        described = self._describe()
        authority = base64.b64decode(described["certificateAuthority"]["data"]).decode()

        class Auth(httpx2.Auth):
            """Sends a token, and once more a new one if that is refused."""

            def auth_flow(auth, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:  # noqa: N805
                request.headers["Authorization"] = f"Bearer {self._valid_token()}"
                response = yield request
                if response.status_code == 401:
                    request.headers["Authorization"] = f"Bearer {self._valid_token(response.request)}"
                    yield request

        return httpx2.Client(
            base_url=described["endpoint"],
            verify=ssl.create_default_context(cadata=authority),
            auth=Auth(),
            timeout=httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS),
        )
