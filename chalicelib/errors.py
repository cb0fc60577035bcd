"""What can go wrong, in the words the tick decides by.

Every exception of an outside system is mapped, at the edge where it appears, to one of these; nothing else
travels inwards. The three answers of a platform are three classes, so no caller looks at a message to decide.

    AgentError
    ├── SettingsError            the configuration is wrong; lists every problem at once
    ├── PrefectError
    │   ├── PrefectUnreachable   away, too slow, or not Prefect: try again later
    │   ├── PrefectUnauthorized  the token is refused: nothing works until somebody changes it
    │   └── PrefectRejected      Prefect understood and refused this request
    ├── UnsupportedRun           this flow run cannot become a launch request, whoever asks
    └── LaunchError
        ├── LaunchRejected       refused for good: the run becomes Failed with the reason
        │   └── LaunchForbidden  the same, and the agent itself is misconfigured: stop claiming
        ├── LaunchDeferred       refused for now: the claim is given back
        └── LaunchUnknown        no answer: the claim is kept and launched again with the same key
"""

from __future__ import annotations

from collections.abc import Sequence

FOREIGN_TEXT_LIMIT = 256
"""How many characters of somebody else's answer may appear in a message or a log of ours."""


class AgentError(Exception):
    """Base of everything this project raises on purpose."""


class SettingsError(AgentError):
    """One or more settings are missing, malformed or contradict each other; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class PrefectError(AgentError):
    """The Prefect API did not do what was asked."""


class PrefectUnreachable(PrefectError):
    """No usable answer: connection refused or cut, time-out, 5xx, or a body that is not Prefect's."""


class PrefectUnauthorized(PrefectError):
    """The API key or token is missing, wrong or without rights."""


class PrefectRejected(PrefectError):
    """Prefect answered that it will not do this; asking again in the same words is useless."""


class UnsupportedRun(AgentError):
    """The flow run cannot be built into a launch request; the message says what to change."""


class LaunchError(AgentError):
    """The platform did not say yes."""


class LaunchRejected(LaunchError):
    """The platform refused this launch for good."""


class LaunchForbidden(LaunchRejected):
    """The platform refused because the agent is misconfigured (no such cluster, not allowed to launch at all)."""


class LaunchDeferred(LaunchError):
    """The platform refused for now (throttled, no capacity); nothing was started."""


class LaunchUnknown(LaunchError):
    """Nobody can say whether the launch happened; only the same launch key may be used again."""


def shorten(text: str, limit: int = FOREIGN_TEXT_LIMIT) -> str:
    """Foreign text cut to `limit` characters, on one line and without NUL (PostgreSQL refuses NUL)."""
    line = " ".join(text.replace("\x00", "").split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
