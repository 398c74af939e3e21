"""What the algorithm XGBoost does in a job and for a server: train a model from channels, and open one from a file.

The library does the mathematics; this is how a training job of Amazon's open container uses it.

References
----------
- https://docs.aws.amazon.com/sagemaker/latest/dg/xgboost.html
- https://github.com/aws/sagemaker-xgboost-container
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np

from ..errors import ArtifactError, ChannelError, UserError
from ..recordio.batch import Batch, alike, concatenate
from .base import Channel, Model, Report
from .booster import Booster, BoosterError, Matrix, library_version
from .booster_formats import Origin, open_booster
from .memory import available_memory
from .xgboost_manners import purpose
from .xgboost_model import XGBoostEnsemble, XGBoostModel
from .xgboost_params import XGBoostParams
from .xgboost_training import Data, boost, cross_validate, translated
from .xgboost_trees import Trees

__all__ = ["fit", "load"]

_PER_COLUMN: Final = 128
_PER_PREDICTION: Final = 24
"""Bytes that the library takes at least: for a column without values, and for a prediction with its gradient."""

_Trained = TypeVar("_Trained", Booster, Sequence[Booster])

_UNLABELLED: Final = (
    "Got input data without labels. Please check the input data set. If training job is running on multiple "
    "instances, please switch to using single instance if number of records in the data set is less than number of "
    "workers (16 * number of instance) in the cluster."
)


def fit(params: XGBoostParams, channels: Mapping[str, Channel], report: Report) -> Model:
    """Train a model, or with ``_kfold`` one for each part left out."""
    batches = dict(zip(channels, alike([_read(channel, params) for channel in channels.values()]), strict=True))
    report.info("Single node training.")
    for note in params.notes():
        report.warning(note)
    report.info(f"Train matrix has {len(batches['train'])} rows and {batches['train'].width} columns")
    if "validation" in batches:
        report.info(f"Validation matrix has {len(batches['validation'])} rows")
    _check_memory(batches, params)
    try:
        if params.kfold is not None:
            if any(batch.queries is not None for batch in batches.values()):
                raise UserError("_kfold would tear queries apart: leave out _kfold, or qid in the data")
            everything = concatenate([batches.pop(name) for name in list(batches)])
            return _ensemble(cross_validate(params, _data(everything), report, _keeper(params, report, _ensemble)))
        data = {name: _data(batches.pop(name)) for name in list(batches)}
        booster, _ = boost(params, data, report, _keeper(params, report, _model))
        return _model(booster)
    except BoosterError as error:
        raise translated(error) from error


def _check_memory(batches: Mapping[str, Batch], params: XGBoostParams) -> None:
    """Refuse what the system would end the job for: far too many columns or classes, mostly by mistake."""
    columns = max(batch.width for batch in batches.values())
    predictions = sum(map(len, batches.values())) * (params.num_class or 1)
    if columns * _PER_COLUMN + predictions * _PER_PREDICTION > available_memory():
        classes = f" and {params.num_class} classes" if params.num_class else ""
        raise ChannelError(f"rows of {columns} columns{classes} need more memory than there is")


def _read(channel: Channel, params: XGBoostParams) -> Batch:
    """All rows of a channel, with their labels, and their weights where the second column of CSV has them."""
    batch = channel.whole()
    if batch is None:
        told = f"No data in {purpose(channel.name)} channel path"
        raise ChannelError(f"{told}: the files of the channel '{channel.name}' have no rows")
    if params.csv_weights and channel.format == "csv":
        rows = batch.dense()
        if rows.shape[1] < 2:
            raise ChannelError(f"csv_weights=1: the channel '{channel.name}' has no features behind label and weight")
        batch = dataclasses.replace(batch, features=np.ascontiguousarray(rows[:, 1:]), weights=rows[:, 0].copy())
    if batch.weights is not None and np.isnan(batch.weights).any():
        row = int(np.flatnonzero(np.isnan(batch.weights))[0])
        raise ChannelError(f"Weights must be positive values. In the channel '{channel.name}' row {row} has none")
    labels = batch.labels
    if labels is None or np.isnan(labels).any():
        raise ChannelError(f"{_UNLABELLED} In the channel '{channel.name}' {_which(batch)} without a label")
    if labels.ndim > 1:
        raise ChannelError(f"the rows of the channel '{channel.name}' have {labels.shape[1]} labels each: one is used")
    return batch


def _which(batch: Batch) -> str:
    if batch.labels is None:
        return "all rows are"
    return f"row {int(np.argwhere(np.isnan(batch.labels))[0, 0])}, counted from 0, is"


def _data(batch: Batch) -> Data:
    assert batch.labels is not None  # noqa: S101  # as `_read` has seen
    queries = None if batch.queries is None else np.unique(batch.queries, return_inverse=True)[1]
    return Data(Matrix(batch.features, batch.labels, batch.weights, queries), batch.labels)


def _keeper(
    params: XGBoostParams, report: Report, model: Callable[[_Trained], Model]
) -> Callable[[_Trained], None] | None:
    """What keeps the model so far for the case that the job is told to end, if the user wants that."""
    if not params.save_model_on_termination:
        return None
    return lambda trained: report.keep(lambda: model(trained))


def _model(booster: Booster) -> XGBoostModel:
    return XGBoostModel(booster, Origin("UBJSON", library_version()))


def _ensemble(boosters: Sequence[Booster]) -> XGBoostEnsemble:
    return XGBoostEnsemble([_model(booster) for booster in boosters])


def load(data: bytes) -> XGBoostModel:
    """The model in a file of any version of XGBoost; each request is answered by one thread, as Amazon has it.

    Raises
    ------
    ArtifactError
        When it is none, or the library refuses to work with it.
    """
    booster, origin = open_booster(data)
    try:
        booster.set({"nthread": "1"})
        return XGBoostModel(booster, origin, Trees.of(booster, origin.best_rounds or 0))
    except BoosterError as error:
        raise ArtifactError(f"the XGBoost library cannot use the model: {error}") from error
