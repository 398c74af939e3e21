"""The metrics of training jobs in moto's CloudWatch, where the SDK's analytics and dashboards look for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import takewhile
from typing import Any, Final, cast

from .folder import ACCOUNT
from .store import Metric, Store

__all__ = ["publish", "publish_all"]

_NAMESPACE: Final = "/aws/sagemaker/TrainingJobs"
_KIND: Final = "training-job"
_KEPT: Final = timedelta(days=15)
_MOST: Final = 100_000  # numbers; the store has them all


def publish(region: str, job: str, metrics: Sequence[Metric]) -> None:
    """Add what a job has printed in the last 15 days; what is older goes, and the oldest where there is too much."""
    from moto.cloudwatch.models import MetricDatum, cloudwatch_backends

    oldest = datetime.now(timezone.utc).replace(tzinfo=None) - _KEPT

    dimensions = [{"Name": "TrainingJobName", "Value": job}]
    data: list[dict[str, Any]] = [
        {
            "MetricName": one.name,
            "Dimensions": dimensions,
            "Timestamp": datetime.fromtimestamp(one.time, timezone.utc).replace(tzinfo=None),
            "Value": one.value,
        }
        for one in metrics
    ]
    backend = cloudwatch_backends[ACCOUNT][region]
    backend.put_metric_data(_NAMESPACE, [one for one in data if one["Timestamp"] > oldest])
    old = takewhile(lambda one: one.timestamp.replace(tzinfo=None) < oldest, backend.metric_data)
    del backend.metric_data[: max(len(list(old)), len(backend.metric_data) - _MOST)]
    cast(Any, MetricDatum).instances_tracked.clear()  # moto remembers all there ever were, for a page of its own


def publish_all(store: Store) -> None:
    """Add what jobs of before have printed."""
    for thing in store.all(_KIND):
        publish(thing.document["TrainingJobArn"].split(":")[3], thing.name, store.metrics(_KIND, thing.name))
