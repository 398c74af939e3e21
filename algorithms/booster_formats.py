"""A model file of any XGBoost, told by its first bytes and opened with the library that is installed.

UBJSON and JSON go to the library as they are. Amazon's images up to 1.2 left a pickled Booster, those from 1.3 to 1.7
the binary format; both are read here, without an old XGBoost and without unpickling.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..errors import ArtifactError
from .booster import Booster, BoosterError, quiet
from .booster_check import check_model
from .booster_legacy import read_legacy
from .pickled import is_pickle, read_booster
from .ubjson import read_ubjson

__all__ = ["Origin", "open_booster"]

_SERIALIZED: Final = b"CONFIG-offset:"  # the size of a model in the binary format, it, and its configuration
_JSON: Final = re.compile(rb'\{[\s"]')
_UBJSON: Final = b"{L"
_UBJSON_SNAPSHOT: Final = b"{L" + bytes(7) + b"\6Config"  # a pickled model, and how it was trained
_JSON_VERSION: Final = re.compile(rb'"version"\s*:\s*\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]')
_UBJSON_VERSION: Final = re.compile(rb"L\0{7}\x07version\[#L\0{7}\x03i(.)i(.)i(.)", re.DOTALL)
_ROUNDS_KNOWN: Final = (1, 6)


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, as far as its file tells.

    Parameters
    ----------
    format
        ``UBJSON``, ``JSON``, ``binary``, ``pickled binary``, …
    version
        Of the XGBoost that wrote it: ``3.0.5``, ``1.7``, ``before 1.0``; ``unknown``.
    feature_names
        Empty where the features had no names.
    best_rounds
        How many rounds count after early stopping; None when all do. They are rounds of the library as it has the
        model now, which `Booster.predict` takes.
    """

    format: str
    version: str
    feature_names: tuple[str, ...] = ()
    best_rounds: int | None = None


def open_booster(data: bytes) -> tuple[Booster, Origin]:
    """Open a model file: UBJSON, JSON, the binary format, or a pickled Booster of any version.

    Raises
    ------
    ArtifactError
        When it is none of these, or damaged, or asks for more than a Booster.

    Examples
    --------
    >>> import numpy as np
    >>> from clary.algorithms.booster import Matrix
    >>> rows = Matrix(np.array([[0], [1]], np.float32), np.array([0, 1]))
    >>> trained = Booster({"max_depth": "1"}, [rows])
    >>> trained.update(rows, 0)
    >>> booster, origin = open_booster(trained.to_bytes("json"))
    >>> booster.rounds, origin.format, origin.version >= "3.0"
    (1, 'JSON', True)
    """
    if not is_pickle(data):
        return _open(data, {}, "")
    state = read_booster(data)
    handle = state.get("handle")
    if not isinstance(handle, (bytes, bytearray)):
        raise ArtifactError("the pickled Booster was never trained: it holds no model")
    return _open(bytes(handle), state, "pickled ")


def _open(data: bytes, state: Mapping[str, Any], pickled: str) -> tuple[Booster, Origin]:
    """Open a model; `state` is what a pickle has beside it."""
    names = state.get("feature_names")
    names = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
    try:
        if data.startswith(_UBJSON):
            form, version, booster = "UBJSON", _version(_UBJSON_VERSION, ord, data), _load_ubjson(data)
        elif _JSON.match(data):
            model = _json_model(data, names, snapshot=bool(pickled))
            form, version, booster = "JSON", _version(_JSON_VERSION, int, model), _load(model)
        else:
            model, configuration = _parts(data)
            legacy = read_legacy(model, names)
            form, booster = "binary", _load(legacy.document)
            version = _version(_JSON_VERSION, int, configuration) or legacy.version
        names = booster.feature_names or names
        origin = Origin(pickled + form, _shown(version), tuple(names), _best_rounds(booster, state, version))
    except BoosterError as error:
        raise ArtifactError(f"the XGBoost library refuses it: {error}") from error
    return booster, origin


def _load(document: bytes) -> Booster:
    booster = Booster()
    with quiet():
        booster.load(document)
    return booster


def _load_ubjson(data: bytes) -> Booster:
    """A model, or that of a snapshot; how it was trained, on whatever device, is left behind."""
    document = read_ubjson(data)
    if not data.startswith(_UBJSON_SNAPSHOT):
        check_model(document)
        return _load(data)
    check_model(document.get("Model"))
    snapshot = Booster()
    with quiet():
        snapshot.restore(data)
    return _load(snapshot.to_bytes())


def _json_model(data: bytes, names: list[str], *, snapshot: bool) -> bytes:
    """The model in a JSON document; the names of its features stood beside a snapshot, not in it, until 1.3."""
    try:
        document = json.loads(data, object_pairs_hook=_object)
        model = document["Model"] if snapshot else document
        if snapshot:
            learner = model["learner"]
            learner["feature_names"] = learner.get("feature_names") or names
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"the JSON holds no model: {error!s:.200}") from error
    check_model(model)
    return json.dumps(model).encode()  # what was checked: the library might read the other bytes in another way


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _parts(data: bytes) -> tuple[bytes, bytes]:
    """A model in the binary format, and its configuration where it has one."""
    if not data.startswith(_SERIALIZED):
        return data, b""
    start = len(_SERIALIZED) + 8
    end = start + int.from_bytes(data[len(_SERIALIZED) : start], "little")
    return data[start:end], data[end:]


def _version(pattern: re.Pattern[bytes], number: Callable[[bytes], int], data: bytes) -> tuple[int, ...]:
    """The version that is told last: keys are sorted, so the names of the features come before it."""
    versions = pattern.findall(data)
    return tuple(map(number, versions[-1])) if versions else ()


def _shown(version: tuple[int, ...]) -> str:
    if not version:
        return "unknown"
    return ".".join(map(str, version)) if version[0] else "before 1.0"


def _best_rounds(booster: Booster, state: Mapping[str, Any], version: tuple[int, ...]) -> int | None:
    """How many rounds count: told as trees of an output, or as the number of the last round.

    Versions before 1.6 do not tell how many trees a round has: the library then takes one. The number of a round means
    nothing there, and these versions took all rounds themselves when they had nothing but it.
    """
    limit = _number(state.get("best_ntree_limit", booster.attribute("best_ntree_limit")))
    last = _number(state.get("best_iteration", booster.attribute("best_iteration")))
    if limit:
        best = limit // _parallel_trees(booster)
    elif last is not None and version >= _ROUNDS_KNOWN:
        best = last + 1
    else:
        return None
    return best if 0 < best < booster.rounds else None


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 10 else None
    return value if isinstance(value, int) else None


def _parallel_trees(booster: Booster) -> int:
    configuration = booster.configuration()["learner"]["gradient_booster"]
    trees = configuration.get("gbtree", configuration)
    return int(trees.get("gbtree_model_param", {}).get("num_parallel_tree", "1")) or 1
