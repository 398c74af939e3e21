"""A pickled Booster, read without running any of the pickle.

Amazon's images up to XGBoost 1.2 left ``pickle.dump(booster)``. A pickle is a program for a stack machine that may call
anything there is. Here `pickletools` takes it apart, and only those of its instructions are followed that build plain
values. Of the names that it can ask for, the few that belong to a Booster are known; none is ever looked up or called.

References
----------
.. [1] The standard library's ``pickletools``, which describes every instruction; PEP 307, PEP 3154 and PEP 574.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import ArtifactError

__all__ = ["is_pickle", "read_booster"]

_NAME: Final = rb"c[\w.]+\n[\w.]+\n"
_START: Final = re.compile(rb"(?:\x80[\x02-\x05])?\(?" + _NAME + rb"|\x80[\x04\x05][\x95\x8c]")
_MOST_STEPS: Final = 1 << 20  # the name of a feature takes two or three

_LITERALS: Final = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LATIN: Final = ("latin-1", "latin1")


@dataclass(frozen=True, slots=True)
class _Name:
    """Something outside of the pickle that it asks for."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class _Object:
    """A Booster: its state and nothing else."""

    state: dict[str, Any] = field(default_factory=dict)


_BOOSTER: Final = _Name("xgboost.core", "Booster")
_OBJECTS: Final = (_Name("builtins", "object"), _Name("__builtin__", "object"))
_RECONSTRUCTORS: Final = (_Name("copyreg", "_reconstructor"), _Name("copy_reg", "_reconstructor"))
_TO_BYTES: Final = (
    *(_Name(module, name) for module in ("builtins", "__builtin__") for name in ("bytes", "bytearray")),
    _Name("_codecs", "encode"),
)
_KNOWN: Final = frozenset((_BOOSTER, *_OBJECTS, *_RECONSTRUCTORS, *_TO_BYTES))
_MARK: Final = object()


def is_pickle(data: bytes) -> bool:
    r"""Whether the bytes begin as the pickle of an object does, which no model in another format does.

    Examples
    --------
    >>> is_pickle(b"\x80\x03cxgboost.core\nBooster\n"), is_pickle(b'{"learner"')
    (True, False)
    """
    return _START.match(data) is not None


def read_booster(data: bytes) -> Mapping[str, Any]:
    r"""What a pickled ``xgboost.core.Booster`` held, by name: numbers, texts, bytes and lists of them.

    Parameters
    ----------
    data
        The pickle, of any protocol, by Python 2 or 3. What follows its end is not looked at.

    Returns
    -------
    Mapping[str, Any]
        ``handle`` is the model, ``feature_names``, ``best_iteration`` and others are there when they were set. What is
        nested deeper than a list is left out.

    Raises
    ------
    ArtifactError
        When the pickle asks for anything but a Booster, is cut or damaged, or is far too long.

    Examples
    --------
    >>> read_booster(b"\x80\x03cxgboost.core\nBooster\n)\x81}X\x04\0\0\0sizeK\x07sb.")
    {'size': 7}
    >>> read_booster(b"cos\nsystem\n(S'true'\ntR.")
    Traceback (most recent call last):
    clary.errors.ArtifactError: the pickle asks for os.system: only a Booster is read
    """
    machine = _Machine(len(data))
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count == _MOST_STEPS:
                raise ArtifactError(f"the pickle has more than {_MOST_STEPS} instructions")
            machine.step(opcode.name, argument)
        result = machine.pop(_Object)
    except (ValueError, IndexError, KeyError) as error:
        raise ArtifactError(f"the pickle is cut or damaged: {error!s:.200}") from error
    return {name: value for name, value in result.state.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    """Whether a value is no container, or a list of such: neither deep nor within itself."""
    items = value if isinstance(value, (list, tuple)) else [value]
    return not any(isinstance(item, (list, tuple, dict, _Object, _Name)) for item in items)


class _Machine:
    """The stack and the memo of a pickle.

    Parameters
    ----------
    size
        Bytes of the pickle; the texts in it that stand for bytes have no more.
    """

    def __init__(self, size: int) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = size

    def step(self, instruction: str, argument: Any) -> None:
        """Follow one instruction; those that could do more than build values have no line here."""
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case literal if literal in _LITERALS:
                self.stack.append(argument)
            case constant if constant in _CONSTANTS:
                self.stack.append(_CONSTANTS[constant])
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_DICT":
                self.stack.append({})
            case "MARK":
                self.stack.append(_MARK)
            case "POP":
                self.stack.pop()
            case "POP_MARK":
                self.since_mark()
            case "DUP":
                self.stack.append(self.top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "GET" | "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "LIST":
                self.stack.append(self.since_mark())
            case "TUPLE":
                self.stack.append(tuple(self.since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self.stack.append(tuple([self.pop() for _ in range(_TUPLES[instruction])][::-1]))
            case "APPEND":
                self.extend([self.pop()])
            case "APPENDS":
                self.extend(self.since_mark())
            case "DICT":
                self.update({}, self.since_mark())
            case "SETITEM":
                value, key = self.pop(), self.pop()
                self.update(self.pop(dict), [key, value])
            case "SETITEMS":
                items = self.since_mark()
                self.update(self.pop(dict), items)
            case "GLOBAL":
                self.ask(_Name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self.pop(str), self.pop(str)
                self.ask(_Name(module, name))
            case "REDUCE":
                arguments, called = self.pop(tuple), self.pop(_Name)
                self.call(called, arguments)
            case "NEWOBJ":
                arguments, made = self.pop(tuple), self.pop(_Name)
                self.new(made, arguments)
            case "BUILD":
                state = self.pop(dict)
                self.top(_Object).state = state
            case _:
                raise ArtifactError(f"the pickle has the instruction {instruction}: only a Booster is read")

    def pop(self, kind: type[Any] = object) -> Any:
        """Take the value on top, which has to be of a kind."""
        self.top(kind)
        return self.stack.pop()

    def top(self, kind: type[Any] = object) -> Any:
        """The value on top, which has to be of a kind."""
        value = self.stack[-1]
        if value is _MARK or not isinstance(value, kind):
            raise ValueError(f"a {'mark' if value is _MARK else type(value).__name__} is where it cannot be")
        return value

    def since_mark(self) -> list[Any]:
        """Take all values above the last mark, and the mark."""
        items = []
        while self.stack[-1] is not _MARK:
            items.append(self.stack.pop())
        self.stack.pop()
        return items[::-1]

    def extend(self, items: list[Any]) -> None:
        """Lengthen the list on top."""
        self.top(list).extend(items)

    def update(self, target: dict[str, Any], items: Sequence[Any]) -> None:
        """Set keys and values of a dictionary, and put it on top; texts alone are keys: a tuple may take for ever."""
        keys, values = items[::2], items[1::2]
        if len(keys) != len(values) or not all(isinstance(key, str) for key in keys):
            raise ValueError("a dictionary has a key that is no text")
        target.update(zip(keys, values, strict=True))
        self.stack.append(target)

    def ask(self, name: _Name) -> None:
        """Something from outside: refused when no Booster needs it, never looked up otherwise."""
        if name not in _KNOWN:
            raise ArtifactError(f"the pickle asks for {name!s:.100}: only a Booster is read")
        self.stack.append(name)

    def call(self, name: _Name, arguments: tuple[Any, ...]) -> None:
        """The result of a call that a Booster needs."""
        if name in _TO_BYTES:
            self.stack.append(self.as_bytes(arguments))
        elif name in _RECONSTRUCTORS and arguments[0] == _BOOSTER and arguments[1] in _OBJECTS:
            self.stack.append(_Object())
        else:
            raise ArtifactError(f"the pickle calls {name} as no Booster needs it")

    def new(self, name: _Name, arguments: tuple[Any, ...]) -> None:
        """A new Booster."""
        if name != _BOOSTER or arguments:
            raise ArtifactError(f"the pickle makes a new {name}: only a Booster is read")
        self.stack.append(_Object())

    def as_bytes(self, arguments: tuple[Any, ...]) -> bytes | bytearray:
        """Bytes: none, as they are, or of the text that stands for them in older protocols."""
        match arguments:
            case ():
                return b""
            case (bytes() | bytearray() as value,):
                return value
            case (str() as text, str() as encoding) if encoding in _LATIN:
                self.left -= len(text)
                if self.left < 0:
                    raise ValueError("a text is decoded again and again")
                return text.encode("latin-1")
        raise ValueError("bytes are made of what is neither bytes nor text")
