"""Any Python object -> plain JSON types, within bounds of size and time. The one guard around a stranger's objects.

Content is hostile. An object may hold itself, change while it is read, raise at every question or never answer. `plain_of` looks
at the real type first, which runs no code of the object. What must run (a `__repr__`, a `model_dump`, a property) runs under
`_Walk.ask`, which catches what the code raises and waits `SECONDS` at most (see `guard`). Ctrl-C passes through. What is left out
stands in the stored form with the tag `omitted` and the reason.
"""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import islice
from time import perf_counter
from types import MemberDescriptorType
from typing import Any

import msgspec
import orjson

from . import guard
from .bounds import BYTES, DEPTH, LITTLE, has_null, is_finite, is_small
from .guard import Refused
from .prefix import Prefix
from .types import TAG

OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS

#: Bounds of one value, beside those of `bounds`.
NODES = 200_000  # lists, dicts and objects
REPR = 100_000  # characters
SECONDS = 2.0  # for all the code of strangers in one value

_LISTED = 32  # bytes that a number of an array takes in a list, and about as many as it takes in JSON
_BIG_INT = 2000  # bits; Python refuses to print an int of more than 4300 digits, or of 640 where a program says so


def tagged(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    """The stored form of what JSON can't hold."""
    return {TAG: kind, **more, "value": value}


def plain_of(value: Any) -> Any:
    """The value made of plain JSON types, and of `msgspec.Raw` where a part is JSON already. Raises no Exception."""
    try:
        return guard.with_room(lambda: _Walk().of(value, 0))
    except RecursionError:
        return _omitted(type(value), "no room is left on the stack of calls")


def one_level(value: Any) -> Any:
    """An object as the dict or list that it stands for, whose own values are not looked at; other values as `plain_of`."""
    walk = _Walk()
    try:
        kind = type(value)
        found = walk.parts(value, kind)
        if found is _NOTHING:
            real = walk.claimed(value, kind)
            found = _NOTHING if real is kind else walk.parts(value, real)
        if found is not _NOTHING:
            return found
    except (Refused, RecursionError):
        pass
    found = plain_of(value)
    return msgspec.json.decode(found) if type(found) is msgspec.Raw else found


def foreign(value: Any, where: str = "", depth: int = 0) -> tuple[str, str] | None:
    """The first part of a value that is no JSON and stands for none: its path, and what is wrong with it."""
    kind = type(value)
    if kind is str:
        return None if value.isascii() or _is_text(value) else (where, "has half a surrogate pair")
    if kind is float:
        return None if math.isfinite(value) else (where, f"is {value}")
    if kind is int:
        return None if value.bit_length() <= _BIG_INT else (where, f"is a number of {value.bit_length():,} bits")
    if value is None or kind is bool or kind is msgspec.Raw or kind is orjson.Fragment:
        return None
    if depth > DEPTH:
        return where, f"is nested deeper than {DEPTH} levels"
    if kind is dict:
        for key, inner in value.items():
            if not issubclass(type(key), str):
                return where, f"has a key of type {_short(type(key))}"
            key = str.__str__(key)
            found = foreign(key, where, depth) or foreign(inner, f"{where}.{key}" if where else key, depth + 1)
            if found is not None:
                return found
        return None
    if kind is list or kind is tuple or kind is Prefix:
        each = (foreign(inner, f"{where}[{n}]", depth + 1) for n, inner in enumerate(value))
        return next((one for one in each if one is not None), None)
    plain = one_level(value)
    is_set = issubclass(kind, (set, frozenset))  # whose order is nobody's
    if is_set or (type(plain) is dict and TAG in plain) or type(plain) is kind:
        return where, f"is of type {_short(kind)}"
    return foreign(plain, where, depth + 1)


def _short(kind: type) -> str:
    return type_name(kind).removeprefix("builtins.")


_CONTAINERS = (dict, list, tuple)
_NOTHING = object()
_mro = type.__dict__["__mro__"].__get__
_dict = type.__dict__["__dict__"].__get__
_module = type.__dict__["__module__"].__get__


def on_type(kind: type, name: str) -> Any:
    """What a type itself has by a name: asked without any code of the type, of its metaclass or of an instance."""
    for base in _mro(kind):
        found = _dict(base).get(name, _NOTHING)
        if found is not _NOTHING:
            return found
    return None


def type_name(kind: type) -> str:
    """Module and name of a type, whatever its metaclass makes of them."""
    try:
        module, name = _module(kind), type.__dict__["__qualname__"].__get__(kind)
        return f"{module if type(module) is str else '?'}.{name}".encode("utf-8", "backslashreplace").decode()
    except Exception:
        return "an unknown type"


def answer_of(question: Callable[[], Any], kind: type) -> Any:
    """What code of a type answers. Raises Refused where it raises, or gives no answer within `SECONDS`."""
    return _Walk().ask(question, kind, type_name(kind).split(".")[0] in _TRUSTED)


def message_of(error: BaseException) -> str:
    """The text of an exception; an exception's own `__str__` may do anything."""
    walk = _Walk()
    try:
        text = walk.ask(lambda: str(error), type(error), trusted=on_type(type(error), "__str__") in _TEXTS)
        return str.__str__(text)[:REPR]
    except Refused as refused:
        return f"<no message: {refused}>"


def _omitted(kind: type, why: str) -> dict[str, Any]:
    return tagged("omitted", why, type=type_name(kind))


class _Walk:
    """One value being looked at: what was met, and what is left of each bound."""

    __slots__ = ("known", "nodes", "room", "until")

    def __init__(self) -> None:
        #: By id: the object, what was found of it (_NOTHING: the walk is inside of it), and what that cost.
        self.known: dict[int, tuple[Any, Any, int, int]] = {}
        self.nodes = NODES
        self.room = BYTES
        self.until: float | None = None

    # --- plain values -------------------------------------------------------------------------------------------------

    def of(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self.text(value)
        if kind is float:
            self.room -= LITTLE
            return value if math.isfinite(value) else tagged("float", str(value))
        if kind is int:
            self.room -= LITTLE
            return value if value.bit_length() <= _BIG_INT else tagged("int", hex(value))
        if kind is orjson.Fragment:
            return msgspec.Raw(orjson.dumps(value))
        if kind is msgspec.Raw:
            return value
        known = self.known.get(id(value))
        if known is not None:
            return self.again(kind, *known)
        if depth >= DEPTH:
            return _omitted(kind, f"nested deeper than {DEPTH} levels")
        self.nodes -= 1
        if self.nodes < 0 or self.room < 0:
            return _omitted(kind, self.full())
        before = self.nodes, self.room
        self.known[id(value)] = (value, _NOTHING, 0, 0)
        if kind is dict:
            found = self.mapping(value, depth)
        elif kind is list or kind is tuple or kind is Prefix:
            found = self.items(value[:], depth)
        elif issubclass(kind, (set, frozenset, deque)):
            found = self.collection(value, kind, depth)
        else:
            found = self.object(value, kind, depth)
        self.known[id(value)] = (value, found, before[0] - self.nodes, before[1] - self.room)
        return found

    def again(self, kind: type, value: Any, found: Any, nodes: int, room: int) -> Any:
        """What was found of an object that was met before. It is looked at once and written as often as it was met."""
        if found is _NOTHING:
            return _omitted(kind, "it holds itself")
        if nodes + 1 > self.nodes or room > self.room:  # what is left out costs nothing: what stands beside it is kept
            return _omitted(kind, self.full())
        self.nodes -= nodes + 1
        self.room -= room
        return found

    def full(self) -> str:
        return f"the value has more than {NODES:,} lists, dicts and objects, or {BYTES // 1_000_000} MB"

    def text(self, value: str) -> Any:
        self.room -= len(value)
        if self.room < 0:
            return _omitted(str, self.full())
        try:
            value.encode()
            return value
        except UnicodeEncodeError:
            return tagged("text", base64.b64encode(value.encode("utf-8", "surrogatepass")).decode())

    def mapping(self, value: dict[Any, Any], depth: int) -> Any:
        # a copy made at once, as another thread may change the dict meanwhile; a list of its items is not made at once: to make
        # each of them may run the garbage collector, and with it anybody's finalizers
        pairs = list(dict.copy(value).items())
        out: dict[str, Any] = {}
        for key, inner in pairs:
            name = key if type(key) is str else str.__str__(key) if issubclass(type(key), str) else None
            if name is None or not _is_text(name) or name in out:
                return tagged("mapping", [[self.of(k, depth + 2), self.of(v, depth + 2)] for k, v in pairs])
            self.room -= len(name)
            out[name] = self.of(inner, depth + 1)
        return out

    def items(self, values: Any, depth: int) -> list[Any]:
        out: list[Any] = []
        for index, inner in enumerate(values):
            if self.room < 0 or self.nodes < 0:
                out.append(_omitted(list, f"{len(values) - index:,} more items: {self.full()}"))
                break
            out.append(self.of(inner, depth + 1))
        return out

    def collection(self, value: Any, kind: type, depth: int) -> Any:
        """A deque as the list that it is. A set as a sorted list: the same set is the same text in every process."""
        base = next(b for b in (set, frozenset, deque) if issubclass(kind, b))
        try:
            held = self.ask(lambda: list(base.__iter__(value)), kind, trusted=True)
        except Refused as refused:
            return tagged("repr", f"<no repr: {refused}>", type=type_name(kind))
        if base is deque:
            return self.items(held, depth)
        return sorted(self.items(held, depth), key=_order) if len(held) <= REPR else _omitted(kind, f"{len(held):,} items")

    # --- objects ------------------------------------------------------------------------------------------------------

    def object(self, value: Any, kind: type, depth: int) -> Any:
        found = _NOTHING
        try:
            found = self.parts(value, kind)
            if found is _NOTHING:
                real = self.claimed(value, kind)
                found = _NOTHING if real is kind else self.parts(value, real)
        except Refused:
            pass
        try:
            if found is _NOTHING:
                found = self.said(value, kind)
        except Refused as refused:
            return tagged("repr", f"<no repr: {refused}>", type=type_name(kind))
        if type(found) is dict and TAG in found:
            self.room -= len(found["value"])
            return found
        if any(type(found) is one for one in _CONTAINERS):
            return self.written(found, depth)
        return self.of(found, depth + 1)

    def written(self, found: Any, depth: int) -> Any:
        """What an object stands for: at once where all of it is plain JSON."""
        try:
            if is_small(found):
                data = orjson.dumps(found, None, OPTIONS)
                if not has_null(data) or is_finite(found):
                    self.room -= len(data)
                    return msgspec.Raw(data)
        except Exception as error:
            if guard.of_a_signal(error):
                raise
        return self.of(found, depth + 1)

    def claimed(self, value: Any, kind: type) -> type:
        """The class that an object says it is of: a proxy's is that of what it stands for."""
        if on_type(kind, "__class__") is _OBJECT_CLASS and on_type(kind, "__getattribute__") is _OBJECT_GET:
            return kind
        real = self.ask(lambda: value.__class__, kind)
        return real if issubclass(type(real), type) else kind

    def parts(self, value: Any, kind: Any) -> Any:
        """The dict, list, text or number that an object of a type stands for; _NOTHING where it stands for none."""
        if issubclass(kind, enum.Enum):
            return self.ask(lambda: object.__getattribute__(value, "_value_"), kind, _reads_plainly(kind, ("_value_",)))
        if kind is type(value):  # methods of the builtin types themselves, so that a subclass's own don't run
            if issubclass(kind, str):
                return str.__str__(value)
            if issubclass(kind, int):
                return int.__int__(value)
            if issubclass(kind, float):
                return float.__float__(value)
            if issubclass(kind, dict):
                return self.held_in(value, kind)
            if issubclass(kind, list):
                return list.__getitem__(value, slice(None))
            if issubclass(kind, tuple):
                return tuple.__getitem__(value, slice(None))
            if issubclass(kind, (bytes, bytearray, memoryview)):
                return self.binary(value, kind)
        else:
            builtin = next((b for b in (str, int, float, dict, list, tuple) if issubclass(kind, b)), None)
            if builtin is not None:
                return self.ask(lambda: _held(value, builtin), type(value))
        if issubclass(kind, uuid.UUID):
            return self.ask(lambda: str(value), kind, kind is uuid.UUID)
        if issubclass(kind, type):
            return _NOTHING
        if issubclass(kind, msgspec.Struct):
            return self.read(value, kind, kind.__struct_fields__)
        if on_type(kind, "__dataclass_fields__") is not None:
            return self.read(value, kind, [f.name for f in dataclasses.fields(kind)])
        if on_type(kind, "model_dump") is not None:
            return self.model(value, kind)
        if on_type(kind, "__attrs_attrs__") is not None:
            return self.read(value, kind, [a.name for a in on_type(kind, "__attrs_attrs__")])
        if on_type(kind, "dtype") is not None:
            return self.array(value, kind)
        return _NOTHING

    def held_in(self, value: Any, kind: type) -> dict[Any, Any]:
        """The dict that an object of a subclass is. `dict.copy` asks its `keys` where it has an `__iter__` of its own."""
        if on_type(kind, "__iter__") is _DICT_ITER:
            return dict.copy(value)
        items = (OrderedDict if issubclass(kind, OrderedDict) else dict).items
        return dict(self.ask(lambda: list(items(value)), kind, trusted=kind is OrderedDict))

    def read(self, value: Any, kind: type, names: Sequence[str]) -> Any:
        """The attributes of an object."""
        plainly = _reads_plainly(type(value), names)
        return self.ask(lambda: {name: getattr(value, name) for name in names}, kind, plainly)

    def binary(self, value: Any, kind: type) -> Any:
        try:
            view = memoryview(value)
            if view.nbytes > self.room:
                return _omitted(kind, f"{view.nbytes:,} bytes: {self.full()}")
            return tagged("bytes", base64.b64encode(view).decode())
        except (ValueError, TypeError, BufferError) as error:  # a view that was released
            raise Refused(type(error).__name__) from None

    def model(self, value: Any, kind: type) -> Any:
        """A pydantic model. Of the SDKs' own models, what crossed the wire is what was set."""
        sdk = type_name(kind).split(".")[0] in ("openai", "anthropic")
        try:
            return self.ask(lambda: value.model_dump(mode="json", exclude_unset=sdk), kind, trusted=sdk)
        except Refused:  # it holds itself, or something that is no JSON
            fields = on_type(kind, "__pydantic_fields__")
            if type(fields) is not dict:
                return _NOTHING
            return self.read(value, kind, list(fields))

    def array(self, value: Any, kind: type) -> Any:
        """Arrays and columns of numpy, torch, jax, pandas and polars."""
        name = "tolist" if on_type(kind, "tolist") is not None else "to_list"
        if on_type(kind, name) is None:
            return _NOTHING
        trusted = type_name(kind).split(".")[0] in _TRUSTED
        size, shape = self.ask(lambda: (getattr(value, "nbytes", 0), getattr(value, "shape", None)), kind, trusted)
        size = size if type(size) is int else 0
        lengths = tuple.__getitem__(shape, slice(None)) if issubclass(type(shape), tuple) else ()
        numbers = math.prod(lengths) if lengths and all(type(n) is int for n in lengths) else 0
        if max(size, numbers * _LISTED) > self.room:
            return _omitted(kind, f"shape {str(lengths)[:100]}, {size:,} bytes: {self.full()}")
        try:
            found = self.ask(lambda: getattr(value, name)(), kind, trusted)
        except Refused:  # a tensor without data
            return _NOTHING
        self.room -= numbers * (_LISTED - LITTLE)
        return found

    def said(self, value: Any, kind: type) -> Any:
        """The repr of what stands for nothing in JSON; of times ISO's form, of decimals, paths and the like their usual text."""
        iso = on_type(kind, "isoformat") is not None and not issubclass(kind, type)
        usual = _module(kind) in _STDLIB
        trusted = usual or (not iso and on_type(kind, "__repr__") is _OBJECT_REPR)
        text = self.ask(lambda: value.isoformat() if iso else str(value) if usual else repr(value), kind, trusted)
        if not issubclass(type(text), str):
            raise Refused(f"{type_name(type(text))} in place of a text")
        text = str.__str__(text)
        if len(text) > REPR:
            text = text[:REPR] + f"... ({len(text)} characters)"
        return tagged("repr", text.encode("utf-8", "backslashreplace").decode(), type=type_name(kind))

    # --- the guard ----------------------------------------------------------------------------------------------------

    def ask(self, question: Callable[[], Any], kind: type, trusted: bool = False) -> Any:
        """What code of a stranger's type answers. Raises Refused where it raises, or where the time of this value is over."""
        if not trusted:
            now = perf_counter()
            if self.until is None:
                self.until = now + SECONDS
            elif now > self.until:
                raise Refused(f"the objects of this value took more than {SECONDS:g} s")
            answer, raised = guard.ask(question, kind, max(self.until - now, 0.01))
        else:
            answer, raised = None, None
            try:
                return question()
            except Exception as error:
                if guard.of_a_signal(error):
                    raise
                raised = error
        if raised is not None:
            raise Refused(type_name(type(raised)).removeprefix("builtins."))
        return answer


_OBJECT_CLASS = object.__dict__["__class__"]
_OBJECT_GET = object.__dict__["__getattribute__"]
_DICT_ITER = dict.__dict__["__iter__"]
_OBJECT_REPR = object.__dict__["__repr__"]
#: Packages whose own types run nobody's code.
_TRUSTED = ("numpy", "torch", "odograph")
_TEXTS = (BaseException.__dict__["__str__"], OSError.__dict__["__str__"])
#: Modules of Python's own whose texts run nobody's code, and say the value.
_STDLIB = ("datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "zoneinfo")


def _order(item: Any) -> tuple[int, float, bytes]:
    """Numbers by size, before all else by its JSON."""
    if type(item) is int or type(item) is float:
        return 0, item, b""
    return 1, 0, msgspec.json.encode(item)


def _held(value: Any, builtin: Any) -> Any:
    """The value of a builtin type that a proxy stands for. An iterator of C without an end can't be stopped: it is cut."""
    if builtin is dict:
        return {key: value[key] for key in islice(value.keys(), NODES)}
    return builtin(islice(value, NODES)) if builtin in (list, tuple) else builtin(value)


def _reads_plainly(kind: type, names: Sequence[str]) -> bool:
    """Whether reading these attributes runs nobody's code: no property, no `__getattr__`."""
    if on_type(kind, "__getattribute__") is not _OBJECT_GET or on_type(kind, "__getattr__") is not None:
        return False
    found = (type(on_type(kind, name)) for name in names)
    return all(of is MemberDescriptorType or on_type(of, "__get__") is None for of in found)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
