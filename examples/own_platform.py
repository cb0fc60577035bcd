"""A platform of one's own in a few lines: flow runs become job files in a directory that a batch system watches.

    SPOOL=/var/spool/flows python examples/own_platform.py

Everything else is as with any other agent: labels and all other settings come from arguments, the environment and
Prefect's config file, claims survive a crash, and what cannot be started fails with the reason.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from chalicelib import PlatformAgent, PlatformLauncher
from chalicelib.errors import LaunchDeferred
from chalicelib.launchers.platform_launcher import FlowContainer


class SpoolLauncher(PlatformLauncher):
    """One method is enough: how a flow run is started."""

    def launch(self, request: FlowContainer, key: str, start_until: datetime) -> str:  # noqa: ARG002
        """Write the job file. Its name is made from the key, so that a second try with the same key starts nothing."""
        path = Path(os.environ["SPOOL"]) / f"{key}.json"
        job = {"image": request.image, "command": list(request.command), "environment": dict(request.environment)}
        try:
            draft = path.with_suffix(".draft")
            draft.write_text(json.dumps(job))
            os.link(draft, path)
            draft.unlink()
        except FileExistsError:
            draft.unlink()
        except OSError as error:
            # Nothing was started: the flow run is given back and tried again in a while.
            raise LaunchDeferred(f"{path} cannot be written: {error.strerror}") from error
        return f"Job {path.name}"


class SpoolAgent(PlatformAgent):
    """The agent of that platform; Prefect's UI shows it by the name of this class."""

    launcher = SpoolLauncher


if __name__ == "__main__":
    SpoolAgent().start()
