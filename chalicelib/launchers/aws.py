"""AWS's clients, made when one is first needed: importing botocore alone costs an idle tick more than all its work."""

from __future__ import annotations

import os
import threading
from typing import Any

from chalicelib.errors import SettingsError

CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 10
MAX_CONNECTIONS = 16
"""As many as there are launches under way at once."""


class AwsClients:
    """One client of each service, shared by all threads, for the region that the environment names.

    A client is botocore's own: boto3 would add 30 ms to a cold start and nothing that is used here. Every method raises
    SettingsError when no region is known.
    """

    def __init__(self, region: str | None = None) -> None:
        self._region = region
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, int], Any] = {}

    def ecs(self) -> Any:
        """ECS, for calls that may be repeated freely."""
        return self._client("ecs")

    def ecs_once(self) -> Any:
        """ECS, for RunTask: one request a call.

        The client token would make a repetition harmless, but botocore shows only how its last try ended: a time-out
        followed by `Rate exceeded` would look as if nothing had been started.
        """
        return self._client("ecs", attempts=1)

    def ec2(self) -> Any:
        """EC2, for the default VPC."""
        return self._client("ec2")

    def s3(self) -> Any:
        """S3, for templates."""
        return self._client("s3")

    def sqs(self) -> Any:
        """SQS, for wake-ups."""
        return self._client("sqs")

    def secretsmanager(self) -> Any:
        """Secrets Manager, for the agent's own secret."""
        return self._client("secretsmanager")

    def ssm(self) -> Any:
        """Systems Manager, for a secret in its Parameter Store."""
        return self._client("ssm")

    def close(self) -> None:
        """End all connections; a client that is asked for later is a new one."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, service: str, attempts: int = 2) -> Any:
        with self._lock:
            client = self._clients.get((service, attempts))
            if client is None:
                client = self._clients[service, attempts] = self._make(service, attempts)
            return client

    def _make(self, service: str, attempts: int) -> Any:
        from botocore.config import Config
        from botocore.exceptions import NoRegionError
        from botocore.session import get_session

        self._session = self._session or get_session()
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=MAX_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": attempts},
            tcp_keepalive=True,
        )
        # AWS_REGION is what Lambda and ECS set; botocore itself reads AWS_DEFAULT_REGION and the profile.
        region = self._region or os.environ.get("AWS_REGION")
        try:
            return self._session.create_client(service, region_name=region, config=config)
        except NoRegionError as error:
            raise SettingsError(["AWS_REGION is not set: say which AWS region to work in"]) from error
