"""The metrics of training jobs in moto's CloudWatch, where the SDK's analytics and dashboards look for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from .folder import ACCOUNT
from .store import Metric, Store

__all__ = ["publish", "publish_all"]

_NAMESPACE: Final = "/aws/sagemaker/TrainingJobs"
_KIND: Final = "training-job"


def publish(region: str, job: str, metrics: Sequence[Metric]) -> None:
    """Add what a job has printed."""
    if not metrics:
        return
    from moto.cloudwatch.models import cloudwatch_backends

    dimensions = [{"Name": "TrainingJobName", "Value": job}]
    data = [
        {
            "MetricName": one.name,
            "Dimensions": dimensions,
            "Timestamp": datetime.fromtimestamp(one.time, timezone.utc).replace(tzinfo=None),
            "Value": one.value,
        }
        for one in metrics
    ]
    cloudwatch_backends[ACCOUNT][region].put_metric_data(_NAMESPACE, data)


def publish_all(store: Store) -> None:
    """Add what jobs of before have printed."""
    for thing in store.all(_KIND):
        publish(thing.document["TrainingJobArn"].split(":")[3], thing.name, store.metrics(_KIND, thing.name))
