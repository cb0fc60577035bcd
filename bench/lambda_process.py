"""A Lambda container: a process with `app.py` and nothing of the tests in it, which runs handlers on demand.

A line on stdin is the name of a handler; the answer is a line of JSON on the first stdout: what the handler returned,
its CPU time, the process's peak memory, and whether botocore's clients have been imported. The handlers' own output
goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import Any

from bench.usage import own_peak_mb


class Context:
    """What Lambda tells a function about one call."""

    aws_request_id = "bench"

    def get_remaining_time_in_millis(self) -> int:
        """A function that has just begun."""
        return 60_000


def event_for(handler: str) -> dict[str, Any]:
    """What AWS would hand to this handler now."""
    if handler == "tick":
        return {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}, "resources": [], **_ENVELOPE}
    body = json.dumps({"planned_for": datetime.now(UTC).isoformat()})
    return {"Records": [{"body": body, "receiptHandle": "bench", "messageId": "bench"}]}


_ENVELOPE = {"account": "", "id": "bench", "region": "us-east-1", "time": "", "version": "0"}


def serve() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import app

    handlers = {"tick": app.tick, "wake": app.wake}
    for line in sys.stdin:
        handler = line.strip()
        begun = time.process_time()
        returned = handlers[handler](event_for(handler), Context())
        cpu = {"cpu_seconds": time.process_time() - begun, "cpu_seconds_since_start": time.process_time()}
        # Powertools imports botocore's bare package to ask for its version; a client costs 90 ms and 16 MB.
        measured = {"peak_mb": own_peak_mb(), "has_aws_clients": "botocore.client" in sys.modules}
        answers.write(json.dumps({"returned": returned, **measured, **cpu}) + "\n")
        answers.flush()
    answers.close()


if __name__ == "__main__":
    serve()
