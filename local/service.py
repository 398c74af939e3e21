"""SageMaker's own description of its requests and answers, as botocore carries it.

Every request is checked against the shape of its operation, and every answer is cut to the shape of its own, so that
any SDK can read it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

from .faults import UnknownOperationException, ValidationException

__all__ = ["answered", "checked", "known", "operations"]

_PREFIX: Final = "SageMaker."  # of X-Amz-Target
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "structure": dict,
    "map": dict,
    "list": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float),
    "blob": str,
}
_SHOWN: Final = 5  # violations that an answer tells


@cache
def _model() -> Any:
    import botocore.loaders
    from botocore.model import ServiceModel

    # botocore's own folder alone: what lies in the user's ~/.aws/models is none of our business
    loader = botocore.loaders.Loader(include_default_search_paths=False)
    loader.search_paths.append(loader.BUILTIN_DATA_PATH)
    return ServiceModel(loader.load_service_model("sagemaker", "service-2"), "sagemaker")


def operations() -> frozenset[str]:
    """Names of all operations."""
    return frozenset(_model().operation_names)


def checked(target: str, request: Any) -> str:
    """The name of the operation that X-Amz-Target names, when `request` is one for it.

    Raises
    ------
    UnknownOperationException
        When there is no such operation.
    ValidationException
        When the request is not one for it, in AWS's words.
    """
    name = target.removeprefix(_PREFIX)
    if not target.startswith(_PREFIX) or name not in operations():
        raise UnknownOperationException(f"there is no operation {target!r}")
    shape = _model().operation_model(name).input_shape
    if not isinstance(request, dict):
        raise ValidationException(f"the body of {name} has to be a JSON object, got {type(request).__name__}")
    found = list(_violations(shape, request, "")) if shape is not None else []
    if found:
        told = "; ".join(found[:_SHOWN])
        raise ValidationException(f"{len(found)} validation error{'s' * (len(found) > 1)} detected: {told}")
    return name


def known(operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """What of a request the operation's shape has: what a stranger adds must not pass for what is only ours to say.

    Examples
    --------
    >>> known("DescribeModel", {"ModelName": "m", "_run": "/"})
    {'ModelName': 'm'}
    """
    shape = _model().operation_model(operation).input_shape
    found: dict[str, Any] = {} if shape is None else _kept(shape, request)
    return found


def _kept(shape: Any, value: Any) -> Any:
    if value is None:
        return None
    if shape.type_name == "structure":
        return {name: _kept(shape.members[name], value[name]) for name in value if name in shape.members}
    if shape.type_name == "list":
        return [_kept(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: _kept(shape.value, item) for key, item in value.items()}
    return value


def answered(operation: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of an operation: what of `result` its shape has, times as seconds since 1970.

    Examples
    --------
    >>> answered("CreateModel", {"ModelArn": "arn:aws:sagemaker:…", "ours": 1})
    {'ModelArn': 'arn:aws:sagemaker:…'}
    """
    shape = _model().operation_model(operation).output_shape
    found: dict[str, Any] = {} if shape is None else _cut(shape, result)
    return found


def _cut(shape: Any, value: Any) -> Any:
    if shape.type_name == "structure":
        members = ((name, value.get(name)) for name in shape.members)
        return {name: _cut(shape.members[name], member) for name, member in members if member is not None}
    if shape.type_name == "list":
        return [_cut(shape.member, item) for item in value]
    if shape.type_name == "map":
        return {key: _cut(shape.value, item) for key, item in value.items()}
    if shape.type_name == "timestamp":
        return value.timestamp() if isinstance(value, datetime) else value
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return value


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    """What is wrong with a value, in AWS's words."""
    kind = _TYPES[shape.type_name]
    if not _is(value, kind):
        shown = "a number" if kind in (int, (int, float)) else f"of type {shape.type_name}"
        yield f"Value '{_text(value)}' at '{path}' failed to satisfy constraint: Member must be {shown}"
        return
    yield from (f"{_at(value, path)} failed to satisfy constraint: {rule}" for rule in _broken(shape, value))
    if shape.type_name == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_below(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in value.items():
            if name in shape.members and member is not None:
                yield from _violations(shape.members[name], member, _below(path, name))
    elif shape.type_name == "list":
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.key")
            yield from _violations(shape.value, item, f"{path}.{key}.member")


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value of JSON has the type; a boolean is no number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _broken(shape: Any, value: Any) -> Iterator[str]:
    """The constraints of a shape that a value of its type does not satisfy."""
    rules = shape.metadata
    if shape.type_name == "timestamp" or isinstance(value, bool):
        return
    what, size = ("value", value) if isinstance(value, (int, float)) else ("length", len(value))
    if (least := rules.get("min")) is not None and size < least:
        yield f"Member must have {what} greater than or equal to {least}"
    if (most := rules.get("max")) is not None and size > most:
        yield f"Member must have {what} less than or equal to {most}"
        return  # a pattern may take very long to find out the same
    if (enum := rules.get("enum")) and value not in enum:
        yield f"Member must satisfy enum value set: [{', '.join(enum)}]"
    if (pattern := rules.get("pattern")) and isinstance(value, str) and not _compiled(pattern).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {pattern}"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    r"""A pattern of the service's description, which is one of Java's.

    Examples
    --------
    >>> bool(_compiled(r"[\p{Alnum}-]+").fullmatch("a-1"))
    True
    """
    for java, ours in _JAVA.items():
        pattern = pattern.replace(java, ours)
    try:
        return re.compile(pattern, re.DOTALL)
    except re.error:  # one that Python cannot read refuses nothing
        return re.compile(".*", re.DOTALL)


_JAVA: Final = {
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\p{ASCII}": "\x00-\x7f",
    r"\p{L}": r"\w",
    r"\p{M}": "",
    r"\p{Z}": r"\s",
    r"\p{N}": r"\d",
    r"\p{S}": "+<=>^`|~$",
    r"\p{P}": "!-/:-@\\[-`{-~",
}


def _below(path: str, name: str) -> str:
    """A member's place; AWS writes names with a small first letter there."""
    name = name[:1].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _at(value: Any, path: str) -> str:
    return f"Value '{_text(value)}' at '{path}'"


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 256 else text[:256] + "…"  # long enough to find it by
