"""Models as the module class of MXNet saves them: a ZIP of a graph, its arrays and some JSON, without MXNet.

The linear learner and factorization machines leave such files. The graph ("symbol") tells what is computed, as a list
of nodes; whoever opens the artifact with MXNet needs it, clary does not.

References
----------
.. [1] apache/mxnet, ``3rdparty/tvm/nnvm/src/pass/saveload_json.cc``, the members of a graph.
.. [2] dmlc/dmlc-core, ``include/dmlc/json.h``, where its lines are broken.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import ArtifactError

__all__ = ["Node", "dump_symbol", "head_op", "load_object", "member", "pack", "shown", "unpack"]

_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 0x1
_FILE: Final = 0o100644 << 16  # of UNIX, which its users may read
_VARIABLE: Final = "null"  # the op of a node that is no operation
_VERSION: Final = 10301  # MXNet 1.3.1, which Amazon's containers have
_SHORT: Final = 10  # numbers that fit on one line
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, OverflowError, ValueError)


def pack(members: Mapping[str, bytes]) -> bytes:
    """A ZIP with these members as they are, in their order; equal members make equal bytes.

    Examples
    --------
    >>> unpack(pack({"manifest.json": b"{}", "empty": b""}))
    {'manifest.json': b'{}', 'empty': b''}
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name)  # its time is 1980, always
            info.create_system = 3  # UNIX, on every machine
            info.external_attr = _FILE
            archive.writestr(info, data)
    return file.getvalue()


def unpack(data: bytes, wanted: Collection[str] | None = None, most_deflated: int = 1 << 30) -> dict[str, bytes]:
    """The wanted members of a ZIP by name, in their order; others are not read, and nothing is written to a disk.

    Parameters
    ----------
    data
        The ZIP. What is merely stored in it is not larger than it is.
    wanted
        Names of members, all by default; one that is not there is left out.
    most_deflated
        Bytes that all members that are compressed may have together. Amazon's are not, those of people who packed a
        model again may be.

    Raises
    ------
    ArtifactError
        When it is none, is cut or damaged, is encrypted, has a name twice, or members too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if wanted is None or info.filename in wanted]
            _check(infos, len(data), most_deflated)
            return {info.filename: archive.read(info) for info in infos}
    except _DAMAGED as error:
        raise ArtifactError(f"the model is no whole ZIP: {error}") from error
    except RuntimeError as error:  # NotImplementedError among them
        raise ArtifactError(f"the ZIP has what no model needs: {error}") from error


def _check(infos: Sequence[zipfile.ZipInfo], size: int, most_deflated: int) -> None:
    """Refuse what is no model, before any of it is read."""
    names = [info.filename for info in infos]
    if len(set(names)) < len(names):
        raise ArtifactError(f"the ZIP has members of the same name: {', '.join(sorted(names))}")
    totals = dict.fromkeys(_METHODS, 0)
    for info in infos:
        if info.flag_bits & _ENCRYPTED:
            raise ArtifactError(f"{info.filename} is encrypted")
        if info.compress_type not in totals:
            raise ArtifactError(f"{info.filename} is compressed by method {info.compress_type}, not deflated")
        totals[info.compress_type] += info.file_size
    stored, deflated = totals.values()
    if stored > size:  # members that overlap, or lie
        raise ArtifactError(f"the ZIP has {size} bytes, its members {stored}")
    if deflated > most_deflated:
        raise ArtifactError(f"the members of the ZIP have {deflated} bytes, {most_deflated} are allowed")


class Node(NamedTuple):
    """A node of a graph, with one output.

    Parameters
    ----------
    op
        What it computes; ``null`` for data and parameters, which are given.
    name
        Its own name.
    inputs
        Names of earlier nodes.
    attrs
        Arguments of the operation, and hints for the optimizer, all text.
    """

    op: str
    name: str
    inputs: Sequence[str] = ()
    attrs: Mapping[str, str] = {}


def dump_symbol(nodes: Sequence[Node]) -> bytes:
    """A graph that computes its last node, to the blank what MXNet 1.3.1 writes.

    Examples
    --------
    >>> print(dump_symbol([Node("null", "data"), Node("negative", "y", ["data"])]).decode())
    {
      "nodes": [
        {
          "op": "null",
          "name": "data",
          "inputs": []
        },
        {
          "op": "negative",
          "name": "y",
          "inputs": [[0, 0, 0]]
        }
      ],
      "arg_nodes": [0],
      "node_row_ptr": [0, 1, 2],
      "heads": [[1, 0, 0]],
      "attrs": {"mxnet_version": ["int", 10301]}
    }
    """
    numbers = {node.name: i for i, node in enumerate(nodes)}
    graph = {
        "nodes": [
            {
                "op": node.op,
                "name": node.name,
                **({"attrs": dict(sorted(node.attrs.items()))} if node.attrs else {}),
                "inputs": [[numbers[name], 0, 0] for name in node.inputs],  # node, which output, version
            }
            for node in nodes
        ],
        "arg_nodes": [i for i, node in enumerate(nodes) if node.op == _VARIABLE],
        "node_row_ptr": list(range(len(nodes) + 1)),  # where the outputs of each begin
        "heads": [[len(nodes) - 1, 0, 0]],
        "attrs": {"mxnet_version": ["int", _VERSION]},
    }
    return _text(graph, 1).encode()


def _text(value: Any, depth: int) -> str:
    """JSON with the line breaks of dmlc: in objects of several members, lists of objects and long lists."""
    if isinstance(value, dict):
        ends, items = "{}", [f"{json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()]
        broken = len(items) > 1
    elif isinstance(value, list):
        ends, items = "[]", [_text(item, depth + 1) for item in value]
        broken = len(items) > _SHORT or any(isinstance(item, dict) for item in value)
    else:
        return json.dumps(value)
    inner, outer = ("\n" + "  " * depth, "\n" + "  " * (depth - 1)) if broken else ("", "")
    return ends[0] + inner + f", {inner}".join(items) + outer + ends[1]


def head_op(symbol: Mapping[str, Any]) -> str:
    """What the last node of a graph computes, for example ``LogisticRegressionOutput``.

    Parameters
    ----------
    symbol
        What `load_object` gives for it.

    Raises
    ------
    ArtifactError
        When it is no graph.

    Examples
    --------
    >>> head_op(json.loads(dump_symbol([Node("null", "data"), Node("negative", "y", ["data"])])))
    'negative'
    """
    try:
        number = symbol["heads"][0][0]
        op = symbol["nodes"][number]["op"]
    except (TypeError, LookupError) as error:
        raise ArtifactError("the symbol is no graph: it has no node that is its head") from error
    if not isinstance(op, str):
        raise ArtifactError(f"the op of the head of the symbol is {shown(op)}, not text")
    return op


def member(members: Mapping[str, bytes], name: str) -> bytes:
    """One of the members of a model.

    Raises
    ------
    ArtifactError
        When there is no such member.
    """
    if name not in members:
        raise ArtifactError(f"the model has no {name}, only {', '.join(members) or 'nothing'}")
    return members[name]


def load_object(members: Mapping[str, bytes], name: str) -> dict[str, Any]:
    """What the JSON in a member says.

    Raises
    ------
    ArtifactError
        When there is no such member, or it is no JSON object.
    """
    data = member(members, name)
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ArtifactError(f"{name} is JSON nested too deeply") from error
    except ValueError as error:
        raise ArtifactError(f"{name} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{name} is {shown(value)}, not an object")
    return value


def shown(value: Any) -> str:
    """A value from JSON for a message; of what may be large, its kind.

    Examples
    --------
    >>> shown("regressor"), shown(None), shown([1, 2])
    ("'regressor'", 'None', 'a list')
    """
    return f"a {type(value).__name__}" if isinstance(value, (list, dict)) else f"{value!r:.80}"
