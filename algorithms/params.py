"""Hyperparameters, declared once.

From one declaration come the parsing of SageMaker's strings, one-sentence errors, the documentation table and
the JSON that CreateAlgorithm takes.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_args, get_origin, get_type_hints

from ..errors import HyperParameterError

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:  # both are for type checkers only, and Python 3.10 has neither

    def dataclass_transform(**_: Any) -> Any:
        return lambda cls: cls


__all__ = ["Form", "HyperParameters", "Spec", "default_text", "hp", "short"]


@dataclass(frozen=True, slots=True)
class Form:
    """How values of a type are written: what they are called, and what makes one of a text, or a ValueError."""

    noun: str
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Spec:
    """What is allowed for one hyperparameter.

    Parameters
    ----------
    name
        As the user types it.
    attribute
        As Python spells it.
    kind
        Its type, without None: one of the class's `HyperParameters.forms`.
    form
        How it is written.
    auto
        Whether the word ``auto`` is allowed (it becomes None).
    default
        The parsed default; `MISSING` where the user has to give a value.
    ge, gt, le, lt
        Limits, inclusive and exclusive, of a number or of each in a list.
    choices
        The only words or numbers allowed, as the value or as each item of a list.
    tunable
        Whether a tuning job may vary it.
    doc
        One sentence for the documentation.
    words
        Words that a number may also be.
    unset
        What holds where the value is not given, in words, if that is for a library to say and not for us.
    aliases
        Other names for it.
    """

    name: str
    attribute: str
    kind: Any
    form: Form
    auto: bool
    default: Any
    ge: float | None
    gt: float | None
    le: float | None
    lt: float | None
    choices: tuple[str | int, ...]
    tunable: bool
    doc: str
    words: tuple[str, ...] = ()
    unset: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        """Whether the user has to give a value."""
        return self.default is MISSING

    @property
    def allowed(self) -> str:
        """What is allowed, in words: ``an integer of at least 1``."""
        text = self.form.noun
        if self.choices:
            text = f"{'one' if self.kind is str else text} of {', '.join(map(str, self.choices))}"
        limits = [
            f"{word} {_plain(limit)}"
            for word, limit in (("of at least", self.ge), ("above", self.gt), ("at most", self.le), ("below", self.lt))
            if limit is not None
        ]
        text = " ".join([text, " and ".join(limits)]) if limits else text
        return ", or ".join([text, *self.words, *(["auto"] if self.auto else [])])

    @property
    def interval(self) -> str:
        """The limits as mathematics writes them: ``(0, 1]``."""
        low = f"[{self.ge}" if self.ge is not None else "(-inf" if self.gt is None else f"({self.gt}"
        high = f"{self.le}]" if self.le is not None else "+inf)" if self.lt is None else f"{self.lt})"
        return f"{low}, {high}"

    def read(self, text: str) -> Any:
        r"""Turn one of SageMaker's strings into a value, which need not be within the limits.

        Three dialects arrive: ``str()`` of Python (``True``), JSON (``true``, ``[1, 2]``) and JSON inside JSON
        (``"\"auto\""``).

        Raises
        ------
        ValueError
            When the text is no value of this kind.
        """
        plain = _unquote(text)
        if self.auto and plain.lower() in {"auto", "none", "null"}:
            return None
        return plain if plain in self.words else self.form.read(plain)

    def admits(self, value: Any) -> bool:
        """Whether a value is within the limits and among the choices, with everything that is in it."""
        if value is None or value in self.words:
            return True
        parts = [*_parts(value)]
        return all(map(self._admits, parts)) and (bool(parts) or self.kind != list[str])

    def _admits(self, part: Any) -> bool:
        if self.choices:
            return part in self.choices
        return not (
            (self.ge is not None and part < self.ge)
            or (self.gt is not None and part <= self.gt)
            or (self.le is not None and part > self.le)
            or (self.lt is not None and part >= self.lt)
        )


def _parts(value: Any) -> Iterator[Any]:
    """A value, or all that is in it."""
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item)
    else:
        yield value


def short(text: str) -> str:
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


def hp(
    *,
    default: Any = MISSING,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    choices: tuple[str | int, ...] = (),
    tunable: bool = False,
    doc: str,
    words: tuple[str, ...] = (),
    name: str | None = None,
    unset: str | None = None,
    aliases: tuple[str, ...] = (),
) -> Any:
    """Declare a hyperparameter of a `HyperParameters` class.

    `name` is given where Python can't spell the real one, `unset` where a library has the default: the value is None,
    or empty, where it is not given, and the words for None are no values.
    """
    rules = {
        "ge": ge,
        "gt": gt,
        "le": le,
        "lt": lt,
        "choices": choices,
        "tunable": tunable,
        "doc": f"{doc[:-1]}; also {', '.join(aliases)}." if aliases else doc,
        "words": words,
        "name": name,
        "unset": unset,
        "aliases": aliases,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"hp": rules})
    return field(default=default, metadata={"hp": rules})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(hp,))
class HyperParameters:
    """Base of an algorithm's hyperparameters.

    A subclass annotates each with its type (``int``, ``float``, ``bool``, ``str``, ``list[str]``, or one of them
    ``| None`` where ``auto`` is allowed) and declares its rules with `hp`. An algorithm whose container at AWS has
    other types, or says otherwise what is wrong, overrides `forms` and the texts.

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

    forms: ClassVar[Mapping[Any, Form]] = {
        bool: Form("true or false", _parse_bool),
        int: Form("an integer", _parse_int),
        float: Form("a number", _parse_float),
        str: Form("a word", str),
        list[str]: Form("a JSON list", _parse_list),
    }
    """How values of each type are written."""

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    @classmethod
    def specs(cls) -> tuple[Spec, ...]:
        """The declarations, in order."""
        hints = get_type_hints(cls)
        found = []
        for item in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
            kind, optional = _kind_of(hints[item.name])
            rules = dict(item.metadata["hp"])
            rules["name"] = rules["name"] or item.name
            rules["auto"] = optional and rules["unset"] is None
            default = item.default if item.default_factory is MISSING else item.default_factory()
            found.append(Spec(attribute=item.name, kind=kind, form=cls.forms[kind], default=default, **rules))
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
        names = {alias: spec.name for spec in specs.values() for alias in spec.aliases}
        given = {names.get(name, name): text for name, text in given.items()}
        for name in given:
            if name not in specs and not name.startswith(("_", "sagemaker_")) and name not in cls.hidden:
                raise HyperParameterError(cls._unknown(name, _remedy(name, (*specs, *names))))
        missing = [spec for spec in specs.values() if spec.required and spec.name not in given]
        if missing:
            remedy = " and ".join(f"{spec.name!r} to {spec.allowed}" for spec in missing)
            raise HyperParameterError(f"{missing[0].name!r} is a required property: set {remedy}")
        found = [spec for spec in specs.values() if spec.name in given]
        values = {spec.attribute: cls._read(spec, given[spec.name]) for spec in found}
        for spec in found:
            cls._check(spec, values[spec.attribute], given[spec.name])
        return cls(**values)

    @classmethod
    def _read(cls, spec: Spec, text: str) -> Any:
        try:
            return spec.read(text)
        except (ValueError, RecursionError) as error:
            raise HyperParameterError(cls._unreadable(spec, text)) from error

    @classmethod
    def _check(cls, spec: Spec, value: Any, text: str) -> None:
        """Refuse a value that is not allowed."""
        if not spec.admits(value):
            raise HyperParameterError(cls._outside(spec, value, text))

    @classmethod
    def _unknown(cls, name: str, remedy: str) -> str:
        """What is said of a name that is none of ours."""
        return f"Additional properties are not allowed ({short(name)} was unexpected): {remedy}"

    @classmethod
    def _unreadable(cls, spec: Spec, text: str) -> str:
        """What is said of a text that is no value."""
        return (
            f"{short(text)} is not valid under any of the given schemas: "
            f"hyperparameter {spec.name!r} must be {spec.allowed}"
        )

    @classmethod
    def _outside(cls, spec: Spec, value: Any, text: str) -> str:  # noqa: ARG003  # for those who tell the value
        """What is said of a value that is not allowed."""
        return cls._unreadable(spec, text)

    @classmethod
    def create_algorithm_json(cls) -> list[dict[str, Any]]:
        """The SupportedHyperParameters of a CreateAlgorithm request."""
        return [_supported(spec) for spec in cls.specs()]


def _kind_of(hint: Any) -> tuple[Any, bool]:
    """Type and whether it may be None, of an annotation such as ``int | None``."""
    if get_origin(hint) not in (types.UnionType, typing.Union):
        return hint, False
    kinds = [arg for arg in get_args(hint) if arg is not type(None)]
    return kinds[0], len(kinds) < len(get_args(hint))


def _remedy(name: str, names: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(names)


def _supported(spec: Spec) -> dict[str, Any]:
    kinds = {bool: "Categorical", int: "Integer", float: "Continuous"}
    kind = kinds.get(spec.kind, "Categorical" if spec.kind is str and spec.choices else "FreeText")
    entry: dict[str, Any] = {
        "Name": spec.name,
        "Description": spec.doc,
        "Type": kind,
        "IsTunable": spec.tunable,
        "IsRequired": spec.required,
    }
    if not spec.required and spec.unset is None:
        entry["DefaultValue"] = default_text(spec)
    low, high = (next((x for x in pair if x is not None), None) for pair in ((spec.ge, spec.gt), (spec.le, spec.lt)))
    if spec.auto or spec.words:
        entry["Type"] = "FreeText"  # the API has no type for "a number or the word auto"
    elif spec.kind in (int, float) and low is not None and high is not None:
        name = f"{kind}ParameterRangeSpecification"
        entry["Range"] = {name: {"MinValue": _plain(low), "MaxValue": _plain(high)}}
    elif entry["Type"] == "Categorical":
        values = list(spec.choices) or ["true", "false"]
        entry["Range"] = {"CategoricalParameterRangeSpecification": {"Values": values}}
    return entry


def default_text(spec: Spec) -> str:
    """The default as a user would type it, or in words where a library has it."""
    if spec.unset is not None:
        return spec.unset
    if spec.default is None:
        return "auto"
    if spec.kind is float:
        return f"{spec.default:g}"
    return spec.default if isinstance(spec.default, str) else json.dumps(spec.default)
