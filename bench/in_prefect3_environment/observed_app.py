"""The real server's application, a round trip away, with a record of what it is asked.

Runs in the environment of Prefect 3. BENCH_ROUND_TRIP_SECONDS pass before each request is begun, without any work, but
for those of the User-Agent `onlooker`, who is near. What was answered is a line of BENCH_REQUEST_LOG: the time when it
came, the seconds that it took, the first word of the User-Agent, the method and the path.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


ONLOOKER = "onlooker"


class ObservedApp:
    """An ASGI application around another one."""

    def __init__(self, app: App, round_trip_seconds: float, log: TextIO) -> None:
        self.app = app
        self.round_trip_seconds = round_trip_seconds
        self.log = log

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        agent = dict(scope["headers"]).get(b"user-agent", b"-").decode("latin-1").split(" ")[0]
        at = time.time()
        try:
            if agent != ONLOOKER:
                await asyncio.sleep(self.round_trip_seconds)
            await self.app(scope, receive, send)
        finally:
            self.log.write(f"{at} {time.time() - at} {agent} {scope['method']} {scope['path']}\n")


def create_app() -> ObservedApp:
    """What uvicorn calls."""
    app = import_module("prefect.server.api.server").create_app()
    log = Path(os.environ["BENCH_REQUEST_LOG"]).open("a", buffering=1)  # noqa: SIM115 (open as long as the server)
    return ObservedApp(app, float(os.environ["BENCH_ROUND_TRIP_SECONDS"]), log)
