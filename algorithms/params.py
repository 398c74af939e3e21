"""Hyperparameters, declared once.

From one declaration come the parsing of SageMaker's strings, one-sentence errors, the documentation table and
the JSON that CreateAlgorithm takes.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin, get_type_hints

from ..errors import HyperParameterError

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:  # both are for type checkers only, and Python 3.10 has neither

    def dataclass_transform(**_: Any) -> Any:
        return lambda cls: cls


__all__ = ["HyperParameters", "Spec", "default_text", "hp"]


@dataclass(frozen=True, slots=True)
class Spec:
    """What is allowed for one hyperparameter.

    Parameters
    ----------
    name
        As the user types it.
    kind
        One of bool, int, float, str, list.
    auto
        Whether the word ``auto`` is allowed (it becomes None).
    default
        The parsed default; `MISSING` where the user has to give a value.
    ge, gt, le, lt
        Limits, inclusive and exclusive; for numbers only.
    choices
        The only words allowed, in a string or in each item of a list.
    tunable
        Whether a tuning job may vary it.
    doc
        One sentence for the documentation.
    words
        Words that a number may also be.
    """

    name: str
    kind: type
    auto: bool
    default: Any
    ge: float | None
    gt: float | None
    le: float | None
    lt: float | None
    choices: tuple[str, ...]
    tunable: bool
    doc: str
    words: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether the user has to give a value."""
        return self.default is MISSING

    @property
    def allowed(self) -> str:
        """What is allowed, in words: ``an integer of at least 1``."""
        nouns = {bool: "true or false", int: "an integer", float: "a number", str: "a word", list: "a JSON list"}
        text = nouns[self.kind]
        if self.kind is str and self.choices:
            text = "one of " + ", ".join(self.choices)
        elif self.kind is list:
            text = "a JSON list of " + ", ".join(self.choices)
        limits = [
            f"{word} {_plain(limit)}"
            for word, limit in (("of at least", self.ge), ("above", self.gt), ("at most", self.le), ("below", self.lt))
            if limit is not None
        ]
        text = " ".join([text, " and ".join(limits)]) if limits else text
        return ", or ".join([text, *self.words, *(["auto"] if self.auto else [])])

    def parse(self, text: str) -> Any:
        r"""Turn one of SageMaker's strings into a value.

        Three dialects arrive: ``str()`` of Python (``True``), JSON (``true``, ``[1, 2]``) and JSON inside JSON
        (``"\"auto\""``).

        Raises
        ------
        HyperParameterError
            When the text is no value of this hyperparameter.
        """
        plain = _unquote(text)
        if self.auto and plain.lower() in {"auto", "none", "null"}:
            return None
        if plain in self.words:
            return plain
        try:
            value = _PARSERS[self.kind](plain)
        except (ValueError, RecursionError) as error:
            raise self._refusal(text) from error
        self._check(value, text)
        return value

    def _check(self, value: Any, text: str) -> None:
        outside = self.kind in (int, float) and (
            (self.ge is not None and value < self.ge)
            or (self.gt is not None and value <= self.gt)
            or (self.le is not None and value > self.le)
            or (self.lt is not None and value >= self.lt)
        )
        words = value if isinstance(value, list) else [value]
        unknown = bool(self.choices) and any(word not in self.choices for word in words)
        if outside or unknown or (self.kind is list and not words):
            raise self._refusal(text)

    def _refusal(self, text: str) -> HyperParameterError:
        return HyperParameterError(
            f"{_short(text)} is not valid under any of the given schemas: "
            f"hyperparameter {self.name!r} must be {self.allowed}"
        )


def _short(text: str) -> str:
    """A text in quotes, without its middle where it is long: a failure file has room for 1,024 characters."""
    return repr(text if len(text) <= 100 else f"{text[:50]}…{text[-40:]}")


def _plain(limit: float) -> str:
    """A limit without an exponent that nobody would type."""
    return str(int(limit)) if float(limit).is_integer() else f"{limit:g}"


def _unquote(text: str) -> str:
    """Take off the inner quotes of the JSON dialect, and blanks around."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            inner = json.loads(text)
        except ValueError:
            return text
        return str(inner).strip()
    return text


def _parse_bool(text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _parse_int(text: str) -> int:
    """An integer; ``10.0`` is one too, as tuning jobs and JSON write it."""
    if "_" in text:
        raise ValueError(text)
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


def _parse_float(text: str) -> float:
    number = float(text)
    if "_" in text or not math.isfinite(number):
        raise ValueError(text)
    return number


def _parse_list(text: str) -> list[str]:
    """A JSON list of words; Python's single quotes are read too, and one word is a list of one."""
    items = json.loads(text.replace("'", '"')) if text.startswith("[") else [text]
    if not all(isinstance(item, str) for item in items):
        raise ValueError(text)
    return list(dict.fromkeys(items))


_PARSERS: dict[type, Callable[[str], Any]] = {
    bool: _parse_bool,
    int: _parse_int,
    float: _parse_float,
    str: str,
    list: _parse_list,
}


def hp(
    *,
    default: Any = MISSING,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[str, ...] = (),
    tunable: bool = False,
    doc: str,
    words: tuple[str, ...] = (),
    name: str | None = None,
) -> Any:
    """Declare a hyperparameter of a `HyperParameters` class; `name` where Python can't spell the real one."""
    rules = {
        "ge": ge,
        "gt": gt,
        "le": le,
        "lt": lt,
        "choices": choices,
        "tunable": tunable,
        "doc": doc,
        "words": words,
        "name": name,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"hp": rules})
    return field(default=default, metadata={"hp": rules})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(hp,))
class HyperParameters:
    """Base of an algorithm's hyperparameters.

    A subclass annotates each with its type (``int``, ``float``, ``bool``, ``str``, ``list[str]``, or one of them
    ``| None`` where ``auto`` is allowed) and declares its rules with `hp`.

    Examples
    --------
    >>> class Params(HyperParameters):
    ...     k: int = hp(ge=1, doc="Number of clusters.")
    ...     epochs: int = hp(default=1, ge=1, doc="Passes over the data.")
    >>> Params.parse({"k": "10", "epochs": '"3"', "_kvstore": "auto"})
    Params(k=10, epochs=3)
    >>> Params.parse({"k": "0"})
    Traceback (most recent call last):
    ...
    clary.errors.HyperParameterError: '0' is not valid under any of the given schemas: ...
    """

    hidden: ClassVar[frozenset[str]] = frozenset()
    """Names that SageMaker's clients send on their own; accepted and not used."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def specs(cls) -> tuple[Spec, ...]:
        """The declarations, in order."""
        hints = get_type_hints(cls)
        found = []
        for item in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            kind, auto = _kind_of(hints[item.name])
            rules = dict(item.metadata["hp"])
            rules["name"] = rules["name"] or item.name
            default = item.default
            if item.default_factory is not MISSING:
                default = item.default_factory()
            found.append(Spec(kind=kind, auto=auto, default=default, **rules))
        return tuple(found)

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Self:
        """Check and convert what came in hyperparameters.json.

        Names that begin with ``_`` or ``sagemaker_`` belong to the platform and are left alone.

        Raises
        ------
        HyperParameterError
            For an unknown name, a missing one, or a value that is not allowed.
        """
        specs = {spec.name: spec for spec in cls.specs()}
        for name in given:
            if name not in specs and not name.startswith(("_", "sagemaker_")) and name not in cls.hidden:
                raise HyperParameterError(_unknown(name, specs))
        missing = [spec for spec in specs.values() if spec.required and spec.name not in given]
        if missing:
            remedy = " and ".join(f"{spec.name!r} to {spec.allowed}" for spec in missing)
            raise HyperParameterError(f"{missing[0].name!r} is a required property: set {remedy}")
        attributes = {spec.name: item.name for spec, item in zip(cls.specs(), fields(cls), strict=True)}  # type: ignore[arg-type]
        return cls(**{attributes[name]: spec.parse(given[name]) for name, spec in specs.items() if name in given})

    @classmethod
    def create_algorithm_json(cls) -> list[dict[str, Any]]:
        """The SupportedHyperParameters of a CreateAlgorithm request."""
        return [_supported(spec) for spec in cls.specs()]


def _kind_of(hint: Any) -> tuple[type, bool]:
    """Type and whether ``auto`` is allowed, of an annotation such as ``int | None``."""
    auto = False
    if get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [arg for arg in get_args(hint) if arg is not type(None)]
        auto = len(kinds) < len(get_args(hint))
        hint = kinds[0]
    return (get_origin(hint) or hint), auto


def _unknown(name: str, specs: Mapping[str, Spec]) -> str:
    import difflib

    near = difflib.get_close_matches(name, specs, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(specs)
    return f"Additional properties are not allowed ({_short(name)} was unexpected): {hint}"


def _supported(spec: Spec) -> dict[str, Any]:
    kinds = {bool: "Categorical", int: "Integer", float: "Continuous", str: "FreeText", list: "FreeText"}
    entry: dict[str, Any] = {
        "Name": spec.name,
        "Description": spec.doc,
        "Type": "Categorical" if spec.kind is str and spec.choices else kinds[spec.kind],
        "IsTunable": spec.tunable,
        "IsRequired": spec.required,
    }
    if not spec.required:
        entry["DefaultValue"] = default_text(spec)
    low, high = (next((x for x in pair if x is not None), None) for pair in ((spec.ge, spec.gt), (spec.le, spec.lt)))
    if spec.auto or spec.words:
        entry["Type"] = "FreeText"  # the API has no type for "a number or the word auto"
    elif spec.kind in (int, float) and low is not None and high is not None:
        name = f"{kinds[spec.kind]}ParameterRangeSpecification"
        entry["Range"] = {name: {"MinValue": _plain(low), "MaxValue": _plain(high)}}
    elif entry["Type"] == "Categorical":
        values = list(spec.choices) or ["true", "false"]
        entry["Range"] = {"CategoricalParameterRangeSpecification": {"Values": values}}
    return entry


def default_text(spec: Spec) -> str:
    """The default as a user would type it."""
    if spec.default is None:
        return "auto"
    if spec.kind is float:
        return f"{spec.default:g}"
    return spec.default if isinstance(spec.default, str) else json.dumps(spec.default)
