"""The way to a Kubernetes API: signed in by a kubeconfig or as a pod of the cluster; `eks` has the way from AWS."""

from __future__ import annotations

import ssl
import threading
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from chalicelib.errors import AgentError, LaunchDeferred, LaunchForbidden, LaunchUnknown, SettingsError, shorten
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws import CONNECT_TIMEOUT_SECONDS, MAX_CONNECTIONS, READ_TIMEOUT_SECONDS
from chalicelib.launchers.kubernetes_answers import classify, classify_exception

POD_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where every pod finds the token of its service account, and the cluster's CA."""


class SignIn(Protocol):
    """Where a cluster is, and who asks."""

    @property
    def cluster(self) -> str:
        """What tells this cluster from others, the same for as long as it is this one."""

    def connect(self) -> Any:
        """An httpx client whose base URL is the API, which it believes by the cluster's CA alone. Raises AgentError."""


class KubernetesApi:
    """The API of one cluster, connected to when it is first needed: the import alone takes 50 to 90 ms."""

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in
        self._lock = threading.Lock()
        self._client: Any = None
        self._has_worked = False

    @property
    def cluster(self) -> str:
        """What tells this cluster from others."""
        return self._sign_in.cluster

    def connect(self) -> Any:
        """The client, made once. Raises SettingsError, LaunchForbidden when the CA is none, or another LaunchError."""
        with self._lock:
            try:
                self._client = self._client or self._sign_in.connect()
            except (ssl.SSLError, ValueError) as error:
                kind = type(error).__name__
                raise LaunchForbidden(f"The CA of cluster {self.cluster} is no certificate in PEM ({kind})") from None
            return self._client

    def close(self) -> None:
        """End all connections; they are made anew when they are needed."""
        with self._lock:
            if self._client:
                self._client.close()
            self._client = None

    def ask(self, method: str, path: str, subject: str, **request: Any) -> Document:
        """The object that the API answers with; `request` as httpx takes it, `subject` says what is asked of what.

        This is below lightkube's own calls, which would read and write a Job by their models of one Kubernetes version.
        Raises LaunchError: LaunchUnknown when nobody knows whether it was done.
        """
        try:
            response = self.connect().request(method, path, **request)
        except AgentError:
            raise
        except Exception as error:
            # A plug-in that signs in may raise anything.
            raise classify_exception(error, subject) from error
        try:
            body = response.json()
        except ValueError:
            body = response.text
        if response.status_code == 401 and self._has_worked:
            raise LaunchDeferred(f"{subject}: 401, by a cluster that has known this agent: its sign-in is in trouble")
        if not response.is_success:
            raise classify(response.status_code, body, response.headers, subject)
        if not isinstance(body, dict) or "kind" not in body:
            raise LaunchUnknown(f"{subject}: what answered is not Kubernetes")
        self._has_worked = True
        return body


class KubeconfigSignIn:
    """As the operator's own kubeconfig says, plug-ins included; else as the pod's service account.

    `path` is None for what the environment has: the pod's account, $KUBECONFIG, ~/.kube/config; `context` is None for
    the current one. Nothing that a flow run says is ever read as a kubeconfig.
    """

    def __init__(self, path: str | None = None, context: str | None = None, account: str = POD_ACCOUNT) -> None:
        self._path = path
        self._context = context
        self._account = account

    @property
    def cluster(self) -> str:
        """The host of the API; within a cluster, where that is the same everywhere, a hash of the cluster's CA."""
        if self._config.fname is not None:
            return str(urlsplit(self._config.cluster.server).netloc)
        authority = Path(self._config.cluster.certificate_auth).read_bytes()
        return f"in-cluster-{sha256(authority).hexdigest()[:8]}"

    def connect(self) -> Any:
        """An httpx client. Raises SettingsError when the kubeconfig cannot be used."""
        import httpx2
        from lightkube.config.client_adapter import ConnectionParams

        timeout = httpx2.Timeout(READ_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        limits = httpx2.Limits(max_keepalive_connections=MAX_CONNECTIONS)
        return httpx2.Client(limits=limits, **ConnectionParams(timeout=timeout).httpx_params(self._config))

    @cached_property
    def _config(self) -> Any:
        from lightkube.config.kubeconfig import KubeConfig
        from lightkube.core.exceptions import ConfigError

        try:
            found = KubeConfig.from_file(self._path) if self._path else KubeConfig.from_env(self._account)
            config = found.get(self._context)
        except ConfigError as error:
            raise _unusable(shorten(str(error))) from error
        except Exception as error:
            # What the parsers say may quote the file.
            raise _unusable(
                f"it is no kubeconfig, or its context names what it does not have: {type(error).__name__}"
            ) from None
        if config is None or config.user is None:
            raise _unusable("its context names no user")
        if config.cluster.insecure:
            raise _unusable("insecure-skip-tls-verify is set: give certificate-authority-data instead")
        return config


def _unusable(why: str) -> SettingsError:
    return SettingsError(
        [f"No Kubernetes cluster can be signed in to: {why} (AGENT_EKS_CLUSTER, AGENT_KUBECONFIG, --kubeconfig)"]
    )
