"""What a tick leaves behind in the Lambda: structured log lines, and one line a tick that has its metrics too."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chalicelib.outcomes import Answer, TickReport

if TYPE_CHECKING:
    from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

LOGGER = logging.getLogger(__name__)
# The metrics stand in the tick's line: no level that somebody sets leaves it out.
LOGGER.setLevel(logging.INFO)

NAMESPACE = "PrefectAgent"

METRICS = {
    **dict.fromkeys(("Found", "Claimed", "Launched", "Failed", "GivenBack", "Unknown", "Recovered"), "Count"),
    **dict.fromkeys(("BacklogAge", "LaunchLateness", "TickDuration"), "Seconds"),
}
"""Every metric, with its unit. Each costs 0.30 USD a month while it has values, so ten are the limit."""


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
        """Write the tick's line, in which its metrics stand too (CloudWatch's embedded metric format)."""
        metrics = self._format_metrics(metric_values(report, duration_seconds))
        LOGGER.info("Tick", extra={**report.as_dict(), "duration_seconds": round(duration_seconds, 3), **metrics})

    def _format_metrics(self, values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

        metrics = AmazonCloudWatchEMFProvider(namespace=NAMESPACE, service=self.agent_name)
        for name, some in values.items():
            for value in some:
                # At a hundred values of one metric Powertools writes a line of its own and begins anew.
                metrics.add_metric(name, METRICS[name], value)
        return dict(metrics.serialize_metric_set())


def metric_values(report: TickReport, duration_seconds: float) -> dict[str, list[float]]:
    """The values of a tick's metrics by their names. A number of 0 is left out, which costs nothing, but for Found.

    Found is in every tick that has polled: how many values it has is how many ticks did.
    """
    answers = report.answers
    numbers = {
        "Claimed": report.claimed,
        "Launched": answers[Answer.LAUNCHED],
        "Failed": answers[Answer.REFUSED_FOR_GOOD] + answers[Answer.IMPOSSIBLE],
        "GivenBack": answers[Answer.REFUSED_FOR_NOW],
        "Unknown": answers[Answer.UNKNOWN],
        "Recovered": report.recovered,
        "BacklogAge": round(report.backlog_age_seconds, 1),
    }
    late = [round(seconds, 1) for seconds in report.late_seconds]
    return {
        **({"LaunchLateness": late} if late else {}),
        **{name: [number] for name, number in numbers.items() if number},
        "Found": [report.found],
        "TickDuration": [round(duration_seconds, 3)],
    }
