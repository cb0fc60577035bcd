"""What a tick leaves behind in the Lambda: structured log lines, one line a tick, and metrics in the same log."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from chalicelib.outcomes import Answer, TickReport

if TYPE_CHECKING:
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

LOGGER = logging.getLogger(__name__)


class LambdaLog:
    """JSON lines on standard output for everything that this project logs."""

    def __init__(self, agent_name: str, level: str) -> None:
        from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

        self.agent_name = agent_name
        self.formatter: LambdaPowertoolsFormatter = LambdaPowertoolsFormatter(utc=True, agent=agent_name)
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(self.formatter)
        ours = logging.getLogger("chalicelib")
        ours.handlers = [handler]
        ours.setLevel(level)
        # The Lambda runtime has a handler of its own on the root logger: each line would be written twice.
        ours.propagate = False

    def begin_tick(self, tick_id: str) -> None:
        """Let every line from now on carry `tick_id`."""
        self.formatter.append_keys(tick_id=tick_id)

    def report_tick(self, report: TickReport, duration_seconds: float) -> None:
        """Write the tick's line and its metrics."""
        LOGGER.info("Tick", extra={**report.as_dict(), "duration_seconds": round(duration_seconds, 3)})
        self._emit_metrics(report, duration_seconds)

    def _emit_metrics(self, report: TickReport, duration_seconds: float) -> None:
        from aws_lambda_powertools.metrics import MetricUnit
        from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

        metrics = AmazonCloudWatchEMFProvider(namespace="PrefectAgent", service=self.agent_name)
        for name, count in tick_counts(report).items():
            metrics.add_metric(name, MetricUnit.Count, count)
        metrics.add_metric("TickDuration", MetricUnit.Seconds, duration_seconds)
        metrics.flush_metrics()


def tick_counts(report: TickReport) -> dict[str, int]:
    """The metrics of a tick, in flow runs."""
    answers = report.answers
    return {
        "Found": report.found,
        "Claimed": report.claimed,
        "Launched": answers[Answer.LAUNCHED],
        "Failed": answers[Answer.REFUSED_FOR_GOOD] + answers[Answer.IMPOSSIBLE],
        "GivenBack": answers[Answer.REFUSED_FOR_NOW],
        "Unknown": answers[Answer.UNKNOWN],
    }
