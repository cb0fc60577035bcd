"""AWS's clients, made when one is first needed: importing botocore alone costs an idle tick more than all its work."""

from __future__ import annotations

import os
import threading
from functools import partialmethod
from pathlib import Path
from typing import Any

from chalicelib.errors import SettingsError

CONNECT_TIMEOUT_SECONDS = 3
READ_TIMEOUT_SECONDS = 10
MAX_CONNECTIONS = 25
"""As many as there are launches under way at once."""

DATA = Path(__file__).parents[1] / "aws_data"
"""Only the zip has it: the endpoints of the services that are used, which botocore takes instead of its own of all."""


class AwsClients:
    """One client of each service, shared by all threads, for the region that the environment names.

    A client is botocore's own: boto3 would add 30 ms to a cold start and nothing that is used here. Every method raises
    SettingsError when no region or no credentials are known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, int], Any] = {}

    def _client(self, service: str, attempts: int = 2) -> Any:
        with self._lock:
            if (service, attempts) not in self._clients:
                self._clients[service, attempts] = self._make(service, attempts)
            return self._clients[service, attempts]

    def _make(self, service: str, attempts: int) -> Any:
        from botocore.config import Config
        from botocore.session import get_session

        if self._session is None:
            self._session = get_session()
            if DATA.exists():
                self._session.set_config_variable("data_path", str(DATA))
        # AWS_REGION is what Lambda and ECS set; botocore itself reads AWS_DEFAULT_REGION and the profile.
        region = os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
        problems = [] if region else ["AWS_REGION is not set: say which AWS region to work in"]
        if self._session.get_credentials() is None:
            problems.append("AWS credentials are not set: sign in, or set AWS_PROFILE or AWS_ACCESS_KEY_ID")
        if problems:
            raise SettingsError(problems)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=MAX_CONNECTIONS,
            retries={"mode": "standard", "total_max_attempts": attempts},
            tcp_keepalive=True,
        )
        return self._session.create_client(service, region_name=region, config=config)

    ecs = partialmethod(_client, "ecs")
    """ECS, for calls that may be repeated freely."""

    ecs_once = partialmethod(_client, "ecs", attempts=1)
    """ECS, for RunTask: one request a call.

    The client token would make a repetition harmless, but botocore shows only how its last try ended: a time-out
    followed by `Rate exceeded` would look as if nothing had been started.
    """

    ec2 = partialmethod(_client, "ec2")
    eks = partialmethod(_client, "eks")
    s3 = partialmethod(_client, "s3")
    sqs = partialmethod(_client, "sqs")
    secretsmanager = partialmethod(_client, "secretsmanager")
    ssm = partialmethod(_client, "ssm")

    @property
    def credentials(self) -> Any:
        """What the clients sign with, which renews itself; known once there is a client."""
        return self._session.get_credentials()

    def close(self) -> None:
        """End all connections; a client that is asked for later is a new one."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
